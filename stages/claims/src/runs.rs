//! The runs of a study, and finding those that a claim or a table speaks of.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// One run: column to value.
pub type Row = BTreeMap<String, Value>;

/// Columns and the values they must have.
pub type Selection = BTreeMap<String, Value>;

/// The column that names the factors in which a run departs from the plain runs of its study.
const VARIANT: &str = "variant";

/// The replicate by which runs are repeated, unless a claim pairs them by another column.
const REPLICATE: &str = "seed";

/// What is named if two runs have the same factors and the same replicate: only their task differs.
const TASK: &str = "task";

/// The runs of a study, with the columns that are factors. A column that is neither a factor nor a
/// replicate is a metric, an attribute, or an identifier, and never separates settings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunTable {
    rows: Vec<Row>,
    factors: BTreeSet<String>,
    replicates: BTreeSet<String>,
}

impl RunTable {
    /// A table of these rows.
    #[must_use]
    pub fn new(rows: Vec<Row>, factors: BTreeSet<String>, replicates: BTreeSet<String>) -> Self {
        Self { rows, factors, replicates }
    }

    /// The runs.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The columns in which these runs differ although runs that are averaged may not: their factors.
    /// If the factors are equal, several runs of one seed are a mixture too. An empty set means that
    /// the runs are replicates of one setting.
    #[must_use]
    pub fn mixture(&self, runs: &[&Row]) -> BTreeSet<String> {
        self.mixture_over(REPLICATE, runs)
    }

    /// The same for runs that are repeated over another column.
    pub(crate) fn mixture_over(&self, replicate: &str, runs: &[&Row]) -> BTreeSet<String> {
        let Some((first, others)) = runs.split_first() else { return BTreeSet::new() };
        let differs = |name: &&String| others.iter().any(|run| !same(first, run, name));
        let found: BTreeSet<String> =
            self.fixed(replicate).into_iter().filter(differs).cloned().collect();
        if !found.is_empty() {
            return found;
        }
        let mut seen: BTreeMap<String, &Row> = BTreeMap::new();
        for run in runs {
            let value = run.get(replicate).unwrap_or(&Value::Null);
            if let Some(other) = seen.insert(key(value), run) {
                let differs = |name: &&String| !same(other, run, name);
                let names: BTreeSet<String> =
                    self.replicates.iter().filter(differs).cloned().collect();
                return if names.is_empty() { [TASK.to_owned()].into() } else { names };
            }
        }
        BTreeSet::new()
    }

    /// The factors in which two sides of a comparison differ although the claim does not name them.
    /// A factor that does not apply to one side, and so is null there, is no difference.
    pub(crate) fn disagreement(
        &self,
        replicate: &str,
        (a, b): (&Row, &Row),
        named: &BTreeSet<&String>,
    ) -> BTreeSet<String> {
        let applies = |run: &Row, name: &String| run.get(name).is_some_and(|v| !v.is_null());
        let differs = |name: &&String| {
            !named.contains(*name) && applies(a, name) && applies(b, name) && !same(a, b, name)
        };
        self.fixed(replicate).into_iter().filter(differs).cloned().collect()
    }

    /// The columns in which runs may not differ if they are repeated over this replicate.
    fn fixed(&self, replicate: &str) -> BTreeSet<&String> {
        let replicates = (!self.replicates.contains(replicate)).then_some(&self.replicates);
        let columns = self.factors.iter().chain(replicates.into_iter().flatten());
        columns.filter(|name| *name != replicate).collect()
    }

