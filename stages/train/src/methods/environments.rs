//! Slots: environments for methods that need some, made of backgrounds that belong to one label only.
//!
//! Each label's N backgrounds are split into E parts by number, and slot e holds the e-th part of
//! every label. A slot then has all labels, as an environment must. What holds in every slot is that
//! backgrounds give labels away, so theory promises nothing to methods that look for what is
//! invariant: the shortcut is.

use std::collections::BTreeMap;

use dissim_api::formats::{Dataset, SplitName};

use super::Batch;
use crate::batches::groups;

/// The slot of every group of label and background.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    of_group: BTreeMap<u32, usize>,
    count: usize,
}

impl Slots {
    /// Splits the backgrounds of the training set into at most `count` slots.
    #[must_use]
    pub fn new(dataset: &Dataset, count: usize) -> Self {
        let split = dataset.split(SplitName::Train);
        Self::of(&split.label, &split.background, count)
    }

    /// Of samples with these labels and backgrounds.
    #[must_use]
    pub fn of(labels: &[u8], backgrounds: &[u32], count: usize) -> Self {
        let mut own: BTreeMap<u8, BTreeMap<u32, u32>> = BTreeMap::new();
        let numbers = groups(labels, backgrounds);
        for ((&label, &background), group) in labels.iter().zip(backgrounds).zip(numbers) {
            own.entry(label).or_default().insert(background, group);
        }
        let mut of_group = BTreeMap::new();
        for groups in own.values() {
            for (rank, &group) in groups.values().enumerate() {
                of_group.insert(group, rank * count / groups.len());
            }
        }
        Self { of_group, count }
    }

    /// The samples of each slot that is in the batch.
    #[must_use]
    pub fn members(&self, batch: &Batch<'_>) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); self.count];
        for (i, group) in batch.groups.iter().enumerate() {
            members[self.of_group.get(group).copied().unwrap_or(0)].push(i);
        }
        members.retain(|slot| !slot.is_empty());
        members
    }

    /// The slot of each sample of the batch.
    #[cfg(test)]
    #[must_use]
    pub fn numbers(&self, batch: &Batch<'_>) -> Vec<usize> {
        let slot = |group| self.of_group.get(group).copied().unwrap_or(0);
        batch.groups.iter().map(slot).collect()
    }
}

/// When a penalty on environments reaches its weight: DomainBed's default for IRM and V-REx.
pub const ANNEALED: u64 = 500;

/// The weight of such a penalty: 1 at first, `weight` after [`ANNEALED`] steps, as DomainBed has it.
#[must_use]
pub fn annealed(weight: f64, step: u64) -> f64 {
    if step < ANNEALED { 1.0 } else { weight }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_a_part_of_every_label() {
        let labels = [0, 0, 0, 0, 1, 1, 1, 1];
        let backgrounds = [3, 1, 0, 2, 8, 7, 5, 6];
        let slots = Slots::of(&labels, &backgrounds, 2);
        let slot = |i: usize| slots.of_group[&groups(&labels, &backgrounds)[i]];
        assert_eq!((0..8).map(slot).collect::<Vec<_>>(), [1, 0, 0, 1, 1, 1, 0, 0]);
        // With fewer backgrounds than slots, some slots stay empty.
        let few = Slots::of(&[0, 1], &[0, 1], 4);
        assert!(few.of_group.values().all(|&slot| slot == 0));
    }

    #[test]
    fn the_weight_rises_once() {
        assert_eq!([0, 499, 500].map(|step| annealed(10.0, step)), [1.0, 1.0, 10.0]);
    }
}
