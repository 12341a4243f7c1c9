//! What frozen embeddings still hold: linear probes, and a picture of them in a plane.
//!
//! A probe is a ridge classifier on the embeddings (Alain and Bengio, "Understanding intermediate
//! layers using linear classifier probes", 2016; ridge for its closed form), fitted on one half of
//! a test split and measured on the other.
//!
//! | probe | split | halves | asks |
//! |---|---|---|---|
//! | `probe_digit_acc` | OOD test | share no background | could a last layer find the digit on any background? |
//! | `probe_background_acc` | ID test | every other image | does the embedding tell which of the 10 N backgrounds it was? |
//!
//! A background belongs to one label, so embeddings that hold the digit and nothing else reach 1/N
//! in the second. `embedding_rank` is the effective rank of the embeddings of the ID test.

use std::collections::BTreeMap;

use dissim_api::formats::{NONE, Split, SplitName};
use dissim_kernel::CLASSES;
use polars::prelude::*;

use crate::linear::{Axes, Ridge};
use crate::predictions::Predictions;

/// Images that a probe is fitted on, and images that it is measured on, at most: the standard
/// error is then below 1 point, and a probe costs less than a pass over its split.
const PROBED: usize = 3_000;
/// Points of a split in the picture.
const POINTS: usize = 400;

/// What the probes found; none where a split is empty or embeddings are not numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Probes {
    pub digit: Option<f64>,
    pub background: Option<f64>,
    pub rank: Option<f64>,
}

/// A split with its embeddings, `[n, width]`.
#[derive(Clone, Copy)]
pub(crate) struct Embedded<'a> {
    pub split: &'a Split,
    pub embeddings: &'a [f32],
    pub width: usize,
}

impl<'a> Embedded<'a> {
    /// The split that `predictions` is of.
    pub fn new(split: &'a Split, predictions: &'a Predictions) -> Self {
        Self { split, embeddings: &predictions.embeddings, width: predictions.width }
    }

    fn row(&self, i: usize) -> &'a [f32] {
        &self.embeddings[i * self.width..(i + 1) * self.width]
    }

    /// The embeddings of some rows, below each other.
    fn rows(&self, rows: &[usize]) -> Vec<f32> {
        rows.iter().flat_map(|&i| self.row(i)).copied().collect()
    }

    /// A probe's accuracy on `test` after a fit on `fit`.
    fn probe(&self, [fit, test]: [Vec<usize>; 2], classes: &[usize], count: usize) -> Option<f64> {
        let [fit, test] = [fit, test].map(|rows| spread(&rows, PROBED));
        let known: Vec<usize> = fit.iter().map(|&i| classes[i]).collect();
        let ridge = Ridge::fit(&self.rows(&fit), self.width, &known, count)?;
        let right = test.iter().filter(|&&i| ridge.classify(self.row(i)) == classes[i]).count();
        (!test.is_empty()).then(|| right as f64 / test.len() as f64)
    }
}

impl Probes {
    /// Of the two tests.
    pub fn of(id: Embedded<'_>, ood: Embedded<'_>) -> Self {
        let rows = |e: Embedded<'_>| 0..e.split.len();
        let digits: Vec<usize> = ood.split.label.iter().map(|&l| l.into()).collect();
        // By background, so that the probe can not know those it is measured on.
        let halves = rows(ood).partition(|&i| ood.split.background[i].is_multiple_of(2));
        let digit = ood.probe(halves.into(), &digits, CLASSES);
        let (backgrounds, count) = numbered(&id.split.background);
        let background = id.probe(every_other(&backgrounds), &backgrounds, count);
        let rank = Axes::of(id.embeddings, id.width).and_then(|axes| axes.effective_rank());
        Self { digit, background, rank }
    }
}

/// The embeddings of both tests on the first two principal axes of the ID test's: `split`, `label`,
/// `background` (a number of the data set's), `x`, `y`, `share_x` and `share_y` of the variance.
pub(crate) fn plane(id: Embedded<'_>, ood: Embedded<'_>) -> PolarsResult<DataFrame> {
    let axes = Axes::of(id.embeddings, id.width);
    let (mut split, mut label, mut background) = (vec![], vec![], vec![]);
    let (mut x, mut y) = (vec![], vec![]);
    if let Some(axes) = &axes {
        for (name, embedded) in [(SplitName::IdTest, id), (SplitName::OodTest, ood)] {
            for i in spread(&(0..embedded.split.len()).collect::<Vec<_>>(), POINTS) {
                let [across, up] = axes.plane(embedded.row(i));
                split.push(name.as_str());
                label.push(i64::from(embedded.split.label[i]));
                background.push(i64::from(embedded.split.background[i]));
                x.push(across);
                y.push(up);
            }
        }
    }
    let shares = axes.map_or([0.0; 2], |axes| {
        let total: f64 = axes.variances.iter().sum();
        [0, 1].map(|i| if total > 0.0 { axes.variances[i] / total } else { 0.0 })
    });
    let n = x.len();
    df!("split" => split, "label" => label, "background" => background, "x" => x, "y" => y,
        "share_x" => vec![shares[0]; n], "share_y" => vec![shares[1]; n])
}

