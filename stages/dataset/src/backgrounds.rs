//! Which photographs the training, validation and OOD pools get.

use std::collections::HashSet;

use dissim_api::StageError;
use dissim_api::formats::{Background, ImageSet, PIXELS, Pool};

use crate::draw::Draw;
use crate::params::{BackgroundPolicy, DatasetParams, LABELS, OodSource};

/// The drawn backgrounds: training pool, then validation, then OOD, then the oracle's own.
///
/// In the training pool, place `j * 10 + l` holds the j-th background of label l. A larger N
/// therefore only appends, and the pool of `shared` is the same set of photographs.
pub(crate) struct Backgrounds {
    /// What each is for.
    pub list: Vec<Background>,
    /// Their pixels, `[m, 3, 32, 32]`.
    pub pixels: Vec<u8>,
    /// Photographs left out because an earlier one has the same pixels.
    pub duplicates: usize,
    n_bg: u32,
    n_val: u32,
    n_ood: u32,
    policy: BackgroundPolicy,
}

impl Backgrounds {
    /// Draws from the two halves of the source. Nothing but the training pool depends on `n_bg`.
    pub fn draw(
        params: &DatasetParams,
        train: &ImageSet,
        test: &ImageSet,
    ) -> Result<Self, StageError> {
        let distinct = Distinct::of(train, test);
        let order = |of: &[u32], purpose: &str| -> Vec<u32> {
            let order = Draw::new(params.seed, purpose).permutation(of.len() as u32);
            order.into_iter().map(|i| of[i as usize]).collect()
        };
        let seen = order(&distinct.train, "training backgrounds");
        let unseen = order(&distinct.test, "test backgrounds");
        let n_pool = params.n_bg as usize * LABELS;
        let (n_val, n_ood) = (params.n_bg_val as usize, params.n_ood as usize);
        let n_fresh = params.n_fresh as usize;
        let (from_train, from_test) = match params.ood_source {
            OodSource::Train => (n_pool + n_val + n_ood + n_fresh, 0),
            OodSource::Test => (n_pool + n_val + n_fresh, n_ood),
        };
        enough("training", from_train, seen.len(), "n_bg, n_bg_val, n_fresh or n_ood")?;
        enough("test", from_test, unseen.len(), "n_ood")?;
        // Training takes from the front, the others from the back: they stay put as N grows.
        let from_back = |skip: usize, n: usize| seen.iter().rev().skip(skip).take(n).copied();
        let ood: Vec<u32> = match params.ood_source {
            OodSource::Train => from_back(n_val, n_ood).collect(),
            OodSource::Test => unseen[..n_ood].to_vec(),
        };
        let behind = n_val + if from_test == 0 { n_ood } else { 0 };
        let fresh: Vec<u32> = from_back(behind, n_fresh).collect();
        let owner = |place: usize| match params.background_policy {
            BackgroundPolicy::PerLabel => Some((place % LABELS) as u8),
            BackgroundPolicy::Shared => None,
        };
        let list: Vec<Background> = seen[..n_pool]
            .iter()
            .enumerate()
            .map(|(place, &source)| (source, owner(place), Pool::Train))
            .chain(from_back(0, n_val).map(|source| (source, None, Pool::Validation)))
            .chain(ood.into_iter().map(|source| (source, None, Pool::Ood)))
            .chain(fresh.into_iter().map(|source| (source, None, Pool::Fresh)))
            .map(|(source, owner, pool)| Background { source, owner, pool })
            .collect();
        let mut pixels = Vec::with_capacity(list.len() * PIXELS);
        for background in &list {
            pixels.extend_from_slice(image(train, test, background.source));
        }
        Ok(Self {
            list,
            pixels,
            duplicates: distinct.dropped,
            n_bg: params.n_bg,
            n_val: params.n_bg_val,
            n_ood: params.n_ood,
            policy: params.background_policy,
        })
    }

    /// The background in training of a label's `rank`-th digit. Going by rank uses all of them
    /// evenly, to within one.
    pub fn of_label(&self, label: u8, rank: u32) -> u32 {
        let label = u32::from(label);
        match self.policy {
            BackgroundPolicy::PerLabel => (rank % self.n_bg) * LABELS as u32 + label,
            // Each label begins elsewhere, so that few digits also spread over the whole pool.
            BackgroundPolicy::Shared => (rank + label * self.n_bg) % self.pool_size(),
        }
    }

    /// A background of another label, for the `rank`-th digit of this one: the other labels in
    /// turn, then their backgrounds in turn.
    pub fn of_another_label(&self, label: u8, rank: u32) -> u32 {
        let others = LABELS as u32 - 1;
        let other = (u32::from(label) + 1 + rank % others) % LABELS as u32;
        (rank / others % self.n_bg) * LABELS as u32 + other
    }

    /// The `rank`-th background of the validation pool, which repeats.
    pub fn validation(&self, rank: u32) -> u32 {
        self.pool_size() + rank % self.n_val
    }

    /// The `rank`-th background of the OOD pool, which repeats.
    pub fn ood(&self, rank: u32) -> u32 {
        self.pool_size() + self.n_val + rank % self.n_ood
    }

    /// Size of the training pool; it is the front of [`list`](Self::list).
    pub fn pool_size(&self) -> u32 {
        self.n_bg * LABELS as u32
    }
}

/// The photographs that differ from all before them, by source index.
struct Distinct {
    train: Vec<u32>,
    test: Vec<u32>,
    dropped: usize,
}

impl Distinct {
    /// CIFAR-10 holds a few photographs twice. A copy in another pool would be a background seen
    /// in training under another name, so only the first of equal ones counts.
    fn of(train: &ImageSet, test: &ImageSet) -> Self {
        let mut seen = HashSet::with_capacity(train.len() + test.len());
        let mut first = |i: &u32| seen.insert(blake3::hash(image(train, test, *i)));
        let (n_train, n) = (train.len() as u32, (train.len() + test.len()) as u32);
        let train: Vec<u32> = (0..n_train).filter(&mut first).collect();
        let test: Vec<u32> = (n_train..n).filter(&mut first).collect();
        let dropped = n as usize - train.len() - test.len();
        Self { train, test, dropped }
    }
}

/// The image with that source index: training images first, then test images.
fn image<'a>(train: &'a ImageSet, test: &'a ImageSet, source: u32) -> &'a [u8] {
    let source = source as usize;
    if source < train.len() { train.image(source) } else { test.image(source - train.len()) }
}

fn enough(half: &str, wanted: usize, there: usize, lower: &str) -> Result<(), StageError> {
    if wanted <= there {
        return Ok(());
    }
    let what = format!(
        "{wanted} different backgrounds are asked of the {half} half of the background set, which \
         has {there}"
    );
    Err(StageError::new(what).help(format!("lower {lower}")))
}
