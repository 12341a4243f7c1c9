//! The two sides that figures set next to each other: cross-entropy and dissimilarity loss at one N.

use std::collections::BTreeSet;

use crate::runs::{Run, distinct, main_lambda, sweep};

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
}

impl Pair {
    /// None where there are no runs.
    pub fn of(runs: &[Run]) -> Option<Self> {
        let all = distinct(runs.iter().map(|r| r.n_bg));
        let n_bg = sweep(runs).or_else(|| all.get(all.len() / 2).copied())?;
        let lambda = main_lambda(runs);
        let tasks = |wanted: &dyn Fn(&Run) -> bool| -> BTreeSet<String> {
            let here = runs.iter().filter(|r| r.n_bg == n_bg && wanted(r));
            here.filter_map(|r| r.task.clone()).collect()
        };
        let ours = format!("dissimilarity, λ = {}", lambda.unwrap_or_default());
        let sides = [
            ("cross-entropy".to_owned(), tasks(&|r| r.method == "erm")),
            (ours, tasks(&|r| r.method == "dissimilarity" && r.lambda == lambda)),
        ];
        let sides = sides.into_iter().map(|(title, tasks)| Side { title, tasks });
        let sides: Vec<Side> = sides.filter(|s| !s.tasks.is_empty()).collect();
        (!sides.is_empty()).then_some(Self { n_bg, sides })
    }
}