    /// The metric of the selected runs by the value of `paired_by`, with one of the runs.
    ///
    /// # Errors
    /// Returns the reason in words if the selected runs are of several settings.
    pub(crate) fn by_pair(
        &self,
        selection: &Selection,
        paired_by: &str,
        metric: &str,
    ) -> Result<Side<'_>, String> {
        let selected: Vec<&Row> = self
            .rows
            .iter()
            .filter(|row| matches(row, selection))
            .filter(|row| row.get(paired_by).is_some_and(|pair| !pair.is_null()))
            .collect();
        let differ = self.mixture_over(paired_by, &selected);
        if !differ.is_empty() {
            let which = match selection.is_empty() {
                true => "the runs".to_owned(),
                false => format!("the runs with {}", words(selection)),
            };
            return Err(match differ.contains(TASK) {
                true => format!(
                    "several of {which} have the same {paired_by}, and no column tells them apart"
                ),
                false => {
                    format!("{which} differ in {}: name one value under `at`", quoted(&differ))
                }
            });
        }
        let value = |row: &&Row| Some((key(row.get(paired_by)?), number(row, metric)?));
        let values = selected.iter().filter_map(value).collect();
        Ok(Side { values, run: selected.first().copied() })
    }
}

/// One side of a comparison: runs of one setting.
pub(crate) struct Side<'a> {
    /// The metric by the value of the replicate.
    pub values: BTreeMap<String, f64>,
    /// Any of the runs, because all have the same factors; `None` if there is no run.
    pub run: Option<&'a Row>,
}

/// Names in backticks, separated by commas.
pub(crate) fn quoted(names: &BTreeSet<String>) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn same(a: &Row, b: &Row, name: &str) -> bool {
    let value = |run: &Row| run.get(name).cloned().unwrap_or(Value::Null);
    equal(&value(a), &value(b))
}

/// Whether a run has all these values; of a list, any. Numbers compare as numbers, so `1` is `1.0`.
///
/// A run that departs from the plain runs of its study, by another network or other pairs, matches
/// only if the selection names that factor: `{ method: erm }` selects the plain runs of erm.
#[must_use]
pub fn matches(row: &Row, selection: &Selection) -> bool {
    matches_naming(row, selection, &[])
}

/// The same, if the factors of `more` are named too, whatever their value.
#[must_use]
pub fn matches_naming(row: &Row, selection: &Selection, more: &[String]) -> bool {
    let named = |fact: &str| selection.contains_key(fact) || more.iter().any(|m| m == fact);
    let known = named(VARIANT) || departures(row).all(named);
    known
        && selection.iter().all(|(column, wanted)| {
            let found = row.get(column).unwrap_or(&Value::Null);
            match wanted {
                // A parameter that is a list stands in the table as JSON.
                Value::Array(any) => {
                    let json = Value::String(wanted.to_string());
                    any.iter().any(|wanted| equal(found, wanted)) || *found == json
                }
                wanted => equal(found, wanted),
            }
        })
}

/// The factors in which a run departs: those of `sampler = groups, model = alexnet`.
fn departures(row: &Row) -> impl Iterator<Item = &str> {
    let text = row.get(VARIANT).and_then(Value::as_str).unwrap_or_default();
    text.split(", ").filter_map(|part| Some(part.split_once(" = ")?.0))
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// A selection in words: `method = dissimilarity, lambda = 1.25`.
#[must_use]
pub fn words(selection: &Selection) -> String {
    let value = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        // 8.0 is 8 to a reader.
        Value::Number(number) => number.as_f64().map_or(number.to_string(), |x| x.to_string()),
        other => other.to_string(),
    };
    let any = |wanted: &Value| match wanted {
        Value::Array(any) => any.iter().map(value).collect::<Vec<_>>().join(" or "),
        one => value(one),
    };
    let part = |(name, wanted): (&String, &Value)| format!("{name} = {}", any(wanted));
    selection.iter().map(part).collect::<Vec<_>>().join(", ")
}

/// A metric of a run as a number; a flag is 0 or 1.
pub(crate) fn number(row: &Row, metric: &str) -> Option<f64> {
    match row.get(metric)? {
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        value => value.as_f64(),
    }
}

