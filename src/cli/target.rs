//! What TARGET means: a stage, a task, tasks by some of their axes as under `needs:`, or a glob of task names.

use std::collections::BTreeSet;

use wildmatch::WildMatch;

use super::{Failure, Result};
use crate::expand;
use crate::graph::{Study, TaskId};
use crate::parse::suggestion;

/// The tasks that the targets mean; all tasks where there are no targets.
pub(super) fn select(study: &Study, targets: &[String]) -> Result<BTreeSet<TaskId>> {
    if targets.is_empty() {
        return Ok((0..study.tasks.len()).collect());
    }
    let mut selected = BTreeSet::new();
    for target in targets {
        let found = matching(study, target);
        if found.is_empty() {
            let stages = study.stages.iter().map(|s| s.name.as_str());
            let tasks = study.tasks.iter().map(|t| t.name.as_str());
            let help = suggestion(target, stages.clone().chain(tasks)).unwrap_or_else(|| {
                format!(
                    "stages are {}; `dissim status` lists them",
                    stages.collect::<Vec<_>>().join(", ")
                )
            });
            return Err(Failure::Input(format!(
                "error: no stage or task `{target}`\n  help: {help}\n"
            )));
        }
        selected.extend(found);
    }
    Ok(selected)
}

/// The targets and all that they need.
pub(super) fn with_needs(study: &Study, targets: &BTreeSet<TaskId>) -> BTreeSet<TaskId> {
    let wanted = crate::execute::wanted(study, targets);
    (0..wanted.len()).filter(|&task| wanted[task]).collect()
}

fn matching(study: &Study, target: &str) -> Vec<TaskId> {
    if let Some(stage) = study.stages.iter().find(|s| s.name == target) {
        return stage.tasks.clone().collect();
    }
    let named = |pattern: &dyn Fn(&str) -> bool| {
        let hit = |t: &TaskId| {
            let task = &study.tasks[*t];
            pattern(&task.name) || task.aliases.iter().any(|a| pattern(a))
        };
        (0..study.tasks.len()).filter(hit).collect::<Vec<_>>()
    };
    let exact = named(&|name| name == target);
    if !exact.is_empty() {
        return exact;
    }
    let by_axes = expand::targets(study, target);
    if !by_axes.is_empty() || !target.contains(['*', '?']) {
        return by_axes;
    }
    let glob = WildMatch::new(target);
    named(&|name| glob.matches(name))
}
