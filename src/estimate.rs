//! How long a run will take, from what its tasks took before. No I/O: records come in, seconds go
//! out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::graph::TaskId;

/// Where an estimate comes from, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The task itself ran before; scaled where its parameters were others.
    Task,
    /// The stage's other tasks, scaled by the parameters in which they differ.
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

/// What may tell how long a task takes: its parameters, and those of what it needs, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Work {
    /// Parameters that are positive numbers.
    pub numbers: BTreeMap<String, f64>,
    /// All others, as text: tasks that agree in them are of one group.
    pub group: String,
}

/// A task that ran.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// What it worked on.
    pub work: Work,
    /// Seconds that it took.
    pub seconds: f64,
}

impl Work {
    /// Splits parameters into numbers and the rest.
    #[must_use]
    pub fn of<'a>(parameters: impl Iterator<Item = (String, &'a Value)>) -> Self {
        let mut work = Self::default();
        parameters.for_each(|(name, value)| work.add(name, value));
        work
    }

    fn add(&mut self, name: String, value: &Value) {
        if let Value::Object(map) = value {
            map.iter().for_each(|(inner, value)| self.add(format!("{name}.{inner}"), value));
            return;
        }
        match value.as_f64().filter(|n| n.is_finite() && *n > 0.0) {
            Some(number) => drop(self.numbers.insert(name, number)),
            // Zero, or a lack of the number, is a kind of its own.
            None => self.group += &format!("{name}={value};"),
        }
    }
}

/// How the time of a stage's tasks follows from their numbers: a product of powers.
///
/// The powers are those that fit the past best, by least squares of the logarithms, held back towards
/// a guess (ridge regression) where the past says little: that a task takes in proportion to what
/// counts its work, such as `epochs`, and the same whatever its other numbers are.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    powers: BTreeMap<String, f64>,
}

/// How many samples' worth of evidence the guess is.
const WEIGHT_OF_GUESS: f64 = 0.1;

impl Scale {
    /// Fits the past of one stage.
    #[must_use]
    pub fn fit(samples: &[Sample]) -> Self {
        let names: BTreeSet<&String> = samples.iter().flat_map(|s| s.work.numbers.keys()).collect();
        let in_all = |name: &&&String| samples.iter().all(|s| s.work.numbers.contains_key(**name));
        let names: Vec<&String> = names.iter().filter(in_all).copied().collect();
        let guess: Vec<f64> = names.iter().map(|name| guess(name)).collect();
        // Within a group, so that what one method takes more than another is not put down to a number.
        let mut groups: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
        for sample in samples.iter().filter(|s| s.seconds > 0.0) {
            groups.entry(&sample.work.group).or_default().push(sample);
        }
        let n = names.len();
        let (mut matrix, mut right) = (vec![vec![0.0; n]; n], vec![0.0; n]);
        for group in groups.values() {
            let logs: Vec<Vec<f64>> = group
                .iter()
                .map(|s| names.iter().map(|name| s.work.numbers[*name].ln()).collect())
                .collect();
            let size = group.len() as f64;
            let means: Vec<f64> =
                (0..n).map(|i| logs.iter().map(|row| row[i]).sum::<f64>() / size).collect();
            let mean = group.iter().map(|s| s.seconds.ln()).sum::<f64>() / size;
            for (row, sample) in logs.iter().zip(group) {
                let x: Vec<f64> =
                    row.iter().zip(&means).map(|(value, mean)| value - mean).collect();
                let expected: f64 = x.iter().zip(&guess).map(|(x, power)| x * power).sum();
                let rest = sample.seconds.ln() - mean - expected;
                for ((line, sum), x_i) in matrix.iter_mut().zip(&mut right).zip(&x) {
                    *sum += x_i * rest;
                    line.iter_mut().zip(&x).for_each(|(cell, x_j)| *cell += x_i * x_j);
                }
            }
        }
        (0..n).for_each(|i| matrix[i][i] += WEIGHT_OF_GUESS);
        let found = solve(matrix, right);
        let powers = names.into_iter().cloned().zip(guess.iter().zip(found));
        Self { powers: powers.map(|(name, (guess, more))| (name, guess + more)).collect() }
    }

    /// How many times as long `to` takes as `from`.
    #[must_use]
    pub fn ratio(&self, from: &Work, to: &Work) -> f64 {
        let log = self.powers.iter().map(|(name, power)| {
            match (from.numbers.get(name), to.numbers.get(name)) {
                (Some(from), Some(to)) => power * (to / from).ln(),
                _ => 0.0,
            }
        });
        log.sum::<f64>().exp()
    }
}

/// What a task takes in proportion to, whatever the past says of it. Not every `n_...` is one: with 128
/// backgrounds in place of one, training takes as long.
const COUNTS: [&str; 13] = [
    "epochs",
    "steps",
    "iterations",
    "iter",
    "repeats",
    "times",
    "rounds",
    "samples",
    "train",
    "images",
    "examples",
    "rows",
    "trees",
];

/// The power of a number of which the past says nothing: 1 for what counts work.
fn guess(name: &str) -> f64 {
    let name = name.rsplit('.').next().unwrap_or(name);
    let counted = name.strip_prefix("n_").or_else(|| name.strip_prefix("num_")).unwrap_or(name);
    f64::from(u8::from(COUNTS.contains(&counted)))
}

