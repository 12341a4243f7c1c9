//! What came out, in sentences computed from the runs.

use dissim_statistics::{bootstrap, mean, sign_flip};

use crate::rivals::Rivals;
use crate::runs::{Run, distinct, main_lambda};

/// One sentence a number of backgrounds, one on the gap that is closed, and one on dead runs.
pub(crate) fn sentences(runs: &[Run], rivals: Option<&Rivals>) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(lambda) = main_lambda(runs) {
        for n in distinct(runs.iter().map(|r| r.n_bg)) {
            found.extend(gain(runs, n, lambda));
        }
        found.extend(rivals.and_then(recovered));
        found.extend(few_seeds(runs));
    }
    found.extend(dead(runs));
    if found.is_empty() {
        found.push("There are no runs to compare yet.".to_owned());
    }
    found
}

/// The paired difference of OOD accuracy at one N.
fn gain(runs: &[Run], n: i64, lambda: f64) -> Option<String> {
    let side = |method: &str, seed: i64, lambda: Option<f64>| {
        let wanted = |r: &&Run| {
            r.method == method
                && r.n_bg == n
                && r.seed == seed
                && (lambda.is_none() || r.lambda == lambda)
        };
        runs.iter().find(wanted).and_then(|r| r.ood_acc)
    };
    let seeds = distinct(runs.iter().map(|r| r.seed));
    let pairs: Vec<(f64, f64)> = seeds
        .into_iter()
        .filter_map(|s| Some((side("dissimilarity", s, Some(lambda))?, side("erm", s, None)?)))
        .collect();
    if pairs.is_empty() {
        return None;
    }
    let differences: Vec<f64> = pairs.iter().map(|(a, b)| (a - b) * 100.0).collect();
    let (ours, erm): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
    let effect = mean(&differences);
    let interval = bootstrap::bca(&differences, 0.95)
        .map(|i| format!(" (95 % interval {:+.1} to {:+.1})", i.low, i.high))
        .unwrap_or_default();
    Some(format!(
        "N = {n}: dissimilarity loss (λ = {lambda}) reaches {:.1} % OOD accuracy against {:.1} % for cross-entropy alone: {effect:+.1} points{interval}, {} seeds.",
        mean(&ours) * 100.0,
        mean(&erm) * 100.0,
        differences.len(),
    ))
}

/// How much of the gap from cross-entropy to the oracle is closed.
fn recovered(rivals: &Rivals) -> Option<String> {
    let ours = rivals.rows.iter().find(|r| r.method == "dissimilarity")?;
    let best = rivals.rows.iter().find(|r| r.method != "oracle")?;
    let (share, _) = ours.gap?;
    if share <= 0.0 {
        return Some(format!(
            "N = {}: dissimilarity loss recovers nothing of the gap between cross-entropy and the oracle, which sees a fresh background with every image.",
            rivals.n_bg
        ));
    }
    let other = match best.method == ours.method {
        true => " It is the best method that is not the oracle.".to_owned(),
        false => format!(" The best method but the oracle is {}.", best.label()),
    };
    Some(format!(
        "N = {}: dissimilarity loss recovers {} of the gap between cross-entropy and the oracle, which sees a fresh background with every image.{other}",
        rivals.n_bg,
        ours.gap_text(),
    ))
}

/// Says so where no difference could be significant.
fn few_seeds(runs: &[Run]) -> Option<String> {
    let n = distinct(runs.iter().map(|r| r.seed)).len();
    let floor = sign_flip::floor(n);
    (floor > 0.05).then(|| {
        format!(
            "With {n} seeds no difference can be significant: the smallest two-sided p of a sign-flip test is 2/2^{n} = {floor:.2}. Run a profile with 6 seeds or more before you conclude."
        )
    })
}

fn dead(runs: &[Run]) -> Option<String> {
    let dead: Vec<&Run> = runs.iter().filter(|r| r.dead).collect();
    if runs.is_empty() {
        return None;
    }
    if dead.is_empty() {
        return Some(format!("None of {} runs is dead (ID accuracy below 20 %).", runs.len()));
    }
    let lambdas = distinct(dead.iter().filter_map(|r| r.lambda));
    let at: Vec<String> = lambdas
        .iter()
        .map(|l| {
            let of = runs.iter().filter(|r| r.lambda == Some(*l)).count();
            let count = dead.iter().filter(|r| r.lambda == Some(*l)).count();
            format!("{count} of {of} at λ = {l}")
        })
        .collect();
    let where_ = if at.is_empty() { String::new() } else { format!(": {}", at.join(", ")) };
    Some(format!(
        "{} of {} runs are dead (ID accuracy below 20 %){where_}.",
        dead.len(),
        runs.len()
    ))
}
