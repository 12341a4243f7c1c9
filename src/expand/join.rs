//! What an input refers to, and joining it on the axes that both sides have.

use std::collections::HashMap;

use serde_json::Value;
use wildmatch::WildMatch;

use super::{Axes, shown};
use crate::graph::{Need, StageId, StageNode, Task, TaskId};
use crate::parse::{PipelineError, Place, suggest_or_list};

/// Tasks of one stage, selected.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub stage: StageId,
    pub tasks: Vec<TaskId>,
    /// The axes of its tasks, each list once. Most stages have one.
    shapes: Vec<Vec<String>>,
}

/// A task in the making: its axes and the inputs found so far.
#[derive(Debug, Clone)]
pub(crate) struct Binding {
    pub axes: Axes,
    pub needs: Vec<Need>,
}

impl Binding {
    pub fn of(own: &Axes) -> Self {
        Self { axes: own.clone(), needs: Vec::new() }
    }
}

/// Reads `stage` or `stage[axis=glob,..]` and selects tasks. The error has no place yet.
pub(crate) fn select(
    text: &str,
    ids: &HashMap<String, StageId>,
    stages: &[StageNode],
    tasks: &[Task],
) -> Result<Upstream, PipelineError> {
    let error = |message: String| PipelineError::new(Place::Nowhere, message);
    let (name, terms) = match text.split_once('[') {
        None => (text.trim(), Vec::new()),
        Some((name, rest)) => {
            let Some(inner) = rest.trim().strip_suffix(']') else {
                return Err(error(format!("`{text}` has no closing bracket")));
            };
            (name.trim(), inner.split(',').map(str::trim).collect())
        }
    };
    let Some(&stage) = ids.get(name) else {
        return Err(error(format!("no stage `{name}`")));
    };
    let own = stages[stage].tasks.clone();
    let mut wanted = Vec::new();
    for term in terms.into_iter().filter(|t| *t != "*" && !t.is_empty()) {
        let Some((axis, glob)) = term.split_once('=') else {
            return Err(error(format!("`{term}` in `{text}` is not axis=value or *")));
        };
        let mut axes: Vec<&str> =
            own.clone().flat_map(|t| tasks[t].axes.iter().map(|(a, _)| a.as_str())).collect();
        axes.sort_unstable();
        axes.dedup();
        let axis = axis.trim();
        if !axes.contains(&axis) {
            let help = suggest_or_list(axis, &axes);
            return Err(error(format!("stage `{name}` has no axis `{axis}`")).help(help));
        }
        wanted.push((axis, WildMatch::new(glob.trim())));
    }
    let matches = |task: &Task| {
        wanted.iter().all(|(axis, glob)| {
            task.axes.iter().any(|(a, value)| a == axis && glob.matches(&shown(value)))
        })
    };
    let selected: Vec<TaskId> = own.clone().filter(|&t| matches(&tasks[t])).collect();
    if selected.is_empty() && !own.is_empty() {
        return Err(error(format!("`{text}` matches no task of stage `{name}`")));
    }
    let shapes = shapes(selected.iter().map(|&t| &tasks[t].axes));
    Ok(Upstream { stage, tasks: selected, shapes })
}

fn shapes<'a>(tasks: impl Iterator<Item = &'a Axes>) -> Vec<Vec<String>> {
    let mut shapes: Vec<Vec<String>> = Vec::new();
    for axes in tasks {
        let names = || axes.iter().map(|(axis, _)| axis);
        if !shapes.iter().any(|shape| shape.iter().eq(names())) {
            shapes.push(names().cloned().collect());
        }
    }
    shapes
}

/// Upstream tasks by the values of the axes they share with what is joined.
type Index = HashMap<String, Vec<TaskId>>;

/// Indexes made so far: by input, by its place in a list, and by the shared axes.
#[derive(Default)]
pub(crate) struct Indexes<'a> {
    made: HashMap<(&'a str, usize, Vec<String>), Index>,
}

impl<'a> Indexes<'a> {
    /// Each binding with each upstream task that agrees on the axes both have. Tasks of one stage
    /// may differ in their axes, so they are joined shape by shape.
    pub fn join(
        &mut self,
        (input, slot): (&'a str, usize),
        bindings: Vec<Binding>,
        upstream: &Upstream,
        name: &str,
        tasks: &[Task],
    ) -> Vec<Binding> {
        let mut joined = Vec::new();
        for binding in bindings {
            let mut found: Vec<TaskId> = Vec::new();
            for shape in &upstream.shapes {
                let shared: Vec<String> = shape
                    .iter()
                    .filter(|a| binding.axes.iter().any(|(b, _)| b == *a))
                    .cloned()
                    .collect();
                // The shape is part of the index' name: two shapes may share the same axes.
                let mut of = shared.clone();
                of.push(String::new());
                of.extend(shape.iter().cloned());
                let index = self.made.entry((input, slot, of)).or_insert_with(|| {
                    let mut index = Index::new();
                    for &task in &upstream.tasks {
                        let axes = &tasks[task].axes;
                        if axes.iter().map(|(a, _)| a).eq(shape) {
                            index.entry(values(&shared, axes)).or_default().push(task);
                        }
                    }
                    index
                });
                found.extend(
                    index.get(&values(&shared, &binding.axes)).into_iter().flatten().copied(),
                );
            }
            found.sort_unstable();
            joined.extend(found.into_iter().map(|task| with(&binding, task, name, tasks)));
        }
        joined
    }
}

/// The values of some axes, as one key. Numbers are keyed by value: 1 and 1.0 are equal.
fn values(axes: &[String], of: &Axes) -> String {
    let value = |axis: &String| of.iter().find(|(a, _)| a == axis).map(|(_, v)| normal(v));
    axes.iter().filter_map(value).collect::<Vec<_>>().join("\n")
}

fn normal(value: &Value) -> String {
    match value.as_f64() {
        Some(number) => format!("{number:?}"),
        None => value.to_string(),
    }
}

fn with(binding: &Binding, task: TaskId, input: &str, tasks: &[Task]) -> Binding {
    let mut joined = binding.clone();
    for (axis, value) in &tasks[task].axes {
        if !joined.axes.iter().any(|(a, _)| a == axis) {
            joined.axes.push((axis.clone(), value.clone()));
        }
    }
    match joined.needs.iter_mut().find(|need| need.input == input) {
        Some(need) => need.tasks = need.tasks.iter().copied().chain([task]).collect(),
        None => joined.needs.push(Need {
            input: input.to_owned(),
            gathered: false,
            tasks: [task].into(),
        }),
    }
    joined
}
