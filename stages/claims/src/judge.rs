//! From claims and runs to verdicts.

use std::collections::{BTreeMap, BTreeSet};

use dissim_statistics::{Interval, bootstrap, holm, mean, paired, share, sign_flip};
use serde::{Deserialize, Serialize};

use crate::best;
use crate::runs::{self, RunTable, Side};
use crate::{Claim, Compare, Expect, Trend};

/// The level at which a claim counts as significant, after Holm's correction.
pub const LEVEL: f64 = 0.05;
/// Confidence of the intervals.
const CONFIDENCE: f64 = 0.95;

/// What the runs say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As expected, and beyond chance.
    Supported,
    /// The other way round, beyond chance.
    Refuted,
    /// These runs do not decide it.
    Inconclusive,
    /// The runs it speaks of are not there.
    NotRun,
    /// The runs it speaks of are of several settings, and the claim does not say which it means.
    NotJudged,
}

impl Verdict {
    /// The word a reader sees.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Refuted => "refuted",
            Self::Inconclusive => "inconclusive",
            Self::NotRun => "not measured",
            Self::NotJudged => "not judged",
        }
    }
}

/// A claim with its verdict and the numbers behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The claim's id.
    pub id: String,
    /// The claim in words.
    pub says: String,
    /// The metric, as the table names it.
    pub metric: String,
    /// What was expected.
    pub expect: Expect,
    /// Whether the effect is a slope along an axis, and of which.
    pub along: Option<String>,
    /// The verdict.
    pub verdict: Verdict,
    /// Number of pairs, or of slopes.
    pub n: usize,
    /// Mean paired difference, or mean slope a step of the axis, in the metric's unit.
    pub effect: Option<f64>,
    /// BCa bootstrap interval of it, at 95 %.
    pub interval: Option<[f64; 2]>,
    /// Two-sided sign-flip p.
    pub p: Option<f64>,
    /// The same after Holm's correction over the study's claims.
    pub p_holm: Option<f64>,
    /// P(A > B), or the share of rising slopes.
    pub superiority: Option<f64>,
    /// Of a comparison of flags such as `dead`: the pairs in which just one side has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcnemar: Option<Mcnemar>,
    /// What a reader should know: too few seeds, missing runs.
    pub note: Option<String>,
}

/// The exact McNemar test of a flag over pairs of runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mcnemar {
    /// Pairs in which a alone has it.
    pub only_a: usize,
    /// Pairs in which b alone has it.
    pub only_b: usize,
    /// Exact two-sided p.
    pub p: f64,
}

/// What was found for a claim before p is corrected.
pub(crate) struct Found {
    /// Paired differences, or slopes.
    pub values: Vec<f64>,
    /// p, where it is not the sign-flip p of the values.
    pub p: Option<f64>,
    /// What a reader should know of how it was found.
    pub about: Option<String>,
}

/// Why a claim has no effect.
#[derive(Debug)]
pub(crate) enum Unjudged {
    /// Runs are missing.
    NotRun(String),
    /// The runs are of several settings.
    Mixed(String),
}

impl From<Vec<f64>> for Found {
    fn from(values: Vec<f64>) -> Self {
        Self { values, p: None, about: None }
    }
}

impl Judgement {
    /// Whether the metric is a fraction, which people read in points.
    #[must_use]
    pub fn is_share(&self) -> bool {
        self.metric == "dead" || self.metric.contains("acc")
    }
}

/// Judges all claims of a study against its runs.
#[must_use]
pub fn judge(claims: &[Claim], table: &RunTable) -> Vec<Judgement> {
    let mut judgements: Vec<Judgement> = claims.iter().map(|claim| measure(claim, table)).collect();
    correct(&mut judgements);
    for (claim, judgement) in claims.iter().zip(&mut judgements) {
        if judgement.effect.is_some() {
            decide(claim, judgement);
        }
    }
    judgements
}

