//! `retry:`, `timeout:`, `grace:` and `resources:` of a stage.

use std::time::Duration;

use super::errors::{PipelineError, suggest_or_list};
use super::yaml::{Data, Key, Node};
use crate::policy::{Policy, Retry};

/// The keys of a stage that are read here.
pub(super) const KEYS: [&str; 4] = ["retry", "timeout", "grace", "resources"];
const SECONDS: [(&str, f64); 5] =
    [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86400.0)];
pub(super) const BYTES: [(&str, f64); 7] = [
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("B", 1.0),
];
/// The longest duration: far above any task, far below what a clock cannot add.
const LONGEST_S: f64 = 366.0 * 86400.0;

/// The keys of `resources`.
const RESOURCES: [&str; 4] = ["cpus", "memory", "gres", "partition"];

/// Reads one of [`KEYS`] into the policy.
pub(super) fn read(key: &Key, node: &Node, policy: &mut Policy, errors: &mut Vec<PipelineError>) {
    match key.name.as_str() {
        "retry" => policy.retry = retry(key, node, errors),
        "timeout" => policy.timeout = duration(key, node, errors),
        "grace" => policy.grace = duration(key, node, errors).unwrap_or(policy.grace),
        _ => resources(key, node, policy, errors),
    }
}

fn retry(key: &Key, node: &Node, errors: &mut Vec<PipelineError>) -> Retry {
    let mut retry = Retry { times: 0, wait: Duration::from_secs(1) };
    if !matches!(node.data, Data::Map(_)) {
        retry.times = count(key, node, 0, errors);
        return retry;
    }
    for (key, node) in node.entries() {
        match key.name.as_str() {
            "times" => retry.times = count(key, node, 0, errors),
            "wait" => retry.wait = duration(key, node, errors).unwrap_or_default(),
            _ => unknown(key, "retry", &["times", "wait"], errors),
        }
    }
    retry
}

fn resources(key: &Key, node: &Node, policy: &mut Policy, errors: &mut Vec<PipelineError>) {
    let Policy { resources, cluster, .. } = policy;
    (*resources, *cluster) = Default::default();
    if !matches!(node.data, Data::Map(_)) {
        wrong(key, node, "a map such as `{ cpus: 2, memory: 4GB }`", errors);
    }
    for (key, node) in node.entries() {
        match key.name.as_str() {
            "cpus" => resources.cpus = count(key, node, 1, errors).max(1),
            "memory" => match measure(node, &BYTES) {
                Some(bytes) => resources.memory = bytes as u64,
                None => wrong(key, node, "bytes, such as `512MB` or `4GB`", errors),
            },
            "gres" => cluster.gres = word(key, node, errors),
            "partition" => cluster.partition = word(key, node, errors),
            _ => unknown(key, "resources", &RESOURCES, errors),
        }
    }
}

pub(super) fn count(key: &Key, node: &Node, least: u32, errors: &mut Vec<PipelineError>) -> u32 {
    match node.data {
        Data::Int(n) if (i64::from(least)..=1000).contains(&n) => n as u32,
        _ => {
            wrong(key, node, &format!("a whole number from {least} to 1000"), errors);
            least
        }
    }
}

/// A word for a command line: no line breaks, nothing that cannot be seen.
fn word(key: &Key, node: &Node, errors: &mut Vec<PipelineError>) -> Option<String> {
    let good = |text: &&str| !text.is_empty() && !text.chars().any(char::is_control);
    let found = match &node.data {
        Data::Text(text) => Some(text.trim()).filter(good).map(str::to_owned),
        _ => None,
    };
    if found.is_none() {
        wrong(key, node, "a text of one line", errors);
    }
    found
}

pub(super) fn duration(
    key: &Key,
    node: &Node,
    errors: &mut Vec<PipelineError>,
) -> Option<Duration> {
    let seconds = measure(node, &SECONDS).filter(|s| *s > 0.0 && *s <= LONGEST_S);
    if seconds.is_none() {
        wrong(key, node, "a duration, such as `90s`, `30m` or `2h`", errors);
    }
    seconds.map(Duration::from_secs_f64)
}

