//! Which digit lies where on which background, for every split.

use dissim_api::StageError;
use dissim_api::formats::{ImageSet, NONE, Split, SplitName};

use crate::backgrounds::Backgrounds;
use crate::draw::Draw;
use crate::params::{BackgroundPolicy, DatasetParams, LABELS, Placement};

/// Rows and columns in which a 28x28 digit fits on 32x32 pixels.
const PLACES: u32 = 5;
/// The place in the middle.
const CENTER: [u8; 2] = [2, 2];

/// Digits of one half in the order of the rows that they make.
struct Digits {
    glyph: Vec<u32>,
    label: Vec<u8>,
    offset: Vec<[u8; 2]>,
}

impl Digits {
    fn new(params: &DatasetParams, glyphs: &ImageSet, glyph: Vec<u32>, purpose: &str) -> Self {
        let label = glyph.iter().map(|&g| glyphs.labels[g as usize]).collect();
        let mut draw = Draw::new(params.seed, purpose);
        let offset = glyph
            .iter()
            .map(|_| match params.placement {
                Placement::Center => CENTER,
                Placement::Random => [draw.below(PLACES) as u8, draw.below(PLACES) as u8],
            })
            .collect();
        Self { glyph, label, offset }
    }

    /// These digits, each on the background that `background` gives its row.
    fn on(&self, mut background: impl FnMut(usize) -> u32) -> Split {
        let mut split = Split::default();
        for row in 0..self.glyph.len() {
            split.push(self.glyph[row], background(row), self.offset[row], self.label[row]);
        }
        split
    }

    /// The rank of each row in a random order of all rows.
    fn ranks(&self, seed: u64, purpose: &str) -> Vec<u32> {
        let order = Draw::new(seed, purpose).permutation(self.glyph.len() as u32);
        let mut ranks = vec![0; order.len()];
        for (rank, &row) in order.iter().enumerate() {
            ranks[row as usize] = rank as u32;
        }
        ranks
    }

    /// The rank of each row among those of its label, in a random order.
    fn ranks_in_label(&self, seed: u64, purpose: &str) -> Vec<u32> {
        let order = Draw::new(seed, purpose).permutation(self.glyph.len() as u32);
        let mut next = [0; LABELS];
        let mut ranks = vec![0; order.len()];
        for row in order.into_iter().map(|row| row as usize) {
            let next = &mut next[usize::from(self.label[row])];
            ranks[row] = *next;
            *next += 1;
        }
        ranks
    }
}

/// Draws all splits. Which digits they hold, in which order and at which place depends on the seed
/// alone, so that runs of one seed are paired whatever their N.
pub(crate) fn draw(
    params: &DatasetParams,
    train_glyphs: &ImageSet,
    test_glyphs: &ImageSet,
    backgrounds: &Backgrounds,
) -> Result<[Split; 8], StageError> {
    let (train, held_out) = training_digits(params, train_glyphs)?;
    let test = test_digits(params, test_glyphs)?;
    let owned = |digits: &Digits, purpose: &str| {
        let ranks = digits.ranks_in_label(params.seed, purpose);
        digits.on(|row| backgrounds.of_label(digits.label[row], ranks[row]))
    };
    let bg_val = held_out.ranks(params.seed, "bg_val backgrounds");
    let ood = test.ranks(params.seed, "ood_test backgrounds");
    let conflict = match params.background_policy {
        BackgroundPolicy::PerLabel => {
            let ranks = test.ranks_in_label(params.seed, "conflict backgrounds");
            test.on(|row| backgrounds.of_another_label(test.label[row], ranks[row]))
        }
        BackgroundPolicy::Shared => Split::default(),
    };
    let mut splits: [Split; 8] = Default::default();
    let mut put = |name: SplitName, split: Split| splits[name as usize] = split;
    put(SplitName::Train, owned(&train, "train backgrounds"));
    put(SplitName::IdVal, owned(&held_out, "id_val backgrounds"));
    put(SplitName::BgVal, held_out.on(|row| backgrounds.validation(bg_val[row])));
    put(SplitName::IdTest, owned(&test, "id_test backgrounds"));
    put(SplitName::OodTest, test.on(|row| backgrounds.ood(ood[row])));
    put(SplitName::Conflict, conflict);
    put(SplitName::Black, test.on(|_| NONE));
    put(SplitName::BackgroundOnly, background_only(backgrounds));
    Ok(splits)
}

/// Training digits in drawn order, and those held out: from the two ends of one random order, so
/// that the same digits are held out whatever `n_train`.
fn training_digits(
    params: &DatasetParams,
    glyphs: &ImageSet,
) -> Result<(Digits, Digits), StageError> {
    let (n_train, n_val) = (params.n_train as usize, params.held_out() as usize);
    if n_train + n_val > glyphs.len() {
        let what = format!(
            "n_train {n_train} + n_val {n_val} digits are asked of a set that has {}",
            glyphs.len()
        );
        return Err(StageError::new(what).help("lower n_train or n_val"));
    }
    let mut order = Draw::new(params.seed, "training digits").permutation(glyphs.len() as u32);
    let held_out = order.split_off(glyphs.len() - n_val);
    order.truncate(n_train);
    Ok((
        Digits::new(params, glyphs, order, "training offsets"),
        Digits::new(params, glyphs, held_out, "held-out offsets"),
    ))
}

/// The test digits in their own order: all of them, or a drawn part.
fn test_digits(params: &DatasetParams, glyphs: &ImageSet) -> Result<Digits, StageError> {
    let n_test = params.n_test as usize;
    if n_test > glyphs.len() {
        let what = format!("n_test {n_test} digits are asked of a set that has {}", glyphs.len());
        return Err(StageError::new(what).help("lower n_test"));
    }
    let mut order = Draw::new(params.seed, "test digits").permutation(glyphs.len() as u32);
    order.truncate(n_test);
    order.sort_unstable();
    Ok(Digits::new(params, glyphs, order, "test offsets"))
}

/// Every owned background once, labelled with its owner.
fn background_only(backgrounds: &Backgrounds) -> Split {
    let mut split = Split::default();
    for place in 0..backgrounds.pool_size() {
        if let Some(owner) = backgrounds.list[place as usize].owner {
            split.push(NONE, place, CENTER, owner);
        }
    }
    split
}
