//! What is wrong with a claim before anything runs, each with the path of the part it is about.

use std::collections::BTreeSet;

use dissim_api::{ParamError, Params, resolve};
use serde_json::Value;

use crate::{Best, Claim, Compare, Trend};

/// The columns that a claim may name.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    /// What runs are measured by.
    pub metrics: BTreeSet<String>,
    /// What tells runs apart.
    pub facts: BTreeSet<String>,
}

/// Everything wrong with a claim. The name of an error is a path such as `compare.metric`.
#[must_use]
pub fn check(claim: &Params, columns: &Columns) -> Vec<ParamError> {
    let mut errors = Vec::new();
    // The nested parts have checks of their own, with better paths.
    let nested = ["compare", "trend", "best"];
    match resolve::<Claim>(claim) {
        Ok((claim, _)) => {
            let general = |message| ParamError { name: None, message };
            errors.extend(claim.check().err().map(general));
            errors.extend(claim.compare.iter().flat_map(|c| compare_columns(c, columns)));
            errors.extend(claim.trend.iter().flat_map(|t| trend_columns(t, columns)));
            errors.extend(claim.best.iter().flat_map(|b| best_columns(b, columns)));
        }
        Err(found) => {
            let first = |path: &str| path.split(['.', '[']).next().unwrap_or_default().to_owned();
            let outer = |e: &ParamError| {
                e.name.as_deref().is_none_or(|n| !nested.contains(&first(n).as_str()))
            };
            errors.extend(found.into_iter().filter(outer));
            for part in nested {
                let shape = match claim.get(part) {
                    Some(Value::Object(map)) if part == "compare" => {
                        resolve::<Compare>(map).err().unwrap_or_default()
                    }
                    Some(Value::Object(map)) if part == "trend" => {
                        resolve::<Trend>(map).err().unwrap_or_default()
                    }
                    Some(Value::Object(map)) => resolve::<Best>(map).err().unwrap_or_default(),
                    Some(_) => {
                        vec![ParamError { name: None, message: format!("`{part}` must be a map") }]
                    }
                    None => Vec::new(),
                };
                errors.extend(shape.into_iter().map(|e| within(part, e)));
            }
        }
    }
    errors
}

fn within(part: &str, error: ParamError) -> ParamError {
    let name = error.name.map_or_else(|| part.to_owned(), |name| format!("{part}.{name}"));
    ParamError::new(name, error.message)
}

fn compare_columns(compare: &Compare, columns: &Columns) -> Vec<ParamError> {
    let mut errors = vec![metric("compare.metric", &compare.metric, columns)];
    errors.push(fact("compare.paired_by", &compare.paired_by, columns));
    for (side, selection) in [("a", &compare.a), ("b", &compare.b), ("at", &compare.at)] {
        let path = |name: &String| format!("compare.{side}.{name}");
        errors.extend(selection.keys().map(|name| fact(&path(name), name, columns)));
    }
    errors.into_iter().flatten().collect()
}

fn trend_columns(trend: &Trend, columns: &Columns) -> Vec<ParamError> {
    let mut errors = vec![
        metric("trend.metric", &trend.metric, columns),
        fact("trend.over", &trend.over, columns),
        fact("trend.paired_by", &trend.paired_by, columns),
    ];
    let path = |name: &String| format!("trend.at.{name}");
    errors.extend(trend.at.keys().map(|name| fact(&path(name), name, columns)));
    errors.into_iter().flatten().collect()
}

fn best_columns(best: &Best, columns: &Columns) -> Vec<ParamError> {
    let mut errors = vec![
        metric("best.metric", &best.metric, columns),
        fact("best.paired_by", &best.paired_by, columns),
    ];
    for (side, selection) in [("of", &best.of), ("is", &best.is)] {
        let path = |name: &String| format!("best.{side}.{name}");
        errors.extend(selection.keys().map(|name| fact(&path(name), name, columns)));
    }
    errors.into_iter().flatten().collect()
}

/// An error where runs have no such metric.
fn metric(path: &str, name: &str, columns: &Columns) -> Option<ParamError> {
    let unknown = !columns.metrics.contains(name);
    unknown.then(|| ParamError::new(path, format!("runs have no metric `{name}`")))
}

/// An error where runs have no such fact.
fn fact(path: &str, name: &str, columns: &Columns) -> Option<ParamError> {
    let unknown = !columns.facts.contains(name);
    unknown.then(|| ParamError::new(path, format!("runs have no column `{name}`")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(claim: Value) -> String {
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect();
        let columns = Columns {
            metrics: names(&["ood_acc", "dead"]),
            facts: names(&["method", "lambda", "n_bg", "seed"]),
        };
        let errors = check(claim.as_object().unwrap(), &columns);
        let line = |e: &ParamError| format!("{}: {}", e.name.as_deref().unwrap_or("-"), e.message);
        errors.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_good_claim_passes() {
        let good = json!({ "id": "x", "says": "y", "expect": "greater",
            "compare": { "metric": "ood_acc", "a": { "method": "b" }, "b": { "lambda": null } } });
        assert_eq!(said(good), "");
    }

    #[test]
    fn every_mistake_has_a_path() {
        let bad = json!({ "id": "x", "says": "y", "expect": "more", "margn": 1,
            "compare": { "metric": 3, "b": {}, "att": {} } });
        insta::assert_snapshot!(said(bad));
        let bad = json!({ "id": "x", "says": "y", "expect": "greater",
            "trend": { "metric": "ood_ac", "over": "lamda", "at": { "n_bgs": 8 } } });
        insta::assert_snapshot!(said(bad));
        let both = json!({ "id": "x", "says": "y", "expect": "greater" });
        insta::assert_snapshot!(said(both));
        let best = json!({ "id": "x", "says": "y", "expect": "greater",
            "best": { "metric": "ood_ac", "is": { "lamda": 1.25 }, "among": {} } });
        insta::assert_snapshot!(said(best));
        let best = json!({ "id": "x", "says": "y", "expect": "none", "margin": 0.1,
            "best": { "metric": "ood_acc", "is": { "lambda": 1.25 } } });
        insta::assert_snapshot!(said(best));
    }
}
