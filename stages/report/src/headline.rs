//! What came out, in sentences computed from the runs.

use std::collections::BTreeSet;

use dissim_statistics::{bootstrap, mean, sign_flip};

use crate::rivals::Rivals;
use crate::runs::{Run, disagreement, distinct, main_lambda, mixture, sweep};

/// One sentence per number of backgrounds, one on the gap that is closed, and one on dead runs. `runs`
/// are those that are compared, `all` those of the whole page.
pub(crate) fn sentences(runs: &[Run], all: &[Run], rivals: Option<&Rivals>) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(lambda) = main_lambda(runs) {
        for n in distinct(runs.iter().map(|r| r.n_bg)) {
            found.extend(gain(runs, n, lambda));
        }
        found.extend(rivals.and_then(recovered));
        found.extend(few_seeds(runs));
    }
    found.extend(dead(runs, all));
    found.extend(others(runs, all));
    if found.is_empty() {
        found.push("There are no runs to compare yet.".to_owned());
    }
    found
}

/// The paired difference of OOD accuracy at one N, or why there is none.
fn gain(runs: &[Run], n: i64, lambda: f64) -> Option<String> {
    let here = || runs.iter().filter(move |r| r.n_bg == n);
    let ours = here().filter(|r| r.method == "dissimilarity" && r.lambda == Some(lambda));
    let (ours, erm): (Vec<&Run>, Vec<&Run>) =
        (ours.collect(), here().filter(|r| r.method == "erm").collect());
    if ours.is_empty() || erm.is_empty() {
        return None;
    }
    let list = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(", ");
    let sides =
        [(format!("dissimilarity loss (λ = {lambda})"), &ours), ("cross-entropy".into(), &erm)];
    for (who, side) in sides {
        let differ = mixture(side.iter().copied());
        if !differ.is_empty() {
            let differ = list(differ);
            return Some(format!(
                "N = {n}: not compared, because the runs of {who} differ in {differ}."
            ));
        }
    }
    let differ = disagreement(&ours, &erm, &["n_bg", "method", "lambda"]);
    if !differ.is_empty() {
        return Some(format!(
            "N = {n}: not compared, because dissimilarity loss and cross-entropy differ in {}.",
            list(differ)
        ));
    }
    let other = |seed: i64| erm.iter().find(|r| r.seed == seed).and_then(|r| r.ood_acc);
    let pairs: Vec<(f64, f64)> =
        ours.iter().filter_map(|r| Some((r.ood_acc?, other(r.seed)?))).collect();
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

/// How many runs of the page are dead; of the sweep over lambda, at which weights.
fn dead(runs: &[Run], all: &[Run]) -> Option<String> {
    if all.is_empty() {
        return None;
    }
    let count = |runs: &[&Run]| runs.iter().filter(|r| r.dead).count();
    let dead = count(&all.iter().collect::<Vec<_>>());
    if dead == 0 {
        return Some(format!("None of {} runs is dead (ID accuracy below 20 %).", all.len()));
    }
    let mut at = Vec::new();
    if let Some(n) = sweep(runs) {
        let swept = || runs.iter().filter(move |r| r.n_bg == n && r.method == "dissimilarity");
        for lambda in distinct(swept().filter_map(|r| r.lambda)) {
            let here: Vec<&Run> = swept().filter(|r| r.lambda == Some(lambda)).collect();
            if count(&here) > 0 && mixture(here.iter().copied()).is_empty() {
                at.push(format!("{} of {} at N = {n} and λ = {lambda}", count(&here), here.len()));
            }
        }
    }
    let among = if at.is_empty() { String::new() } else { format!(", {}", at.join(", ")) };
    Some(format!("{dead} of {} runs are dead (ID accuracy below 20 %){among}.", all.len()))
}

/// Which runs are not compared here.
fn others(runs: &[Run], all: &[Run]) -> Option<String> {
    let departs = |run: &Run| -> Vec<String> {
        let parts = run.variant.split(", ").filter_map(|part| part.split_once(" = "));
        parts.map(|(name, _)| name.to_owned()).collect()
    };
    let names: BTreeSet<String> = all.iter().flat_map(departs).collect();
    (runs.len() < all.len()).then(|| {
        format!(
            "Compared here are {} of {} runs; the others, in the tables, have another {}.",
            runs.len(),
            all.len(),
            names.into_iter().collect::<Vec<_>>().join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(method: &str, seed: i64, lr: f64, ood: f64) -> Run {
        Run {
            method: method.into(),
            lambda: (method == "dissimilarity").then_some(1.25),
            n_bg: 8,
            seed,
            ood_acc: Some(ood),
            setting: [("lr".to_owned(), lr.into())].into(),
            ..Run::default()
        }
    }

    fn first(runs: &[Run]) -> String {
        sentences(runs, runs, None).swap_remove(0)
    }

    /// The study of two learning rates: the headline used to take the first that it found.
    #[test]
    fn mixture_is_not_compared_and_its_factor_is_named() {
        let both = |seed: i64, lr: f64| {
            [run("erm", seed, lr, 0.3), run("dissimilarity", seed, lr, 0.5 + lr)]
        };
        let one: Vec<Run> = (0..2).flat_map(|s| both(s, 0.1)).collect();
        assert_eq!(
            first(&one),
            "N = 8: dissimilarity loss (λ = 1.25) reaches 60.0 % OOD accuracy against 30.0 % for cross-entropy alone: +30.0 points (95 % interval +30.0 to +30.0), 2 seeds."
        );
        let two: Vec<Run> = (0..2).flat_map(|s| [both(s, 0.1), both(s, 0.2)]).flatten().collect();
        assert_eq!(
            first(&two),
            "N = 8: not compared, because the runs of dissimilarity loss (λ = 1.25) differ in lr."
        );
        // Neither seed has both; half of a side is of the other rate.
        let halves: Vec<Run> = [both(0, 0.1), both(1, 0.2)].into_iter().flatten().collect();
        assert_eq!(first(&halves), first(&two));
        let sides: Vec<Run> = (0..2)
            .flat_map(|s| [run("erm", s, 0.1, 0.3), run("dissimilarity", s, 0.2, 0.5)])
            .collect();
        assert_eq!(
            first(&sides),
            "N = 8: not compared, because dissimilarity loss and cross-entropy differ in lr."
        );
    }

    #[test]
    fn dead_runs_are_those_of_the_page() {
        let mut plain = vec![run("erm", 0, 0.1, 0.3), run("dissimilarity", 0, 0.1, 0.1)];
        plain[1].dead = true;
        let mut all = plain.clone();
        all.push(Run { variant: "model = alexnet".into(), dead: true, ..plain[0].clone() });
        let said = sentences(&plain, &all, None);
        assert_eq!(
            said[2..],
            [
                "2 of 3 runs are dead (ID accuracy below 20 %).",
                "Compared here are 2 of 3 runs; the others, in the tables, have another model."
            ]
        );
    }
}