/// At most `most` of the rows, evenly spread.
fn spread(rows: &[usize], most: usize) -> Vec<usize> {
    let n = rows.len().min(most);
    (0..n).map(|i| rows[i * rows.len() / n]).collect()
}

/// Rows in two halves, in each of which every class has half of its rows.
fn every_other(classes: &[usize]) -> [Vec<usize>; 2] {
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    let mut halves = [Vec::new(), Vec::new()];
    for (i, &class) in classes.iter().enumerate() {
        let count = seen.entry(class).or_default();
        halves[*count % 2].push(i);
        *count += 1;
    }
    halves
}

/// Backgrounds as consecutive numbers, by size, and how many there are.
fn numbered(backgrounds: &[u32]) -> (Vec<usize>, usize) {
    debug_assert!(backgrounds.iter().all(|&b| b != NONE));
    let mut all = backgrounds.to_vec();
    all.sort_unstable();
    all.dedup();
    let number = |b: &u32| all.binary_search(b).unwrap_or_else(|_| unreachable!("it is in `all`"));
    (backgrounds.iter().map(number).collect(), all.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dissim_kernel::EMBEDDING;

    /// Embeddings whose unit `label * 4 + background % 4` is on, in a split of 10 labels with 4
    /// backgrounds each, or of one background anywhere.
    fn embedded(
        backgrounds: impl Fn(usize) -> u32,
        unit: impl Fn(u8, u32) -> usize,
    ) -> (Split, Vec<f32>) {
        let mut split = Split::default();
        let mut embeddings = vec![0.0; 400 * EMBEDDING];
        for i in 0..400 {
            let (label, background) = ((i % 10) as u8, backgrounds(i));
            split.push(i as u32, background, [2, 2], label);
            embeddings[i * EMBEDDING + unit(label, background)] = 1.0;
        }
        (split, embeddings)
    }

    #[test]
    fn probes_find_what_is_there_and_nothing_else() {
        let own = |i: usize| (i % 10 * 4 + i / 10 % 4) as u32;
        let other = |i: usize| (i / 8) as u32 + 100;
        let digits = |label: u8, _: u32| usize::from(label);
        let (id, z) = embedded(own, |_, background| background as usize);
        let (ood, far) = embedded(other, digits);
        let wrap = |split, embeddings| Embedded { split, embeddings, width: EMBEDDING };
        let all = Probes::of(wrap(&id, &z), wrap(&ood, &far));
        assert_eq!((all.digit, all.background), (Some(1.0), Some(1.0)));
        // Embeddings of the digit alone: one of four backgrounds is a guess.
        let (id, z) = embedded(own, digits);
        let one = Probes::of(wrap(&id, &z), wrap(&ood, &far)).background.unwrap();
        assert!((one - 0.25).abs() < 0.05, "{one}");
        // Ten equal clusters span nine axes.
        let rank = Axes::of(&z, EMBEDDING).unwrap().effective_rank().unwrap();
        assert!((rank - 9.0).abs() < 1e-6, "{rank}");
        // Embeddings of the background alone say nothing of the digit on new backgrounds.
        let (ood, far) = embedded(other, |_, background| background as usize % 84);
        let none = Probes::of(wrap(&id, &z), wrap(&ood, &far)).digit.unwrap();
        assert!(none < 0.2, "{none}");
        let picture = plane(wrap(&id, &z), wrap(&ood, &far)).unwrap();
        assert_eq!(picture.height(), 2 * POINTS);
    }

    #[test]
    fn nothing_comes_of_nothing() {
        let empty = Split::default();
        let none = Embedded { split: &empty, embeddings: &[], width: EMBEDDING };
        assert_eq!(Probes::of(none, none), Probes::default());
        assert_eq!(plane(none, none).unwrap().height(), 0);
    }
}