/// Solves a symmetric, positive definite system by elimination.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let n = right.len();
    for i in 0..n {
        let (above, below) = matrix.split_at_mut(i + 1);
        for (row, values) in below.iter_mut().enumerate() {
            let factor = values[i] / above[i][i];
            for (value, pivot) in values.iter_mut().zip(&above[i]).skip(i) {
                *value -= factor * pivot;
            }
            right[i + 1 + row] -= factor * right[i];
        }
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|j| matrix[i][j] * right[j]).sum();
        right[i] = (right[i] - known) / matrix[i][i];
    }
    right
}

/// The estimate of a task of a stage: from its own past if it has one, or else from the median of the
/// tasks of its group, or of all, each scaled to it.
#[must_use]
pub fn estimate(work: &Work, own: Option<&Sample>, past: &[Sample], scale: &Scale) -> Estimate {
    let scaled = |sample: &Sample| sample.seconds * scale.ratio(&sample.work, work);
    if let Some(own) = own {
        return Estimate { seconds: scaled(own), source: Source::Task };
    }
    let of_group = past.iter().filter(|s| s.work.group == work.group).map(scaled).collect();
    let seconds = median(of_group).or_else(|| median(past.iter().map(scaled).collect()));
    match seconds {
        Some(seconds) => Estimate { seconds, source: Source::Stage },
        None => Estimate { seconds: 0.0, source: Source::Unknown },
    }
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

    fn sample(numbers: &[(&str, f64)], group: &str, seconds: f64) -> Sample {
        let numbers = numbers.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Sample { work: Work { numbers, group: group.to_owned() }, seconds }
    }

    #[test]
    fn more_epochs_on_more_images_take_longer_even_if_all_of_the_past_is_of_one_size() {
        let past: Vec<Sample> = [4.0, 8.0, 16.0, 32.0]
            .map(|n_bg| {
                sample(
                    &[("epochs", 5.0), ("data.n_train", 2e4), ("n_bg", n_bg), ("lr", 0.001)],
                    "",
                    10.0,
                )
            })
            .to_vec();
        let scale = Scale::fit(&past);
        let poster = sample(
            &[("epochs", 10.0), ("data.n_train", 6e4), ("n_bg", 8.0), ("lr", 0.01)],
            "",
            0.0,
        );
        let own = estimate(&poster.work, Some(&past[1]), &past, &scale);
        assert_eq!(own.source, Source::Task);
        assert!((own.seconds - 60.0).abs() < 1e-6, "{own:?}");
        // The past knows that the number of backgrounds does not matter, whatever its name suggests.
        let many = sample(
            &[("epochs", 5.0), ("data.n_train", 2e4), ("n_bg", 128.0), ("lr", 0.001)],
            "",
            0.0,
        );
        let other = estimate(&many.work, None, &past, &scale);
        assert!((other.seconds / 10.0 - 1.0).abs() < 0.15, "{other:?}");
    }

    #[test]
    fn a_number_that_never_varied_counts_only_where_it_counts_work() {
        let past = [sample(&[("n_bg", 1.0), ("data.n_train", 6e4)], "", 34.0)];
        let scale = Scale::fit(&past);
        let of = |n_bg: f64, n_train: f64| {
            let to = sample(&[("n_bg", n_bg), ("data.n_train", n_train)], "", 0.0);
            estimate(&to.work, None, &past, &scale).seconds
        };
        assert!((of(128.0, 6e4) - 34.0).abs() < 1e-6, "{}", of(128.0, 6e4));
        assert!((of(1.0, 2e4) - 34.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn a_method_that_is_slower_is_estimated_by_its_own_kind() {
        let past = [
            sample(&[("epochs", 5.0)], "method=a", 10.0),
            sample(&[("epochs", 5.0)], "method=b", 30.0),
        ];
        let scale = Scale::fit(&past);
        let of = |group: &str| {
            estimate(&sample(&[("epochs", 10.0)], group, 0.0).work, None, &past, &scale).seconds
        };
        assert!((of("method=b") - 60.0).abs() < 1e-6 && (of("method=c") - 40.0).abs() < 1e-6);
        let nothing = estimate(&Work::default(), None, &[], &Scale::fit(&[]));
        assert_eq!(nothing, Estimate { seconds: 0.0, source: Source::Unknown });
    }

    proptest! {
        /// Times that are a product of powers are found again: the oracle is the formula that made them.
        #[test]
        fn powers_are_found_from_a_past_that_shows_them(
            (a, b) in (-1.0f64..2.0, -1.0f64..2.0),
            sizes in prop::collection::vec((1.0f64..100.0, 1.0f64..100.0), 5..30),
        ) {
            let seconds = |x: f64, y: f64| 3.0 * x.powf(a) * y.powf(b);
            let past: Vec<Sample> = sizes.iter()
                .map(|&(x, y)| sample(&[("width", x), ("n_images", y)], "", seconds(x, y)))
                .collect();
            let scale = Scale::fit(&past);
            let (from, to) = (&past[0], &past[1]);
            let ratio = scale.ratio(&from.work, &to.work);
            // The fit misses the samples by no more, in squares, than the true powers would be charged for
            // not being the guess.
            let pull = WEIGHT_OF_GUESS * (a.powi(2) + (b - 1.0).powi(2));
            let off = (ratio.ln() - (to.seconds / from.seconds).ln()).abs();
            prop_assert!(off <= 2.0 * pull.sqrt() + 1e-9, "off by {off}");
        }

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
