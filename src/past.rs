//! What the store's records say of how long tasks take.

use std::collections::HashMap;

use crate::digest::Digest;
use crate::estimate::{self, Estimate, Sample, Scale, Work};
use crate::graph::{Study, Task};
use crate::plan::State;
use crate::store::{Record, Store};

/// The estimate of every task of the study, from the records of all stages of its name and kind.
///
/// # Errors
/// When the records cannot be listed.
pub fn estimates(study: &Study, store: &Store, states: &[State]) -> std::io::Result<Vec<Estimate>> {
    let records = store.records()?;
    let makers: HashMap<&Digest, &Record> = records.iter().map(|r| (&r.artifact, r)).collect();
    let by_key: HashMap<&Digest, &Record> = records.iter().map(|r| (&r.key, r)).collect();
    let sample = |record: &Record| Sample {
        work: work_of_record(record, &makers),
        seconds: record.duration_s,
    };
    let mut estimates = Vec::with_capacity(study.tasks.len());
    for stage in &study.stages {
        let of_stage = |record: &&Record| {
            record.description.kind == stage.stage.kind() && stage_of(&record.task) == stage.name
        };
        let past: Vec<Sample> = records.iter().filter(of_stage).map(sample).collect();
        let scale = Scale::fit(&past);
        for id in stage.tasks.clone() {
            let task = &study.tasks[id];
            let own = match &states[id] {
                State::Hit(record) => Some(sample(record)),
                _ => store.latest(&task.name).and_then(|k| by_key.get(&k).map(|r| sample(r))),
            };
            let work = work_of_task(study, task);
            estimates.push(estimate::estimate(&work, own.as_ref(), &past, &scale));
        }
    }
    Ok(estimates)
}

fn stage_of(task: &str) -> &str {
    task.split('[').next().unwrap_or(task)
}

/// A task's own parameters, and those of the tasks it needs one of, by the input's name. A seed says
/// nothing of time.
fn work_of_task(study: &Study, task: &Task) -> Work {
    let own = task.params.iter().map(|(name, value)| (name.clone(), value));
    let needs = task.needs.iter().filter(|need| need.tasks.len() == 1).flat_map(|need| {
        let params = &study.tasks[need.tasks[0]].params;
        params.iter().map(|(name, value)| (format!("{}.{name}", need.input), value))
    });
    Work::of(own.chain(needs).filter(|(name, _)| !is_seed(name)))
}

/// The same of a task that ran.
fn work_of_record(record: &Record, makers: &HashMap<&Digest, &Record>) -> Work {
    let own = record.description.params.iter().map(|(name, value)| (name.clone(), value));
    let single = record.description.inputs.iter().filter(|(_, list)| list.artifacts.len() == 1);
    let needs = single.flat_map(|(input, list)| {
        let maker = makers.get(&list.artifacts[0].artifact);
        maker.into_iter().flat_map(move |maker| {
            let params = maker.description.params.iter();
            params.map(move |(name, value)| (format!("{input}.{name}"), value))
        })
    });
    Work::of(own.chain(needs).filter(|(name, _)| !is_seed(name)))
}

fn is_seed(name: &str) -> bool {
    name.rsplit('.').next() == Some("seed")
}