/// Effect, interval and uncorrected p of one claim.
fn measure(claim: &Claim, table: &RunTable) -> Judgement {
    let (metric, found) = match (&claim.compare, &claim.trend, &claim.best) {
        (Some(compare), ..) => (&compare.metric, differences(compare, table).map(Found::from)),
        (_, Some(trend), _) => (&trend.metric, slopes(trend, table).map(Found::from)),
        (.., Some(best)) => (&best.metric, best::found(best, claim.expect, table)),
        (None, None, None) => {
            let nothing = "it says nothing that runs could show".to_owned();
            (&claim.id, Err(Unjudged::NotRun(nothing)))
        }
    };
    let mut judgement = Judgement {
        id: claim.id.clone(),
        says: claim.says.clone(),
        metric: metric.clone(),
        expect: claim.expect,
        along: claim.trend.as_ref().map(|t| t.over.clone()),
        verdict: Verdict::NotRun,
        n: 0,
        effect: None,
        interval: None,
        p: None,
        p_holm: None,
        superiority: None,
        mcnemar: None,
        note: None,
    };
    match found {
        Err(Unjudged::NotRun(note)) => judgement.note = Some(note),
        Err(Unjudged::Mixed(note)) => {
            judgement.verdict = Verdict::NotJudged;
            judgement.note = Some(note);
        }
        Ok(Found { values, p, about }) => {
            judgement.note = about;
            judgement.n = values.len();
            judgement.effect = Some(mean(&values));
            judgement.interval =
                bootstrap::bca(&values, CONFIDENCE).map(|Interval { low, high }| [low, high]);
            judgement.superiority = Some(paired::superiority(&values));
            // A claim of no difference is decided by its interval, not by a failure to reject.
            if claim.expect != Expect::None {
                judgement.p = Some(p.unwrap_or_else(|| sign_flip::p_value(&values)));
            }
            if claim.compare.as_ref().is_some_and(|c| is_flag(&c.metric, table)) {
                let only = |sign: f64| values.iter().filter(|v| **v == sign).count();
                let (only_a, only_b) = (only(1.0), only(-1.0));
                judgement.mcnemar =
                    Some(Mcnemar { only_a, only_b, p: share::mcnemar(only_a, only_b) });
            }
        }
    }
    judgement
}

/// Whether a metric is yes or no.
fn is_flag(metric: &str, table: &RunTable) -> bool {
    table.rows().iter().any(|row| row.get(metric).is_some_and(serde_json::Value::is_boolean))
}

/// a - b for every pair that has both.
fn differences(compare: &Compare, table: &RunTable) -> Result<Vec<f64>, Unjudged> {
    let side = |own: &runs::Selection| {
        let mut selection = compare.at.clone();
        selection.extend(own.clone());
        let found = table
            .by_pair(&selection, &compare.paired_by, &compare.metric)
            .map_err(Unjudged::Mixed)?;
        if found.values.is_empty() {
            return Err(Unjudged::NotRun(format!("no run has {}", runs::words(&selection))));
        }
        Ok(found)
    };
    let (a, b) = (side(&compare.a)?, side(&compare.b)?);
    let named = [&compare.at, &compare.a, &compare.b].into_iter().flat_map(BTreeMap::keys);
    agree(table, &compare.paired_by, [&a, &b], &named.collect())?;
    let both: Vec<f64> =
        a.values.iter().filter_map(|(pair, a)| Some(a - b.values.get(pair)?)).collect();
    if both.is_empty() {
        let missing = format!("no {} has runs on both sides", compare.paired_by);
        return Err(Unjudged::NotRun(missing));
    }
    Ok(both)
}

