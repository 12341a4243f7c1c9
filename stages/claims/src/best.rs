//! Claims that one setting is the best of those that were run.
//!
//! To be the best is to beat every other: the p of that is the largest of the pairwise ones (the
//! intersection-union test, Berger 1982), and no correction for their number is needed. Where another
//! setting has the better mean, the p is that of the best other one, times the number of others
//! (Bonferroni), since it was picked among them.

use std::collections::{BTreeMap, BTreeSet};

use dissim_statistics::{mean, sign_flip};
use serde_json::Value;

use crate::judge::{Found, Unjudged, agree};
use crate::runs::{self, Row, RunTable, Selection, Side};
use crate::{Best, Expect};

/// One of the other settings, with the differences of the claimed one to it.
struct Other {
    setting: Selection,
    differences: Vec<f64>,
}

/// The differences to the other setting that decides, and the p of the claim.
///
/// # Errors
/// Returns the reason if the runs are not there, or if they are of several settings.
pub(crate) fn found(best: &Best, expect: Expect, table: &RunTable) -> Result<Found, Unjudged> {
    let own = column(best, &best.is, table)?;
    if own.values.is_empty() {
        let missing = format!("no run has {}", runs::words(&joined(best, &best.is)));
        return Err(Unjudged::NotRun(missing));
    }
    let named: BTreeSet<&String> = best.of.keys().chain(best.is.keys()).collect();
    let mut others = Vec::new();
    for setting in settings(best, table.rows()) {
        if setting_is(&setting, &best.is) {
            continue;
        }
        let column = column(best, &setting, table)?;
        agree(table, &best.paired_by, [&own, &column], &named)?;
        let differences: Vec<f64> =
            own.values.iter().filter_map(|(pair, a)| Some(a - column.values.get(pair)?)).collect();
        if !differences.is_empty() {
            others.push(Other { setting, differences });
        }
    }
    let sign = if expect == Expect::Less { -1.0 } else { 1.0 };
    let lead = |o: &Other| sign * mean(&o.differences);
    let Some(next) = others.iter().min_by(|a, b| lead(a).total_cmp(&lead(b))) else {
        let missing = format!("nothing else was run to set {} against", runs::words(&best.is));
        return Err(Unjudged::NotRun(missing));
    };
    let p = |o: &Other| sign_flip::p_value(&o.differences);
    let (word, p) = if lead(next) > 0.0 {
        ("the next is", others.iter().map(p).fold(0.0, f64::max))
    } else {
        ("the best is", (p(next) * others.len() as f64).min(1.0))
    };
    let about = format!("of {} settings; {word} {}", others.len() + 1, runs::words(&next.setting));
    Ok(Found { values: next.differences.clone(), p: Some(p), about: Some(about) })
}

/// The different values of the named columns among the runs.
fn settings(best: &Best, rows: &[Row]) -> Vec<Selection> {
    let mut found: BTreeMap<String, Selection> = BTreeMap::new();
    let named: Vec<String> = best.is.keys().cloned().collect();
    for row in rows.iter().filter(|row| runs::matches_naming(row, &best.of, &named)) {
        let value = |name: &String| row.get(name).cloned().unwrap_or(Value::Null);
        let setting: Selection = best.is.keys().map(|name| (name.clone(), value(name))).collect();
        let key = setting.values().map(runs::key).collect::<Vec<_>>().join("\n");
        found.entry(key).or_insert(setting);
    }
    found.into_values().collect()
}

fn setting_is(setting: &Selection, wanted: &Selection) -> bool {
    let row: Row = setting.clone();
    runs::matches(&row, wanted)
}

fn joined(best: &Best, setting: &Selection) -> Selection {
    let mut selection = best.of.clone();
    selection.extend(setting.clone());
    selection
}