/// A value as a key that sorts as the value does.
#[must_use]
pub fn key(value: &Value) -> String {
    match value.as_f64() {
        // Sign-magnitude to an ordered integer, so that keys sort as numbers do.
        Some(x) => {
            let bits = x.to_bits();
            let ordered = if x.is_sign_negative() { !bits } else { bits | 1 << 63 };
            format!("{ordered:016x}")
        }
        None => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: Value) -> BTreeMap<String, Value> {
        value.as_object().unwrap().clone().into_iter().collect()
    }

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn departing_run_matches_only_if_its_departures_are_named() {
        let plain = map(json!({"method": "erm", "sampler": "shuffle", "variant": "plain"}));
        let other = map(json!({"method": "erm", "sampler": "groups", "model": "alexnet",
            "variant": "model = alexnet, sampler = groups"}));
        let erm = map(json!({"method": "erm"}));
        assert!(matches(&plain, &erm) && !matches(&other, &erm));
        let half = map(json!({"method": "erm", "sampler": "groups"}));
        assert!(!matches(&plain, &half) && !matches(&other, &half));
        let whole = map(json!({"sampler": "groups", "model": ["alexnet", "lenet5"]}));
        assert!(matches(&other, &whole));
        let more = ["model".to_owned(), "sampler".to_owned()];
        assert!(matches_naming(&other, &erm, &more) && matches_naming(&plain, &erm, &more));
        let named = map(json!({"variant": "model = alexnet, sampler = groups"}));
        assert!(matches(&other, &named) && !matches(&plain, &named));
        // A table without that column has no variants.
        assert!(matches(&map(json!({"method": "erm"})), &erm));
    }

    #[test]
    fn list_parameter_is_selected_by_its_list() {
        let run = map(json!({ "colour": "[255,255,255]", "n": 8 }));
        assert!(matches(&run, &map(json!({ "colour": [255, 255, 255], "n": [4, 8.0] }))));
        assert!(!matches(&run, &map(json!({ "colour": [255, 0, 0] }))));
        assert_eq!(words(&map(json!({ "n": [4, 8.0, null] }))), "n = 4 or 8 or none");
    }

    #[test]
    fn mixture_is_any_difference_but_the_replicate() {
        let table =
            RunTable::new(Vec::new(), names(&["lr", "deep"]), names(&["seed", "data_seed"]));
        let run = |lr: Value, seed: Value, deep: bool, acc: f64| {
            map(json!({ "lr": lr, "seed": seed, "data_seed": 0, "deep": deep, "acc": acc }))
        };
        let (a, b) = (run(json!(0.1), json!(0), true, 0.5), run(json!(0.1), json!(1), true, 0.6));
        assert!(table.mixture(&[&a, &b]).is_empty());
        // Another setting counts, whichever seed it has, and so does a setting that one run lacks.
        let c = run(json!(0.2), json!(2), false, 0.5);
        assert_eq!(table.mixture(&[&a, &b, &c]), names(&["deep", "lr"]));
        let d = run(Value::Null, json!(3), true, 0.5);
        assert_eq!(table.mixture(&[&a, &d]), names(&["lr"]));
        // 1 is 1.0.
        let (e, f) = (run(json!(1), json!(0), true, 0.5), run(json!(1.0), json!(1), true, 0.5));
        assert!(table.mixture(&[&e, &f]).is_empty());
        // One seed twice: by another seed of the data, or by nothing that the table shows.
        let mut g = a.clone();
        assert_eq!(table.mixture(&[&a, &g]), names(&["task"]));
        g.insert("data_seed".to_owned(), json!(7));
        assert_eq!(table.mixture(&[&a, &g]), names(&["data_seed"]));
        // Paired by another column, seeds are settings.
        assert_eq!(table.mixture_over("lr", &[&a, &b]), names(&["seed"]));
    }

    #[test]
    fn sides_disagree_in_what_applies_to_both() {
        let table = RunTable::new(Vec::new(), names(&["lr", "method", "tau"]), names(&["seed"]));
        let a = map(json!({ "lr": 0.1, "method": "erm", "tau": null }));
        let b = map(json!({ "lr": 0.2, "method": "ours", "tau": 0.5 }));
        let (method, lr) = ("method".to_owned(), "lr".to_owned());
        let differ = |named| table.disagreement("seed", (&a, &b), &named);
        assert_eq!(differ([&method].into()), names(&["lr"]));
        assert!(differ([&method, &lr].into()).is_empty());
    }
}
