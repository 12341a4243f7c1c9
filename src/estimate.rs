//! How long a run will take, from what its tasks took before. No I/O: records come in, seconds go
//! out.

use crate::graph::{Study, TaskId};

/// Where an estimate comes from, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The task itself ran before, with other inputs or parameters.
    Task,
    /// The median of the stage's other tasks.
    Stage,
    /// Nothing of the stage ever ran.
    Unknown,
}

/// What a task will take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Seconds; 0 where it is not known.
    pub seconds: f64,
    /// Where it comes from.
    pub source: Source,
}

/// The estimate of every task, from what each took when it last ran.
#[must_use]
pub fn estimates(study: &Study, past: &[Option<f64>]) -> Vec<Estimate> {
    let medians: Vec<Option<f64>> = study
        .stages
        .iter()
        .map(|stage| median(past[stage.tasks.clone()].iter().flatten().copied().collect()))
        .collect();
    let of = |(task, past): (TaskId, &Option<f64>)| match (past, medians[study.tasks[task].stage]) {
        (Some(seconds), _) => Estimate { seconds: *seconds, source: Source::Task },
        (None, Some(seconds)) => Estimate { seconds, source: Source::Stage },
        (None, None) => Estimate { seconds: 0.0, source: Source::Unknown },
    };
    past.iter().enumerate().map(of).collect()
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// Seconds until the last of the tasks ends, when as many run at once as there are jobs and each
/// starts as soon as it can, in the order of the study. `needs` is asked of the tasks that run.
#[must_use]
pub fn makespan(
    tasks: &[(TaskId, f64)],
    needs: impl Fn(TaskId) -> Vec<TaskId>,
    jobs: usize,
) -> f64 {
    let mut free = vec![0.0f64; jobs.max(1)];
    let mut ends = std::collections::HashMap::new();
    for &(task, seconds) in tasks {
        let ready =
            needs(task).iter().filter_map(|need| ends.get(need)).copied().fold(0.0, f64::max);
        let first = (0..free.len()).min_by(|&a, &b| free[a].total_cmp(&free[b])).unwrap_or(0);
        let end = free[first].max(ready) + seconds;
        free[first] = end;
        ends.insert(task, end);
    }
    free.into_iter().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn two_jobs_share_independent_work_and_wait_for_what_they_need() {
        let none = |_| Vec::new();
        let tasks = [(0, 3.0), (1, 2.0), (2, 2.0)];
        assert_eq!(makespan(&tasks, none, 1), 7.0);
        assert_eq!(makespan(&tasks, none, 2), 4.0);
        assert_eq!(makespan(&tasks, none, 3), 3.0);
        let chain = |task| if task == 0 { Vec::new() } else { vec![task - 1] };
        assert_eq!(makespan(&tasks, chain, 3), 7.0);
        assert_eq!(makespan(&[], none, 2), 0.0);
    }

    #[test]
    fn the_middle_of_what_was_seen() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    proptest! {
        /// Between the two bounds that any schedule without needless idling has.
        #[test]
        fn no_better_than_the_bounds(seconds in prop::collection::vec(0.0f64..10.0, 1..20), jobs in 1usize..5) {
            let tasks: Vec<_> = seconds.iter().copied().enumerate().collect();
            let total: f64 = seconds.iter().sum();
            let longest = seconds.iter().copied().fold(0.0, f64::max);
            let span = makespan(&tasks, |_| Vec::new(), jobs);
            prop_assert!(span >= longest.max(total / jobs as f64) - 1e-9);
            prop_assert!(span <= total / jobs as f64 + longest + 1e-9);
        }
    }
}