fn column<'a>(best: &Best, setting: &Selection, table: &'a RunTable) -> Result<Side<'a>, Unjudged> {
    let selection = joined(best, setting);
    table.by_pair(&selection, &best.paired_by, &best.metric).map_err(Unjudged::Mixed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Claim, Verdict, judge};
    use serde_json::json;

    /// Accuracy peaks at (1.25, 0.001); `noise` moves the others from seed to seed.
    fn rows(seeds: u64, noise: f64) -> RunTable {
        let mut rows = Vec::new();
        for seed in 0..seeds {
            for (lambda, a) in [(0.5, 0.5), (1.25, 0.6), (2.0, 0.55)] {
                for (tau, b) in [(0.001, 0.05), (0.01, 0.02)] {
                    let wobble = noise * ((seed as f64 + lambda * 7.0 + tau * 900.0) * 2.3).sin();
                    let row = json!({ "method": "dissimilarity", "lambda": lambda, "tau": tau,
                                      "seed": seed, "ood_acc": a + b + wobble });
                    rows.push(row.as_object().unwrap().clone().into_iter().collect());
                }
            }
        }
        table(rows)
    }

    fn table(rows: Vec<Row>) -> RunTable {
        let factors = ["method", "lambda", "tau", "lr"].map(str::to_owned);
        RunTable::new(rows, factors.into(), ["seed".to_owned()].into())
    }

    fn claim(lambda: f64, tau: f64) -> Claim {
        serde_json::from_value(json!({ "id": "best", "says": "best pair", "expect": "greater",
            "best": { "metric": "ood_acc", "of": { "method": "dissimilarity" },
                      "is": { "lambda": lambda, "tau": tau } } }))
        .unwrap()
    }

    #[test]
    fn the_best_is_supported_and_another_refuted() {
        let rows = rows(10, 0.001);
        let found = &judge(&[claim(1.25, 0.001)], &rows)[0];
        assert_eq!((found.verdict, found.n), (Verdict::Supported, 10));
        assert_eq!(found.p, Some(2.0 / 1024.0));
        assert!((found.effect.unwrap() - 0.03).abs() < 0.002);
        insta::assert_snapshot!(
            found.note.as_deref().unwrap(),
            @"of 6 settings; the next is lambda = 1.25, tau = 0.01"
        );
        let found = &judge(&[claim(2.0, 0.001)], &rows)[0];
        assert_eq!(found.verdict, Verdict::Refuted);
        // Five others: the p of the best of them times five.
        assert_eq!(found.p, Some(10.0 / 1024.0));
        insta::assert_snapshot!(
            found.note.as_deref().unwrap(),
            @"of 6 settings; the best is lambda = 1.25, tau = 0.001"
        );
    }

    #[test]
    fn a_lead_within_the_noise_decides_nothing() {
        let found = &judge(&[claim(1.25, 0.001)], &rows(10, 0.2))[0];
        assert_eq!(found.verdict, Verdict::Inconclusive);
    }

    #[test]
    fn what_is_missing_is_said() {
        let said = |claim: Claim, rows: &RunTable| judge(&[claim], rows)[0].note.clone().unwrap();
        insta::assert_snapshot!(
            said(claim(1.25, 0.1), &rows(3, 0.0)),
            @"no run has lambda = 1.25, method = dissimilarity, tau = 0.1"
        );
        let alone = table(rows(3, 0.0).rows().iter().step_by(6).cloned().collect());
        insta::assert_snapshot!(
            said(claim(0.5, 0.001), &alone),
            @"nothing else was run to set lambda = 0.5, tau = 0.001 against"
        );
    }

    #[test]
    fn other_setting_that_is_a_mixture_is_not_judged() {
        let mut runs = rows(10, 0.001).rows().to_vec();
        for (i, run) in runs.iter_mut().enumerate() {
            run.insert("lr".to_owned(), json!(if i == 1 { 0.01 } else { 0.001 }));
        }
        let found = &judge(&[claim(1.25, 0.001)], &table(runs.clone()))[0];
        assert_eq!((found.verdict, found.effect), (Verdict::NotJudged, None));
        insta::assert_snapshot!(
            found.note.as_deref().unwrap(),
            @"the runs with lambda = 0.5, method = dissimilarity, tau = 0.01 differ in `lr`: name one value under `at`"
        );
        // Every other setting is one, but of another learning rate than the claimed one.
        for run in &mut runs {
            let own = run["lambda"] == json!(1.25) && run["tau"] == json!(0.001);
            run.insert("lr".to_owned(), json!(if own { 0.01 } else { 0.001 }));
        }
        let found = &judge(&[claim(1.25, 0.001)], &table(runs))[0];
        insta::assert_snapshot!(
            found.note.as_deref().unwrap(),
            @"the runs that are compared differ in `lr`, which the claim does not name"
        );
    }
}
