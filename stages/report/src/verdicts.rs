//! The study's claims, judged: `claims.json` for programs, `claims.md` for people.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dissim_api::{IoContext, Params, StageError};
use dissim_claims::{Claim, Expect, Judgement, RunTable, judge};
use serde_json::Value;

use crate::text;

/// A claim judged, and the filter that shows its runs.
pub(crate) struct Judged {
    pub judgement: Judgement,
    pub filter: String,
}

/// Judges the claims against the runs and writes both files; nothing where there are no claims.
///
/// # Errors
/// When a claim is not what it was checked to be, or a file cannot be written.
pub(crate) fn write(
    claims: &[Params],
    runs: &RunTable,
    output: &Path,
) -> Result<Vec<Judged>, StageError> {
    let parse = |claim: &Params| {
        serde_json::from_value::<Claim>(Value::Object(claim.clone()))
            .map_err(|e| StageError::new(format!("a claim cannot be read: {e}")))
    };
    let claims = claims.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let judgements = judge(&claims, runs);
    let path = output.join("claims.json");
    let mut json = serde_json::to_string_pretty(&judgements).or_fail("cannot format", &path)?;
    json.push('\n');
    fs::write(&path, json).or_fail("cannot write", &path)?;
    if !judgements.is_empty() {
        let path = output.join("tables/claims.md");
        fs::write(&path, markdown(&judgements)).or_fail("cannot write", &path)?;
    }
    let judged = judgements.into_iter().zip(&claims);
    Ok(judged.map(|(judgement, claim)| Judged { judgement, filter: filter(claim) }).collect())
}

/// The filter of the page that shows the runs a claim speaks of: `column=value`, alternatives after a
/// bar. A column that only one side names is free on the other, where it usually is empty.
pub(crate) fn filter(claim: &Claim) -> String {
    let mut wanted: BTreeMap<&String, Vec<String>> = BTreeMap::new();
    let mut add = |name, value: &Value| {
        let values: &mut Vec<String> = wanted.entry(name).or_default();
        let shown = match value {
            Value::Array(any) => any.iter().map(text::value).collect(),
            one => vec![text::value(one)],
        };
        for value in shown {
            if !values.contains(&value) {
                values.push(value);
            }
        }
    };
    if let Some(compare) = &claim.compare {
        compare.at.iter().for_each(|(name, value)| add(name, value));
        for (own, other) in [(&compare.a, &compare.b), (&compare.b, &compare.a)] {
            for (name, value) in own {
                add(name, value);
                if !other.contains_key(name) && !compare.at.contains_key(name) {
                    add(name, &Value::Null);
                }
            }
        }
    }
    if let Some(trend) = &claim.trend {
        trend.at.iter().for_each(|(name, value)| add(name, value));
    }
    if let Some(best) = &claim.best {
        best.of.iter().for_each(|(name, value)| add(name, value));
    }
    let parts = wanted.into_iter().map(|(name, values)| format!("{name}={}", values.join("|")));
    parts.collect::<Vec<_>>().join(" ")
}

/// The verdicts as a table.
fn markdown(judgements: &[Judgement]) -> String {
    let mut out = "| claim | verdict | effect | 95 % interval | p | corrected p | P(A > B) | n |\n|:--|:--|--:|:-:|--:|--:|--:|--:|\n".to_owned();
    let mut notes = String::new();
    for judgement in judgements {
        let p = |p: Option<f64>| p.map_or("-".to_owned(), |p| format!("{p:.4}"));
        out += &format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
            text::markdown(&judgement.says),
            judgement.verdict.as_str(),
            effect(judgement),
            interval(judgement),
            p(judgement.p),
            p(judgement.p_holm),
            judgement.superiority.map_or("-".to_owned(), |p| format!("{p:.2}")),
            judgement.n,
        );
        let dead = judgement.mcnemar.map(|m| {
            format!(
                "a alone in {} pairs, b alone in {}: exact McNemar p {:.4}",
                m.only_a, m.only_b, m.p
            )
        });
        for note in dead.iter().chain(&judgement.note) {
            let (says, note) = (text::markdown(&judgement.says), text::markdown(note));
            notes += &format!("- {says}: {note}.\n");
        }
    }
    if !notes.is_empty() {
        notes = format!("\n{notes}");
    }
    out + &notes
        + "\nEffect: mean paired difference in points, or mean slope a step of the axis; BCa bootstrap interval; two-sided sign-flip p, corrected by Holm over all claims; P(A > B): the share of pairs in which a exceeds b.\n"
}

/// The effect as people read it: points for fractions, else the number.
pub(crate) fn effect(judgement: &Judgement) -> String {
    judgement.effect.map_or("-".to_owned(), |e| scaled(judgement, e))
}

/// Its interval.
pub(crate) fn interval(judgement: &Judgement) -> String {
    judgement.interval.map_or("-".to_owned(), |[low, high]| {
        format!("{} to {}", scaled(judgement, low), scaled(judgement, high))
    })
}

fn scaled(judgement: &Judgement, value: f64) -> String {
    if judgement.is_share() { format!("{:+.1}", value * 100.0) } else { format!("{value:+.3}") }
}

/// What was expected, in a word.
pub(crate) fn expectation(expect: Expect) -> &'static str {
    match expect {
        Expect::Greater => "greater",
        Expect::Less => "less",
        Expect::None => "no difference",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_leads_to_its_runs() {
        let claim: Claim =
            serde_json::from_value(json!({ "id": "x", "says": "y", "expect": "greater",
            "compare": { "metric": "ood_acc", "a": { "method": "dissimilarity", "lambda": 1.25 },
                         "b": { "method": "erm" }, "at": { "n_bg": [8, 16] } } }))
            .unwrap();
        assert_eq!(filter(&claim), "lambda=1.25|- method=dissimilarity|erm n_bg=8|16");
    }
}
