//! The combinations of a stage's own axes.

use std::collections::HashMap;
use std::rc::Rc;

use super::axis::{Axes, AxisValue};
use crate::parse::{Data, Key, Node, PipelineError, StageEntry, Values};

/// The most combinations a stage may have: a guard against a typo that would fill the memory.
const MOST: usize = 1_000_000;

/// Every combination of every grid, in order; `None`, with errors, if an axis has no values. A list
/// that a parameter leaves empty switches its sweep off, as long as another one is left.
pub(crate) fn combinations(
    entry: &StageEntry,
    values: &Values,
    errors: &mut Vec<PipelineError>,
) -> Option<Vec<Axes>> {
    let mut all = Vec::new();
    let mut good = true;
    let mut seen = Seen::default();
    for grid in &entry.grids {
        let axes: Vec<_> = grid.iter().map(|(key, node)| axis(key, node, values, errors)).collect();
        let Some(axes) = axes.into_iter().collect::<Option<Vec<_>>>() else {
            good = false;
            continue;
        };
        for (name, axis) in &axes {
            good &= seen.check(name, axis, values, errors);
        }
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
) -> Option<(String, Vec<Rc<AxisValue>>)> {
    let name = &key.name;
    let filled = values.filled(node, errors)?;
    let place = filled.place.clone();
    let error = match &filled.data {
        Data::Map(_) => {
            let message = format!("axis `{name}` must be a value or a list, and is a map");
            PipelineError::new(place, message)
        }
        Data::Null => PipelineError::new(place, format!("axis `{name}` has no value"))
            .help(format!("write `{name}: [null]` for an axis whose only value is null")),
        Data::List(items) if items.is_empty() && !node.refers() => empty(key, node),
        Data::List(items) => match items.iter().find(|item| item.is_left_out()) {
            Some(item) => {
                let message = format!("a value of axis `{name}` was left out");
                PipelineError::new(item.place.clone(), message).help("write `null` if that is it")
            }
            None => {
                let parameter = filled.parameter.as_ref();
                let value = |item: &Node| Rc::new(AxisValue::new(item.clone(), parameter));
                return Some((name.clone(), items.iter().map(value).collect()));
            }
        },
        _ => return Some((name.clone(), vec![Rc::new(AxisValue::new(filled, None))])),
    };
    if values.is_first_error(filled.parameter.as_deref()) {
        errors.push(error);
    }
    None
}

fn empty(key: &Key, node: &Node) -> PipelineError {
    let message = format!("axis `{}` has no values: the matrix is empty", key.name);
    PipelineError::new(node.place.clone(), message)
}

/// Whether a parameter left an axis without values.
fn is_off(node: &Node, values: &Values) -> bool {
    let filled = values.filled(node, &mut Vec::new());
    filled.is_some_and(|node| matches!(node.data, Data::List(items) if items.is_empty()))
}

/// The values of a stage's axes so far, by what they are and not by how they are written.
#[derive(Default)]
struct Seen(HashMap<(String, String), Rc<AxisValue>>);

impl Seen {
    /// Two values that are equal and written differently are two tasks or one, depending on who reads them.
    fn check(
        &mut self,
        axis: &str,
        axis_values: &[Rc<AxisValue>],
        values: &Values,
        errors: &mut Vec<PipelineError>,
    ) -> bool {
        let mut good = true;
        for value in axis_values {
            let key = (axis.to_owned(), value.normal.clone());
            let first = self.0.entry(key).or_insert_with(|| Rc::clone(value));
            if first.text == value.text {
                continue;
            }
            good = false;
            if values.is_first_error(value.node.parameter.as_deref()) {
                let (one, other) = (&first.text, &value.text);
                let message = format!(
                    "`{one}` and `{other}` on axis `{axis}` are one value, written differently"
                );
                let help = format!(
                    "write them the same way, or in quotes if they are text: \"{one}\", \"{other}\""
                );
                errors.push(PipelineError::new(value.node.place.clone(), message).help(help));
            }
        }
        good
    }
}

/// All combinations, the last axis fastest.
fn product(axes: &[(String, Vec<Rc<AxisValue>>)]) -> Vec<Axes> {
    let mut all = vec![Vec::new()];
    for (name, values) in axes {
        let extend = |axes: Axes| {
            values.iter().map(move |value| {
                let mut axes = axes.clone();
                axes.push((name.clone(), Rc::clone(value)));
                axes
            })
        };
        all = all.into_iter().flat_map(extend).collect();
    }
    all
}
