//! What an input refers to, and joining it on the axes that both sides have.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::rc::Rc;

use serde_json::Value;
use wildmatch::WildMatch;

use super::Expansion;
use super::axis::{self, Axes, AxisValue};
use crate::graph::{Need, StageId, Study, TaskId};
use crate::parse::{PipelineError, Place, suggest_or_list};

/// Tasks of one stage, selected.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub stage: StageId,
    pub tasks: Vec<TaskId>,
    /// The axes of its tasks, each list once. Most stages have one.
    shapes: Vec<Vec<String>>,
}

impl Upstream {
    /// The values of an axis, each once; none if no task has the axis.
    pub fn values<'a>(&self, axis: &str, axes: &'a [Axes]) -> Vec<&'a AxisValue> {
        let mut seen = BTreeSet::new();
        let of_task = |&task: &TaskId| axes[task].iter().find(|(name, _)| name == axis);
        let values = self.tasks.iter().filter_map(of_task).map(|(_, value)| &**value);
        values.filter(|value| seen.insert(value.normal.as_str())).collect()
    }
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

/// Reads `stage`, `stage[*]`, `stage[axis=glob,..]` or the name of a task, and selects tasks. The error has
/// no place yet.
pub(crate) fn select(text: &str, expansion: &Expansion) -> Result<Upstream, PipelineError> {
    let error = |message: String| PipelineError::new(Place::Nowhere, message);
    let text = text.trim();
    let (name, terms) = match text.split_once('[') {
        None => (text, None),
        Some((name, rest)) => match rest.strip_suffix(']') {
            Some(terms) => (name.trim_end(), Some(terms)),
            None => return Err(error(format!("`{text}` has no closing bracket"))),
        },
    };
    let Some(&stage) = expansion.ids.get(name) else {
        return Err(error(format!("no stage `{name}`")));
    };
    let own = expansion.stages[stage].tasks.clone();
    let is_called = |&task: &TaskId| {
        let task = &expansion.tasks[task];
        task.name == text || task.aliases.iter().any(|alias| alias == text)
    };
    let exact: Vec<TaskId> = own.clone().filter(is_called).collect();
    let selected: Vec<TaskId> = match terms {
        Some(terms) if exact.is_empty() => {
            let axes = |task: TaskId| {
                let axes = expansion.axes[task].iter();
                axes.map(|(a, v)| (a.as_str(), &v.value, Cow::from(&v.text))).collect()
            };
            Terms { name, text, terms, own: own.clone() }.choose(axes)?
        }
        Some(_) => exact,
        None => own.clone().collect(),
    };
    let shapes = shapes(selected.iter().map(|&t| &expansion.axes[t]));
    Ok(Upstream { stage, tasks: selected, shapes })
}

/// The tasks that `stage[axis=glob,..]` means to a command that was given it as a target; none if it means
/// none.
pub(crate) fn targets(study: &Study, target: &str) -> Vec<TaskId> {
    let target = target.trim();
    let Some((name, terms)) = target.split_once('[') else { return Vec::new() };
    let name = name.trim_end();
    let stage = study.stages.iter().find(|stage| stage.name == name);
    let (Some(terms), Some(stage)) = (terms.strip_suffix(']'), stage) else { return Vec::new() };
    let axes = |task: TaskId| {
        let axes = study.tasks[task].axes.iter();
        axes.map(|(axis, value)| (axis.as_str(), value, shown(value))).collect()
    };
    let terms = Terms { name, text: target, terms, own: stage.tasks.clone() };
    terms.choose(axes).unwrap_or_default()
}

/// What stands in the brackets of `stage[axis=glob,..]`, and the tasks that it chooses from.
struct Terms<'t> {
    name: &'t str,
    text: &'t str,
    terms: &'t str,
    own: Range<TaskId>,
}

/// An axis of a task, its value, and the value as it is written.
type Written<'v> = (&'v str, &'v Value, Cow<'v, str>);

