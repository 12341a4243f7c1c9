//! Which samples go into which batch: drawn from the seed and the epoch alone, so that every
//! method of a seed sees the same batches, and a resumed run the same as an undisturbed one.

use dissim_api::StageError;
use dissim_api::formats::{Dataset, NONE, Pool, SplitName};

/// A stream of random numbers for one purpose, from blake3's extendable output: the same for ever,
/// on every machine.
pub(crate) struct Stream(blake3::OutputReader);

impl Stream {
    /// The stream for `purpose` under `seed`.
    pub fn new(purpose: &str, seed: u64, index: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(purpose);
        hasher.update(&seed.to_le_bytes());
        hasher.update(&index.to_le_bytes());
        Self(hasher.finalize_xof())
    }

    pub fn next(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Uniform in `0..n`, by multiplication (Lemire 2019); the bias is below n / 2^64.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// Puts values into a random order: Fisher-Yates.
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for i in (1..values.len()).rev() {
            values.swap(i, self.below(i + 1));
        }
    }

    /// Uniform in [-1, 1).
    pub fn symmetric(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// The order of an epoch's samples.
pub(crate) fn order(samples: usize, seed: u64, epoch: u32) -> Vec<u32> {
    let mut stream = Stream::new("dissim train order v1", seed, epoch.into());
    let mut order: Vec<u32> = (0..samples as u32).collect();
    stream.shuffle(&mut order);
    order
}

/// The backgrounds of an epoch where each digit's is drawn anew among those of its label.
pub(crate) fn resampled_backgrounds(dataset: &Dataset, seed: u64, epoch: u32) -> Vec<u32> {
    let split = dataset.split(SplitName::Train);
    let mut owned = vec![Vec::new(); 10];
    for (&label, &background) in split.label.iter().zip(&split.background) {
        owned[usize::from(label)].push(background);
    }
    for backgrounds in &mut owned {
        backgrounds.sort_unstable();
        backgrounds.dedup();
    }
    let mut stream = Stream::new("dissim train backgrounds v1", seed, epoch.into());
    let draw = |&label: &u8| {
        let owned = &owned[usize::from(label)];
        owned[stream.below(owned.len())]
    };
    split.label.iter().map(draw).collect()
}

/// The backgrounds of an epoch where each digit's is drawn anew from the pool for that, whatever its
/// label; from the validation pool where the data set has no such pool.
///
/// # Errors
/// When the data set has no such backgrounds.
pub(crate) fn fresh_backgrounds(
    dataset: &Dataset,
    seed: u64,
    epoch: u32,
) -> Result<Vec<u32>, StageError> {
    let of = |pool: Pool| -> Vec<u32> {
        let all = (0..).zip(&dataset.backgrounds);
        all.filter(|(_, b)| b.pool == pool).map(|(i, _)| i).collect()
    };
    let fresh = of(Pool::Fresh);
    let pool = if fresh.is_empty() { of(Pool::Validation) } else { fresh };
    if pool.is_empty() {
        return Err(StageError::new(
            "`method: oracle` needs backgrounds of its own, or a validation pool",
        )
        .help("give the data set some: n_fresh or n_bg_val above 0"));
    }
    let mut stream = Stream::new("dissim train fresh backgrounds v1", seed, epoch.into());
    let rows = dataset.split(SplitName::Train).len();
    Ok((0..rows).map(|_| pool[stream.below(pool.len())]).collect())
}

/// One number for every label and background together: what the penalty calls a group.
pub(crate) fn groups(labels: &[u8], backgrounds: &[u32]) -> Vec<u32> {
    debug_assert!(backgrounds.iter().all(|&b| b != NONE));
    labels.iter().zip(backgrounds).map(|(&l, &b)| b * 10 + u32::from(l)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dissim_api::formats::{Background, Compose, DatasetInfo, Glyphs, Split};

    #[test]
    fn an_order_is_a_permutation_of_its_own() {
        let (first, second) = (order(1000, 3, 1), order(1000, 3, 2));
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_ne!(first, second);
        assert_ne!(first, order(1000, 4, 1));
        assert_eq!(first, order(1000, 3, 1));
        assert!(order(0, 1, 1).is_empty());
    }

    /// 200 training rows, two backgrounds a label.
    fn dataset() -> Dataset {
        let mut splits: [Split; 8] = Default::default();
        for row in 0..200 {
            let label = row % 10;
            let background = label * 2 + row / 10 % 2;
            splits[SplitName::Train as usize].push(row, background, [2, 2], label as u8);
        }
        let glyphs = || Glyphs { item: vec![28, 28], images: Vec::new(), labels: Vec::new() };
        let background =
            |i: u32| Background { source: i, owner: Some((i / 2) as u8), pool: Pool::Train };
        Dataset {
            info: DatasetInfo {
                version: Dataset::VERSION,
                params: Default::default(),
                compose: Compose::Alpha,
                digit_colour: [255; 3],
                sizes: Default::default(),
            },
            train_glyphs: glyphs(),
            test_glyphs: glyphs(),
            background_pixels: Vec::new(),
            backgrounds: (0..20).map(background).collect(),
            splits,
        }
    }

    #[test]
    fn backgrounds_drawn_anew_stay_their_labels_own() {
        let dataset = dataset();
        let train = dataset.split(SplitName::Train);
        let [first, second] = [1, 2].map(|epoch| resampled_backgrounds(&dataset, 0, epoch));
        assert_eq!(first, resampled_backgrounds(&dataset, 0, 1));
        assert_ne!(first, second);
        assert_ne!(first, train.background);
        for (background, &label) in first.iter().zip(&train.label) {
            assert_eq!(background / 2, u32::from(label));
        }
    }

    #[test]
    fn the_oracle_draws_from_its_pool_alone() {
        let mut dataset = dataset();
        let error = fresh_backgrounds(&dataset, 0, 1).unwrap_err();
        assert_eq!(
            error.what,
            "`method: oracle` needs backgrounds of its own, or a validation pool"
        );
        for background in [7, 11, 13] {
            dataset.backgrounds[background].pool = Pool::Validation;
        }
        let mut drawn = fresh_backgrounds(&dataset, 0, 1).unwrap();
        assert_eq!(drawn.len(), 200);
        assert_ne!(drawn, fresh_backgrounds(&dataset, 0, 2).unwrap());
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn, [7, 11, 13]);
        // A pool of its own comes first.
        dataset.backgrounds[5].pool = Pool::Fresh;
        assert!(fresh_backgrounds(&dataset, 0, 1).unwrap().iter().all(|b| *b == 5));
    }

    #[test]
    fn groups_tell_labels_and_backgrounds_apart() {
        assert_eq!(groups(&[1, 1, 2, 1], &[5, 5, 5, 6]), [51, 51, 52, 61]);
    }
}
