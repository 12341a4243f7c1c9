//! The combinations of a stage's own axes.

use serde_json::Value;

use super::Axes;
use crate::parse::{Data, Key, Node, PipelineError, StageEntry, Values};

/// The most combinations a stage may have: a guard against a typo that would fill the memory.
const MOST: usize = 1_000_000;

/// Every combination of every grid, in order; none, with errors, where an axis has no values. A list
/// that a parameter leaves empty switches its sweep off, as long as another one is left.
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
    if good && all.is_empty() {
        for (key, node) in entry.grids.iter().flatten().filter(|(_, node)| is_off(node, values)) {
            errors.push(empty(key, node));
            good = false;
        }
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
    if list.is_empty() && !node.refers() {
        errors.push(empty(key, node));
        return None;
    }
    Some((key.name.clone(), list))
}

fn empty(key: &Key, node: &Node) -> PipelineError {
    let message = format!("axis `{}` has no values: the matrix is empty", key.name);
    PipelineError::new(node.place.clone(), message)
}

/// Whether a parameter left an axis without values.
fn is_off(node: &Node, values: &Values) -> bool {
    let value = values.value(node, &mut Vec::new());
    matches!(value, Some(Value::Array(list)) if list.is_empty())
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