impl Terms<'_> {
    fn choose<'v>(
        &self,
        axes: impl Fn(TaskId) -> Vec<Written<'v>>,
    ) -> Result<Vec<TaskId>, PipelineError> {
        let Self { name, text, terms, own } = self;
        let error = |message: String| PipelineError::new(Place::Nowhere, message);
        let axes: Vec<Vec<Written>> = own.clone().map(axes).collect();
        let names: BTreeSet<&str> = axes.iter().flatten().map(|(axis, ..)| *axis).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let no_axis = |axis: &str| {
            let help = suggest_or_list(axis, &names);
            error(format!("stage `{name}` has no axis `{axis}`")).help(help)
        };
        let mut wanted = Vec::new();
        for term in split(terms, &names) {
            let Some((axis, pattern)) = term.split_once('=') else {
                return Err(error(format!("`{term}` in `{text}` is not axis=value or *")));
            };
            let axis = axis.trim();
            if !names.contains(&axis) {
                return Err(no_axis(axis));
            }
            // A value that is written exactly like that comes before what a pattern matches.
            let is_value = axes.iter().flatten().any(|(a, _, text)| *a == axis && text == pattern);
            wanted.push((axis, pattern, is_value));
        }
        let fits = |axes: &[Written]| {
            wanted.iter().all(|&(axis, pattern, is_value)| {
                axes.iter().any(|(a, value, text)| {
                    let fits =
                        || if is_value { text == pattern } else { fits(value, text, pattern) };
                    *a == axis && fits()
                })
            })
        };
        let chosen = own.clone().zip(&axes).filter(|(_, axes)| fits(axes));
        let chosen: Vec<TaskId> = chosen.map(|(task, _)| task).collect();
        if !chosen.is_empty() || own.is_empty() {
            return Ok(chosen);
        }
        // A piece that was taken for the end of a value may be an axis with a typo.
        let pieces = terms.split(',').filter(|piece| !piece.contains(['[', ']']));
        let unknown = pieces.filter_map(|piece| piece.split_once('=')).map(|(axis, _)| axis.trim());
        match unknown.into_iter().find(|axis| !names.contains(axis)) {
            Some(axis) => Err(no_axis(axis)),
            None => Err(error(format!("`{text}` matches no task of stage `{name}`"))),
        }
    }
}

/// A value as it stands in a task's name, but for numbers that JSON would write otherwise.
fn shown(value: &Value) -> Cow<'_, str> {
    value.as_str().map_or_else(|| Cow::from(value.to_string()), Cow::from)
}

/// The terms between the brackets, without `*`. A comma ends a term if an axis and `=`, or `*`, come after it;
/// any other one is part of a value.
fn split<'t>(terms: &'t str, axes: &[&str]) -> Vec<&'t str> {
    let begins = |rest: &str| {
        let rest = rest.trim_start();
        let axis = rest.split_once('=').map(|(axis, _)| axis.trim_end());
        rest == "*" || rest.starts_with("*,") || axis.is_some_and(|axis| axes.contains(&axis))
    };
    let mut found = Vec::new();
    let mut start = 0;
    for (at, _) in terms.match_indices(',').filter(|(at, _)| begins(&terms[at + 1..])) {
        found.push(&terms[start..at]);
        start = at + 1;
    }
    found.push(&terms[start..]);
    found.retain(|term| !matches!(term.trim(), "*" | ""));
    found
}

/// Whether a value is what a pattern means: by its text, or as the same number in other words.
fn fits(value: &Value, text: &str, pattern: &str) -> bool {
    let trimmed = pattern.trim();
    WildMatch::new(pattern).matches(text)
        || WildMatch::new(trimmed).matches(text)
        || axis::is_number(value, trimmed)
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
        tasks: &[Axes],
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
                        let axes = &tasks[task];
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
    let value = |axis: &String| of.iter().find(|(a, _)| a == axis).map(|(_, v)| v.normal.as_str());
    axes.iter().filter_map(value).collect::<Vec<_>>().join("\n")
}

fn with(binding: &Binding, task: TaskId, input: &str, tasks: &[Axes]) -> Binding {
    let mut joined = binding.clone();
    for (axis, value) in &tasks[task] {
        if !joined.axes.iter().any(|(a, _)| a == axis) {
            joined.axes.push((axis.clone(), Rc::clone(value)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_ends_a_term_only_before_an_axis() {
        let split = |terms| split(terms, &["p", "lr"]);
        assert_eq!(split("p=a,lr=0.1"), ["p=a", "lr=0.1"]);
        assert_eq!(split("p=[64,64], lr = 0.1"), ["p=[64,64]", " lr = 0.1"]);
        assert_eq!(split("p=a,b,c"), ["p=a,b,c"]);
        assert_eq!(split("p=a,q=b"), ["p=a,q=b"]);
        assert_eq!(split("*,p=a,*"), ["p=a"]);
        assert!(split("*").is_empty() && split("").is_empty());
    }
}
