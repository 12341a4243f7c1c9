//! The two sides that figures set next to each other: cross-entropy and dissimilarity loss at one N.

use std::collections::BTreeSet;

use crate::runs::{Run, distinct, left_out, main_lambda, mixture, sweep};

/// One side.
pub(super) struct Side {
    pub title: String,
    /// The tasks of its runs.
    pub tasks: BTreeSet<String>,
}

/// Both, at the N of the sweep over lambda, or the middle N.
pub(super) struct Pair {
    pub n_bg: i64,
    pub sides: Vec<Side>,
    /// What a caption says of a side whose runs are of several settings.
    pub left_out: String,
}

impl Pair {
    /// `None` if no side has runs of one setting.
    pub fn of(runs: &[Run]) -> Option<Self> {
        let all = distinct(runs.iter().map(|r| r.n_bg));
        let n_bg = sweep(runs).or_else(|| all.get(all.len() / 2).copied())?;
        let lambda = main_lambda(runs);
        let mut differ = BTreeSet::new();
        let mut side = |title: String, wanted: &dyn Fn(&Run) -> bool| {
            let here: Vec<&Run> = runs.iter().filter(|r| r.n_bg == n_bg && wanted(r)).collect();
            let mixed = mixture(here.iter().copied());
            let one = mixed.is_empty();
            differ.extend(mixed);
            let tasks: BTreeSet<String> = here.iter().filter_map(|r| r.task.clone()).collect();
            (one && !tasks.is_empty()).then_some(Side { title, tasks })
        };
        let ours = format!("dissimilarity, λ = {}", lambda.unwrap_or_default());
        let erm = side("cross-entropy".to_owned(), &|r| r.method == "erm");
        let ours = side(ours, &|r| r.method == "dissimilarity" && r.lambda == lambda);
        let sides: Vec<Side> = [erm, ours].into_iter().flatten().collect();
        (!sides.is_empty()).then(|| Self { n_bg, sides, left_out: left_out(&differ) })
    }
}
