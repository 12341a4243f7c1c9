//! The combinations of a stage's own axes.

use serde_json::Value;

use super::Axes;
use crate::parse::{Data, Key, Node, PipelineError, StageEntry, Values};

/// The most combinations a stage may have: a guard against a typo that would fill the memory.
const MOST: usize = 1_000_000;

/// Every combination of every grid, in order; none, with errors, where an axis has no values.
pub(crate) fn combinations(
    entry: &StageEntry,
    values: &Values,
    errors: &mut Vec<PipelineError>,
) -> Option<Vec<Axes>> {
    let mut all = Vec::new();
    let mut good = true;
    for grid in &entry.grids {
        let axes: Vec<_> = grid.iter().map(|(key, node)| axis(key, node, values, errors)).collect();
        let Some(axes) = axes.into_iter().collect::<Option<Vec<_>>>() else {
            good = false;
            continue;
        };
        let count = axes.iter().fold(1usize, |n, (_, v)| n.saturating_mul(v.len()));
        if count > MOST {
            let message =
                format!("stage `{}` would have {count} tasks; {MOST} is the most", entry.key.name);
            errors.push(PipelineError::new(entry.key.place.clone(), message));
            return None;
        }
        all.extend(product(&axes));
    }
    good.then_some(all)
}

/// An axis and its values; a single value is a list of one.
fn axis(
    key: &Key,
    node: &Node,
    values: &Values,
    errors: &mut Vec<PipelineError>,
) -> Option<(String, Vec<Value>)> {
    if matches!(node.data, Data::Map(_)) {
        let message = format!("axis `{}` must be a value or a list, and is a map", key.name);
        errors.push(PipelineError::new(node.place.clone(), message));
        return None;
    }
    let list = match values.value(node, errors)? {
        Value::Array(list) => list,
        one => vec![one],
    };
    if list.is_empty() {
        let message = format!("axis `{}` has no values: the matrix is empty", key.name);
        errors.push(PipelineError::new(node.place.clone(), message));
        return None;
    }
    Some((key.name.clone(), list))
}

/// All combinations, the last axis fastest.
fn product(axes: &[(String, Vec<Value>)]) -> Vec<Axes> {
    let mut all = vec![Vec::new()];
    for (name, values) in axes {
        let extend = |axes: Axes| {
            values.iter().map(move |value| {
                let mut axes = axes.clone();
                axes.push((name.clone(), value.clone()));
                axes
            })
        };
        all = all.into_iter().flat_map(extend).collect();
    }
    all
}