/// A number with a unit, or a number alone in the base unit.
pub(super) fn measure(node: &Node, units: &[(&str, f64)]) -> Option<f64> {
    let value = match &node.data {
        Data::Int(n) => *n as f64,
        Data::Float(n) => *n,
        Data::Text(text) => {
            let (name, factor) = units.iter().find(|(name, _)| text.ends_with(name))?;
            text.strip_suffix(name)?.trim().parse::<f64>().ok()? * factor
        }
        _ => return None,
    };
    (value.is_finite() && value >= 0.0).then_some(value)
}

fn wrong(key: &Key, node: &Node, expected: &str, errors: &mut Vec<PipelineError>) {
    let message = format!("`{}` must be {expected}", key.name);
    errors.push(PipelineError::new(node.place.clone(), message));
}

fn unknown(key: &Key, of: &str, known: &[&str], errors: &mut Vec<PipelineError>) {
    let message = format!("unknown key `{}` in `{of}`", key.name);
    let help = suggest_or_list(&key.name, known);
    errors.push(PipelineError::new(key.place.clone(), message).help(help));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::yaml;
    use crate::policy::Resources;

    fn policy(text: &str) -> Result<Policy, String> {
        let (mut policy, mut errors) = (Policy::default(), Vec::new());
        for (key, node) in yaml::parse(text).unwrap().entries() {
            read(key, node, &mut policy, &mut errors);
        }
        let messages: Vec<_> = errors.into_iter().map(|e| e.message).collect();
        if messages.is_empty() { Ok(policy) } else { Err(messages.join("\n")) }
    }

    #[test]
    fn short_and_long_forms() {
        let text = "retry: { times: 3, wait: 10s }\ntimeout: 1.5h\ngrace: 2s\nresources: { cpus: 2, memory: 4GB }";
        let policy_of = policy(text).unwrap();
        assert_eq!(policy_of.retry, Retry { times: 3, wait: Duration::from_secs(10) });
        assert_eq!(policy_of.timeout, Some(Duration::from_secs(5400)));
        assert_eq!(policy_of.grace, Duration::from_secs(2));
        assert_eq!(policy("retry: 1").unwrap().grace, Duration::from_secs(10));
        assert_eq!(policy_of.resources, Resources { cpus: 2, memory: 4_000_000_000 });
        let wishes = policy("resources: { gres: \"gpu:1\", partition: fast }").unwrap().cluster;
        assert_eq!(
            (wishes.gres.as_deref(), wishes.partition.as_deref()),
            (Some("gpu:1"), Some("fast"))
        );
        assert_eq!(
            policy("resources: { gres: \"\" }").unwrap_err(),
            "`gres` must be a text of one line"
        );
        assert_eq!(policy("retry: 2").unwrap().retry.times, 2);
        assert_eq!(policy("timeout: 250ms").unwrap().timeout, Some(Duration::from_millis(250)));
        assert_eq!(policy("resources: { memory: 1GiB }").unwrap().resources.memory, 1 << 30);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let text =
            "retry: { times: -1, wiat: 3 }\ntimeout: soon\nresources: { cpus: 0, memory: lots }";
        insta::assert_snapshot!(policy(text).unwrap_err(), @r"
        `times` must be a whole number from 0 to 1000
        unknown key `wiat` in `retry`
        `timeout` must be a duration, such as `90s`, `30m` or `2h`
        `cpus` must be a whole number from 1 to 1000
        `memory` must be bytes, such as `512MB` or `4GB`
        ");
        insta::assert_snapshot!(policy("timeout: 1e300\nresources: 3").unwrap_err(), @r"
        `timeout` must be a duration, such as `90s`, `30m` or `2h`
        `resources` must be a map such as `{ cpus: 2, memory: 4GB }`
        ");
    }
}