/// Checks that two sides differ in nothing but what the claim names.
///
/// # Errors
/// Returns the factors in which they differ besides.
pub(crate) fn agree(
    table: &RunTable,
    paired_by: &str,
    [a, b]: [&Side<'_>; 2],
    named: &BTreeSet<&String>,
) -> Result<(), Unjudged> {
    let Some(runs) = a.run.zip(b.run) else { return Ok(()) };
    let differ = table.disagreement(paired_by, runs, named);
    if differ.is_empty() {
        return Ok(());
    }
    let which = runs::quoted(&differ);
    Err(Unjudged::Mixed(format!(
        "the runs that are compared differ in {which}, which the claim does not name"
    )))
}

/// The least-squares slope of the metric against the rank of the axis' values, for every pair key
/// that has a run at each of them.
fn slopes(trend: &Trend, table: &RunTable) -> Result<Vec<f64>, Unjudged> {
    let mut axis = BTreeMap::new();
    let over = std::slice::from_ref(&trend.over);
    for row in table.rows().iter().filter(|row| runs::matches_naming(row, &trend.at, over)) {
        if let Some(value) = row.get(&trend.over).filter(|v| !v.is_null()) {
            axis.entry(runs::key(value)).or_insert_with(|| value.clone());
        }
    }
    if axis.len() < 2 {
        let missing = format!("fewer than two values of {} were run", trend.over);
        return Err(Unjudged::NotRun(missing));
    }
    let named: BTreeSet<&String> = trend.at.keys().chain([&trend.over]).collect();
    let mut sides: Vec<Side<'_>> = Vec::new();
    let mut columns = Vec::new();
    for value in axis.into_values() {
        let mut selection = trend.at.clone();
        selection.insert(trend.over.clone(), value);
        let side =
            table.by_pair(&selection, &trend.paired_by, &trend.metric).map_err(Unjudged::Mixed)?;
        for other in &sides {
            agree(table, &trend.paired_by, [other, &side], &named)?;
        }
        let mut column = side.values.clone();
        sides.push(side);
        if trend.spread {
            let centre = median(column.values().copied().collect());
            column.values_mut().for_each(|v| *v = (*v - centre).abs());
        }
        columns.push(column);
    }
    let whole = columns[0].keys().filter_map(|pair| {
        columns.iter().map(|c| c.get(pair).copied()).collect::<Option<Vec<f64>>>()
    });
    let slopes: Vec<f64> = whole.map(|y| slope(&y)).collect();
    if slopes.is_empty() {
        let missing = format!("no {} has a run at every {}", trend.paired_by, trend.over);
        return Err(Unjudged::NotRun(missing));
    }
    Ok(slopes)
}

/// Least-squares slope of `y` against 0, 1, 2, ..
fn slope(y: &[f64]) -> f64 {
    let middle = (y.len() - 1) as f64 / 2.0;
    let offsets = (0..y.len()).map(|i| i as f64 - middle);
    let products: f64 = offsets.clone().zip(y).map(|(x, y)| x * y).sum();
    products / offsets.map(|x| x * x).sum::<f64>()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() % 2 {
        0 if half > 0 => (values[half - 1] + values[half]) / 2.0,
        _ => values.get(half).copied().unwrap_or(f64::NAN),
    }
}

/// Holm over the claims that have a p.
fn correct(judgements: &mut [Judgement]) {
    let p: Vec<f64> = judgements.iter().filter_map(|j| j.p).collect();
    let tested = judgements.iter_mut().filter(|j| j.p.is_some());
    for (judgement, adjusted) in tested.zip(holm::adjust(&p)) {
        judgement.p_holm = Some(adjusted);
    }
}

fn decide(claim: &Claim, judgement: &mut Judgement) {
    let effect = judgement.effect.unwrap_or(f64::NAN);
    judgement.verdict = match claim.expect {
        Expect::None => none_verdict(judgement.interval, claim.margin.unwrap_or(0.0)),
        Expect::Greater | Expect::Less => {
            let significant = judgement.p_holm.is_some_and(|p| p <= LEVEL);
            let as_expected = (effect > 0.0) == (claim.expect == Expect::Greater);
            match (significant, as_expected) {
                (true, true) => Verdict::Supported,
                (true, false) => Verdict::Refuted,
                (false, _) => Verdict::Inconclusive,
            }
        }
    };
    let floor = sign_flip::floor(judgement.n);
    if judgement.p.is_some() && floor > LEVEL {
        let needed = (1..).find(|&n| sign_flip::floor(n) <= LEVEL).unwrap_or_default();
        let few = format!(
            "{} seeds can never be significant: the smallest two-sided p is 2/2^{} = {}; it takes {needed} or more",
            judgement.n,
            judgement.n,
            (floor * 1e4).round() / 1e4,
        );
        judgement.note = Some(match judgement.note.take() {
            Some(note) => format!("{note}. {few}"),
            None => few,
        });
    }
}

/// No difference: the whole interval lies within the margin.
fn none_verdict(interval: Option<[f64; 2]>, margin: f64) -> Verdict {
    match interval {
        Some([low, high]) if -margin < low && high < margin => Verdict::Supported,
        Some([low, high]) if high < -margin || margin < low => Verdict::Refuted,
        _ => Verdict::Inconclusive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    use crate::Row;

    fn row(method: &str, lambda: Value, seed: u64, ood: f64, dead: bool) -> Row {
        let Value::Object(map) = json!({
            "method": method, "lambda": lambda, "n_bg": 8, "seed": seed, "ood_acc": ood, "dead": dead,
        }) else {
            unreachable!()
        };
        map.into_iter().collect()
    }

    fn table(rows: Vec<Row>) -> RunTable {
        let factors = ["method", "lambda", "n_bg", "lr"].map(str::to_owned);
        RunTable::new(rows, factors.into(), ["seed".to_owned()].into())
    }

    fn rows(seeds: u64) -> RunTable {
        let mut rows = Vec::new();
        for seed in 0..seeds {
            let wobble = (seed as f64 * 1.7).sin() * 0.03;
            rows.push(row("erm", Value::Null, seed, 0.40 + wobble, false));
            for (lambda, gain) in [(0.5, 0.1), (1.25, 0.3), (5.0, 0.2)] {
                let dead = lambda > 4.0 && seed % 2 == 0;
                let ood = if dead { 0.1 } else { 0.40 + gain + wobble * 0.5 };
                rows.push(row("dissimilarity", json!(lambda), seed, ood, dead));
            }
        }
        table(rows)
    }

    fn claim(yaml: Value) -> Claim {
        serde_json::from_value(yaml).unwrap()
    }

    fn helps(expect: &str) -> Claim {
        claim(json!({
            "id": "helps", "says": "it helps", "expect": expect,
            "compare": { "metric": "ood_acc", "a": { "method": "dissimilarity", "lambda": 1.25 },
                         "b": { "method": "erm" }, "at": { "n_bg": 8.0 } },
        }))
    }

    #[test]
    fn a_clear_gain_is_supported_and_its_opposite_refuted() {
        let found = &judge(&[helps("greater")], &rows(10))[0];
        assert_eq!(
            (found.verdict, found.n, found.superiority),
            (Verdict::Supported, 10, Some(1.0))
        );
        assert_eq!(found.p, Some(2.0 / 1024.0));
        let effect = found.effect.unwrap();
        let [low, high] = found.interval.unwrap();
        assert!((effect - 0.3).abs() < 0.02 && low < effect && effect < high);
        assert_eq!(judge(&[helps("less")], &rows(10))[0].verdict, Verdict::Refuted);
    }

    #[test]
    fn three_seeds_never_suffice_and_it_says_so() {
        let found = &judge(&[helps("greater")], &rows(3))[0];
        assert_eq!(found.verdict, Verdict::Inconclusive);
        insta::assert_snapshot!(
            found.note.as_deref().unwrap(),
            @"3 seeds can never be significant: the smallest two-sided p is 2/2^3 = 0.25; it takes 6 or more"
        );
    }

    #[test]
    fn trends_of_dead_runs_and_of_spread() {
        let over = |metric: &str, spread: bool| {
            claim(json!({
                "id": metric, "says": "rises", "expect": "greater",
                "trend": { "metric": metric, "over": "lambda", "spread": spread,
                           "at": { "method": "dissimilarity" } },
            }))
        };
        let found = judge(&[over("dead", false), over("ood_acc", true)], &rows(16));
        assert_eq!(found[0].verdict, Verdict::Supported, "{:?}", found[0]);
        assert_eq!(found[1].verdict, Verdict::Supported, "{:?}", found[1]);
        assert!(found.iter().all(|j| j.p_holm >= j.p));
    }

    #[test]
    fn dead_runs_are_counted_in_pairs() {
        let deaths = claim(json!({ "id": "deaths", "says": "fewer die", "expect": "less",
            "compare": { "metric": "dead", "a": { "lambda": 0.5 }, "b": { "lambda": 5 },
                         "at": { "method": "dissimilarity" } } }));
        let found = &judge(&[deaths.clone(), helps("greater")], &rows(16));
        // Every other seed is dead at 5 and alive at 0.5: 8 pairs, all one way.
        let Mcnemar { only_a, only_b, p } = found[0].mcnemar.unwrap();
        assert_eq!((only_a, only_b), (0, 8));
        assert!((p - 2.0 / 256.0).abs() < 1e-12, "{p}");
        assert_eq!(found[0].p, Some(2.0 / 256.0));
        assert_eq!(found[1].mcnemar, None);
    }

    #[test]
    fn no_difference_is_judged_by_its_interval() {
        let mut same = helps("greater");
        same.expect = Expect::None;
        same.margin = Some(0.5);
        assert_eq!(judge(&[same.clone()], &rows(8))[0].verdict, Verdict::Supported);
        same.margin = Some(0.1);
        assert_eq!(judge(&[same.clone()], &rows(8))[0].verdict, Verdict::Refuted);
        assert_eq!(judge(&[same], &rows(8))[0].p, None);
    }

    #[test]
    fn what_was_not_run_is_not_judged() {
        let found = &judge(&[helps("greater")], &table(Vec::new()))[0];
        assert_eq!(found.verdict, Verdict::NotRun);
        insta::assert_snapshot!(
            found.note.as_deref().unwrap(),
            @"no run has lambda = 1.25, method = dissimilarity, n_bg = 8"
        );
        let mut wide = helps("greater");
        wide.compare.as_mut().unwrap().a.remove("lambda");
        insta::assert_snapshot!(
            judge(&[wide], &rows(2))[0].note.as_deref().unwrap(),
            @"the runs with method = dissimilarity, n_bg = 8 differ in `lambda`: name one value under `at`"
        );
    }

    /// Half of the runs of each side have another learning rate: of other seeds, so that no seed
    /// occurs twice.
    #[test]
    fn claim_over_two_learning_rates_is_not_judged() {
        let mut runs = rows(10).rows().to_vec();
        for run in &mut runs {
            let low = run["seed"].as_u64() < Some(5);
            run.insert("lr".to_owned(), json!(if low { 0.001 } else { 0.01 }));
        }
        let found = &judge(&[helps("greater")], &table(runs.clone()))[0];
        assert_eq!((found.verdict, found.n, found.effect), (Verdict::NotJudged, 0, None));
        insta::assert_snapshot!(
            found.note.as_deref().unwrap(),
            @"the runs with lambda = 1.25, method = dissimilarity, n_bg = 8 differ in `lr`: name one value under `at`"
        );
        // Named, it is judged over the runs that have it.
        let mut one = helps("greater");
        one.compare.as_mut().unwrap().at.insert("lr".to_owned(), json!(0.001));
        let found = &judge(&[one], &table(runs.clone()))[0];
        assert_eq!((found.n, found.effect.is_some()), (5, true));
        // A list selects runs of both, and does not say that they may be averaged.
        let mut both = helps("greater");
        both.compare.as_mut().unwrap().at.insert("lr".to_owned(), json!([0.001, 0.01]));
        assert_eq!(judge(&[both], &table(runs.clone()))[0].verdict, Verdict::NotJudged);
        // One side each: every side is of one setting, and the comparison is confounded.
        for run in &mut runs {
            let erm = run["method"] == json!("erm");
            run.insert("lr".to_owned(), json!(if erm { 0.001 } else { 0.01 }));
        }
        let found = &judge(&[helps("greater")], &table(runs))[0];
        assert_eq!(found.verdict, Verdict::NotJudged);
        insta::assert_snapshot!(
            found.note.as_deref().unwrap(),
            @"the runs that are compared differ in `lr`, which the claim does not name"
        );
    }

    #[test]
    fn trend_over_two_learning_rates_is_not_judged() {
        let mut runs = rows(16).rows().to_vec();
        for run in &mut runs {
            let high = run["lambda"] == json!(5.0);
            run.insert("lr".to_owned(), json!(if high { 0.01 } else { 0.001 }));
        }
        let trend = claim(json!({ "id": "t", "says": "rises", "expect": "greater",
            "trend": { "metric": "dead", "over": "lambda", "at": { "method": "dissimilarity" } } }));
        assert_eq!(judge(&[trend], &table(runs))[0].verdict, Verdict::NotJudged);
    }

    #[test]
    fn a_claim_is_checked_before_anything_runs() {
        let mut bad = helps("greater");
        bad.margin = Some(0.1);
        assert_eq!(bad.check().unwrap_err(), "`margin` goes with `expect: none`");
        bad.expect = Expect::None;
        bad.margin = None;
        assert_eq!(bad.check().unwrap_err(), "`expect: none` needs a `margin`");
        bad.compare = None;
        assert_eq!(bad.check().unwrap_err(), "a claim needs `compare`, `trend` or `best`");
    }

    #[test]
    fn median_and_slope() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
        assert_eq!(slope(&[1.0, 3.0, 5.0]), 2.0);
        assert_eq!(slope(&[2.0, 1.0]), -1.0);
    }
}
