//! Finding the runs a claim speaks of.

use std::collections::BTreeMap;

use serde_json::Value;

/// One run: column to value.
pub type Row = BTreeMap<String, Value>;

/// Columns and the values they must have.
pub type Selection = BTreeMap<String, Value>;

/// The column that names what a run departs in from the plain runs of its study.
const VARIANT: &str = "variant";

/// Whether a run has all these values; of a list, any. Numbers compare as numbers, so `1` is `1.0`.
///
/// A run that departs from the study's plain ones, by another network or other pairs, counts only
/// where the selection names that fact: `{ method: erm }` are erm's plain runs, and no mean is of
/// runs that have no business in one.
#[must_use]
pub fn matches(row: &Row, selection: &Selection) -> bool {
    matches_naming(row, selection, &[])
}

/// The same, where the facts of `more` are named too, whatever their value.
#[must_use]
pub fn matches_naming(row: &Row, selection: &Selection, more: &[String]) -> bool {
    let named = |fact: &str| selection.contains_key(fact) || more.iter().any(|m| m == fact);
    let known = named(VARIANT) || departures(row).all(named);
    known
        && selection.iter().all(|(column, wanted)| {
            let found = row.get(column).unwrap_or(&Value::Null);
            match wanted {
                Value::Array(any) => any.iter().any(|wanted| equal(found, wanted)),
                wanted => equal(found, wanted),
            }
        })
}

/// The facts in which a run departs: those of `sampler = groups, model = alexnet`.
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
        Value::Array(any) => any
            .iter()
            .map(|v| v.as_str().map_or(v.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(" or "),
        other => other.to_string(),
    };
    let part = |(name, wanted): (&String, &Value)| format!("{name} = {}", value(wanted));
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

/// The metric of the selected runs by the value of `paired_by`.
///
/// # Errors
/// When two selected runs share that value: the selection is too wide, and says by what.
pub(crate) fn by_pair(
    rows: &[Row],
    selection: &Selection,
    paired_by: &str,
    metric: &str,
) -> Result<BTreeMap<String, f64>, String> {
    let mut found: BTreeMap<String, (f64, &Row)> = BTreeMap::new();
    for row in rows.iter().filter(|row| matches(row, selection)) {
        let (Some(pair), Some(value)) = (row.get(paired_by), number(row, metric)) else { continue };
        if let Some((_, other)) = found.insert(key(pair), (value, row)) {
            let differ = differing(row, other);
            let differ = match differ.as_slice() {
                [] => "nothing the table shows".to_owned(),
                names => names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", "),
            };
            return Err(format!(
                "two runs match for {paired_by} {pair}; they differ in {differ}: name one under `at`"
            ));
        }
    }
    Ok(found.into_iter().map(|(pair, (value, _))| (pair, value)).collect())
}

/// Facts that are fractions, beside the text and the whole numbers.
const FRACTIONS: [&str; 5] = ["lambda", "lambda_target", "lambda_span", "tau", "offset"];

/// The columns in which two runs differ that are facts, not results.
#[must_use]
pub fn differing<'a>(a: &'a Row, b: &Row) -> Vec<&'a str> {
    let facts = a.iter().filter(|(column, value)| {
        let other = b.get(*column).unwrap_or(&Value::Null);
        let one = |v: &Value| v.is_string() || v.is_i64() || v.is_u64();
        let fact = one(value) || one(other) || FRACTIONS.contains(&column.as_str());
        // The task's name tells every two runs apart and says nothing; the variant says what others say.
        fact && !["task", VARIANT].contains(&column.as_str()) && other != *value
    });
    facts.map(|(column, _)| column.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: Value) -> BTreeMap<String, Value> {
        value.as_object().unwrap().clone().into_iter().collect()
    }

    #[test]
    fn a_run_that_departs_counts_where_that_is_named() {
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
        // A table without that column knows no variants.
        assert!(matches(&map(json!({"method": "erm"})), &erm));
    }
}
