//! A study cut down to what its cache holds, so that a report can be made before all runs are done.
//!
//! A stage that gathers many inputs works with those that are there. Everything else is either a hit
//! or missing: nothing is trained.

use std::collections::{BTreeMap, BTreeSet};

use dissim_api::{Arity, Input};

use crate::graph::{Need, Study, TaskId};
use crate::plan::State;

/// A study whose gathering stages need only what is there.
#[derive(Clone)]
pub struct Partial {
    /// The study; its tasks are those of the whole one, in the same places.
    pub study: Study,
    /// The published tasks.
    pub targets: BTreeSet<TaskId>,
    /// Stages that are not whole: how many of their tasks are there, of how many.
    pub missing: BTreeMap<String, (usize, usize)>,
}

/// Why there is nothing to report: in words, with what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Nothing {
    /// No stage publishes anything.
    #[error("the pipeline has no stage of kind `report`")]
    NoReport,
    /// What a report needs is missing.
    #[error("nothing to report yet: no task of {0} is in the cache")]
    NoRuns(String),
}

/// Cuts the study down.
///
/// # Errors
/// When no published stage can be made of what is there.
pub fn of(study: &Study, states: &[State]) -> Result<Partial, Nothing> {
    let mut cut = study.clone();
    let mut there = vec![false; study.tasks.len()];
    for task in 0..study.tasks.len() {
        there[task] = matches!(states[task], State::Hit(_)) || {
            let stage = study.stage_of(task);
            let inputs = stage.stage.inputs();
            let gathers =
                stage.stage.traits().published || inputs.iter().any(|i| i.arity == Arity::Many);
            let needs = gathers.then(|| gathered(&study.tasks[task].needs, inputs, &there));
            match needs.flatten() {
                Some(needs) => {
                    cut.tasks[task].needs = needs;
                    true
                }
                None => false,
            }
        };
    }
    let published = study.stages.iter().filter(|s| s.stage.traits().published);
    let all: Vec<TaskId> = published.flat_map(|s| s.tasks.clone()).collect();
    let targets: BTreeSet<TaskId> = all.iter().copied().filter(|&t| there[t]).collect();
    let missing = study
        .stages
        .iter()
        .map(|s| {
            (s.name.clone(), (there[s.tasks.clone()].iter().filter(|t| **t).count(), s.tasks.len()))
        })
        .filter(|(_, (have, of))| have < of)
        .collect::<BTreeMap<_, _>>();
    match targets.is_empty() {
        _ if all.is_empty() => Err(Nothing::NoReport),
        true => Err(Nothing::NoRuns(first_gap(study, &all, &there))),
        false => Ok(Partial { study: cut, targets, missing }),
    }
}

/// What is there of each input; none where a needed one is not.
fn gathered(needs: &[Need], inputs: &[Input], there: &[bool]) -> Option<Vec<Need>> {
    let mut found = Vec::new();
    for need in needs {
        let input = inputs.iter().find(|i| i.name == need.input)?;
        let tasks: Vec<TaskId> = need.tasks.iter().copied().filter(|&t| there[t]).collect();
        let whole = tasks.len() == need.tasks.len();
        if (input.arity == Arity::One && !whole) || (input.required && tasks.is_empty()) {
            return None;
        }
        let tasks = if whole { need.tasks.clone() } else { tasks.into() };
        found.push(Need { input: need.input.clone(), gathered: need.gathered, tasks });
    }
    Some(found)
}

/// The stage nearest to the published ones of which nothing is there though it does not gather.
fn first_gap(study: &Study, published: &[TaskId], there: &[bool]) -> String {
    let mut line = published.to_vec();
    while let Some(task) = line.pop() {
        let gathers = study.stage_of(task).stage.inputs().iter().any(|i| i.arity == Arity::Many);
        if !there[task] && !gathers {
            return format!("`{}`", study.stage_of(task).name);
        }
        let inputs = study.stage_of(task).stage.inputs();
        let required = |n: &&Need| inputs.iter().any(|i| i.name == n.input && i.required);
        let needs = study.tasks[task].needs.iter().filter(required);
        line.extend(needs.filter_map(|n| n.tasks.first()));
    }
    "what the report needs".to_owned()
}
