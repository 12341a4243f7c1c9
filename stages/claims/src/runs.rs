//! Finding the runs a claim speaks of.

use std::collections::BTreeMap;

use serde_json::Value;

/// One run: column to value.
pub type Row = BTreeMap<String, Value>;

/// Columns and the values they must have.
pub type Selection = BTreeMap<String, Value>;

/// Whether a run has all these values; of a list, any. Numbers compare as numbers, so `1` is `1.0`.
#[must_use]
pub fn matches(row: &Row, selection: &Selection) -> bool {
    selection.iter().all(|(column, wanted)| {
        let found = row.get(column).unwrap_or(&Value::Null);
        match wanted {
            Value::Array(any) => any.iter().any(|wanted| equal(found, wanted)),
            wanted => equal(found, wanted),
        }
    })
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
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
            return Err(format!(
                "two runs match for {paired_by} {pair}; they differ in {differ}: name one under `at`"
            ));
        }
    }
    Ok(found.into_iter().map(|(pair, (value, _))| (pair, value)).collect())
}

/// The text and whole-number columns in which two runs differ: their facts, not their results.
fn differing(a: &Row, b: &Row) -> String {
    let facts = a.iter().filter(|(column, value)| {
        let fact = value.is_string() || value.is_i64() || value.is_u64() || *column == "lambda";
        // The task's name tells every two runs apart and says nothing.
        fact && *column != "task" && b.get(*column) != Some(value)
    });
    let names: Vec<_> = facts.map(|(column, _)| format!("`{column}`")).collect();
    if names.is_empty() { "nothing the table shows".to_owned() } else { names.join(", ") }
}
