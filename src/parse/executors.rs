//! `executors:` of pipeline.yaml.

use serde_json::Value;

use super::errors::{PipelineError, suggest_or_list};
use super::policy;
use super::values::Values;
use super::yaml::{Data, Key, Node};
use crate::execute::SlurmSettings;

/// The keys of `slurm`: name, meaning, whether it is required.
pub(crate) const KEYS: &[(&str, &str, bool)] = &[
    ("partition", "The partition; the cluster's default where it is left out.", false),
    ("account", "The account that is charged.", false),
    ("time", "The time limit of a job whose stage has no `timeout`: `2h`.", false),
    ("cpus", "Cores of a task whose stage's `resources` do not ask for more; 1 by default.", false),
    ("memory", "Memory of a task whose stage's `resources` do not say: `4GB`.", false),
    ("gres", "Generic resources, such as `gpu:1`.", false),
    ("modules", "Environment modules that are loaded before a task.", false),
    ("extra", "Further arguments for sbatch, such as `[\"--nice=100\"]`.", false),
    ("array", "The most tasks in one job array; 1000 by default.", false),
    ("at_once", "The most cores that are asked for at once; 1000 by default.", false),
    ("poll", "How often Slurm is asked how its jobs stand; `5s` by default.", false),
];

/// Reads the section; what it says of Slurm.
pub(super) fn read(
    node: &Node,
    values: &Values,
    errors: &mut Vec<PipelineError>,
) -> Option<SlurmSettings> {
    if !matches!(node.data, Data::Map(_)) {
        let message = format!("`executors` must be a map, and is {}", node.kind());
        let error = PipelineError::new(node.place.clone(), message);
        errors.push(error.help("write it as `executors: { slurm: { partition: gpu } }`"));
        return None;
    }
    let mut found = None;
    for (key, node) in node.entries() {
        match (key.name.as_str(), &node.data) {
            ("slurm", Data::Map(_) | Data::Null) => found = Some(slurm(node, values, errors)),
            ("slurm", _) => {
                let message = format!("`slurm` must be a map, and is {}", node.kind());
                errors.push(PipelineError::new(node.place.clone(), message));
            }
            (name, _) => unknown(key, name, "executors", &["slurm"], errors),
        }
    }
    found
}

fn slurm(node: &Node, values: &Values, errors: &mut Vec<PipelineError>) -> SlurmSettings {
    let mut settings = SlurmSettings::default();
    for (key, node) in node.entries() {
        match key.name.as_str() {
            "partition" => settings.partition = text(key, node, values, errors),
            "account" => settings.account = text(key, node, values, errors),
            "gres" => settings.gres = text(key, node, values, errors),
            "time" => settings.time = policy::duration(key, node, errors),
            "poll" => {
                settings.poll = policy::duration(key, node, errors).unwrap_or(settings.poll);
            }
            "cpus" => settings.cpus = policy::count(key, node, 1, errors),
            "array" => settings.array = large_count(key, node, errors),
            "at_once" => settings.at_once = large_count(key, node, errors),
            "memory" => match policy::measure(node, &policy::BYTES) {
                Some(bytes) => settings.memory = bytes as u64,
                None => wrong(key, node, "bytes, such as `512MB` or `4GB`", errors),
            },
            "modules" => settings.modules = texts(key, node, values, errors),
            "extra" => settings.extra = texts(key, node, values, errors),
            name => {
                let known: Vec<&str> = KEYS.iter().map(|(name, ..)| *name).collect();
                unknown(key, name, "slurm", &known, errors);
            }
        }
    }
    settings
}

/// A word for a command line: no line breaks, nothing that cannot be seen.
fn word(value: Option<&Value>) -> Option<String> {
    let text = value?.as_str().map(str::trim)?;
    let good = !text.is_empty() && !text.chars().any(char::is_control);
    good.then(|| text.to_owned())
}

fn text(
    key: &Key,
    node: &Node,
    values: &Values,
    errors: &mut Vec<PipelineError>,
) -> Option<String> {
    let before = errors.len();
    let value = values.value(node, errors);
    let found = word(value.as_ref());
    if found.is_none() && errors.len() == before {
        wrong(key, node, "a text of one line", errors);
    }
    found
}

fn texts(key: &Key, node: &Node, values: &Values, errors: &mut Vec<PipelineError>) -> Vec<String> {
    let before = errors.len();
    let value = values.value(node, errors);
    let items = value.as_ref().and_then(Value::as_array);
    let found = items.and_then(|items| items.iter().map(|item| word(Some(item))).collect());
    if found.is_none() && errors.len() == before {
        wrong(key, node, "a list of texts", errors);
    }
    found.unwrap_or_default()
}

fn large_count(key: &Key, node: &Node, errors: &mut Vec<PipelineError>) -> u32 {
    match node.data {
        Data::Int(n) if (1..=1_000_000).contains(&n) => n as u32,
        _ => {
            wrong(key, node, "a whole number from 1 to 1000000", errors);
            1
        }
    }
}

fn wrong(key: &Key, node: &Node, expected: &str, errors: &mut Vec<PipelineError>) {
    let message = format!("`{}` must be {expected}", key.name);
    errors.push(PipelineError::new(node.place.clone(), message));
}

fn unknown(key: &Key, name: &str, of: &str, known: &[&str], errors: &mut Vec<PipelineError>) {
    let message = format!("unknown key `{name}` in `{of}`");
    let help = suggest_or_list(name, known);
    errors.push(PipelineError::new(key.place.clone(), message).help(help));
}
