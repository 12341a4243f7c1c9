//! Batches of P groups with K images each, so that the number of pairs in a batch does not fall with
//! the number of groups: under a plain shuffle it does, as 1/N.
//!
//! P x K sampling is that of Hermans et al., "In defense of the triplet loss for person
//! re-identification" (2017, section 2), with the epoch kept as it is: as many images as the set has.
//! Each group's images are cut into chunks of K in a random order. Of the chunks that come out short,
//! as many as fill the epoch are topped up with images of their group that are in the epoch already;
//! the images of the others wait for another epoch. A group with fewer than K images comes whole.

use std::collections::BTreeMap;

use crate::batches::Stream;

/// Images of one group that lie side by side.
struct Chunk {
    group: u32,
    rows: Vec<u32>,
}

/// The order of an epoch's samples, of which `groups` has the group: as many as there are, in which
/// each batch of `batch_size` holds `batch_size / k` groups with `k` samples each. Where there are
/// fewer groups than that, a batch has some more than once. From the seed and the epoch alone.
pub(crate) fn order(
    groups: &[u32],
    k: usize,
    batch_size: usize,
    seed: u64,
    epoch: u32,
) -> Vec<u32> {
    let mut stream = Stream::new("dissim train groups v1", seed, epoch.into());
    let mut chunks = chunks(groups, k, &mut stream);
    stream.shuffle(&mut chunks);
    part(&mut chunks, batch_size / k);
    let mut order: Vec<u32> = chunks.into_iter().flat_map(|chunk| chunk.rows).collect();
    order.truncate(groups.len());
    order
}

/// Every group's images in chunks of `k`: no fewer images than there are, and less than `k` more.
fn chunks(groups: &[u32], k: usize, stream: &mut Stream) -> Vec<Chunk> {
    let mut members: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (row, &group) in (0..).zip(groups) {
        members.entry(group).or_default().push(row);
    }
    let (mut chunks, mut left) = (Vec::new(), Vec::new());
    for (&group, rows) in &mut members {
        stream.shuffle(rows);
        let whole = rows.len() < k;
        for rows in rows.chunks(k) {
            if rows.len() == k || whole {
                chunks.push(Chunk { group, rows: rows.to_vec() });
            } else {
                left.extend(std::iter::repeat_n(group, rows.len()));
            }
        }
    }
    // A draw without replacement in which every image that is left speaks for its group.
    let needed = left.len().div_ceil(k);
    stream.shuffle(&mut left);
    let mut chosen = Vec::new();
    for group in left {
        if chosen.len() < needed && !chosen.contains(&group) {
            chosen.push(group);
        }
    }
    for group in chosen {
        let rows = &members[&group];
        let (used, short) = rows.split_at(rows.len() / k * k);
        let topped = short.iter().chain(used).copied().take(k).collect();
        chunks.push(Chunk { group, rows: topped });
    }
    chunks
}

/// Exchanges chunks so that no `p` of them that make a batch share a group, as far as that can be:
/// with a later chunk, or at the end of the epoch with one of an earlier batch that has room for it.
fn part(chunks: &mut [Chunk], p: usize) {
    let mut all: Vec<u32> = chunks.iter().map(|c| c.group).collect();
    all.sort_unstable();
    all.dedup();
    let has = |batch: &[Chunk], group: u32| batch.iter().any(|c| c.group == group);
    for at in 0..chunks.len() {
        let (start, group) = (at / p * p, chunks[at].group);
        // A batch that has every group already takes what comes.
        if at - start >= all.len() || !has(&chunks[start..at], group) {
            continue;
        }
        let fits = |j: &usize| !has(&chunks[start..at], chunks[*j].group);
        let room = |j: &usize| !has(&chunks[j / p * p..j / p * p + p], group);
        let other = (at + 1..chunks.len()).find(fits);
        if let Some(other) = other.or_else(|| (0..start).find(|j| fits(j) && room(j))) {
            chunks.swap(at, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How often each sample comes.
    fn counts(order: &[u32], n: usize) -> Vec<usize> {
        let mut counts = vec![0; n];
        order.iter().for_each(|&row| counts[row as usize] += 1);
        counts
    }

    proptest! {
        #[test]
        fn an_epoch_is_as_long_as_ever(
            groups in prop::collection::vec(0u32..9, 0..300),
            k in 2usize..6,
            p in 1usize..5,
            seed: u64,
        ) {
            let order = order(&groups, k, k * p, seed, 1);
            prop_assert_eq!(order.len(), groups.len());
            prop_assert!(counts(&order, groups.len()).iter().all(|c| *c <= 2));
            prop_assert_eq!(&order, &super::order(&groups, k, k * p, seed, 1));
            // Side by side: a run of equal groups ends at a multiple of K, but for groups with
            // fewer than K samples, and the cut at the end.
            if groups.iter().all(|g| groups.iter().filter(|h| *h == g).count() >= k) {
                for chunk in order.chunks(k) {
                    prop_assert!(chunk.iter().all(|&r| groups[r as usize] == groups[chunk[0] as usize]));
                    let mut distinct = chunk.to_vec();
                    distinct.sort_unstable();
                    distinct.dedup();
                    prop_assert_eq!(distinct.len(), chunk.len(), "an image is no pair of itself");
                }
            }
        }
    }

    /// 80 groups of 50: as at N = 8 with 4,000 images, 16 groups with 4 images each a batch.
    #[test]
    fn a_batch_has_as_many_pairs_as_asked_for() {
        let groups: Vec<u32> = (0..4000).map(|i| i % 80).collect();
        let order = order(&groups, 4, 64, 7, 3);
        let mut batches: Vec<usize> = Vec::new();
        for batch in order.chunks_exact(64) {
            let mut sizes = BTreeMap::new();
            batch.iter().for_each(|&row| *sizes.entry(groups[row as usize]).or_insert(0) += 1);
            batches.push(sizes.values().map(|s: &usize| s * (s - 1)).sum());
        }
        assert!(batches.iter().all(|pairs| *pairs == 16 * 4 * 3), "{batches:?}");
        assert_ne!(order, super::order(&groups, 4, 64, 7, 4));
        assert_ne!(order, super::order(&groups, 4, 64, 8, 3));
        // 50 is 12 chunks and 2 over: of 80 short chunks 40 are topped up.
        let counts = counts(&order, 4000);
        let times = |n: usize| counts.iter().filter(|c| **c == n).count();
        assert_eq!([times(0), times(1), times(2)], [80, 3840, 80]);
    }

    #[test]
    fn fewer_groups_than_a_batch_has_room_for() {
        let groups: Vec<u32> = (0..400).map(|i| i % 10).collect();
        let order = order(&groups, 4, 64, 0, 1);
        // Ten groups fill 40 places; every group is in every batch.
        for batch in order.chunks_exact(64).take(5) {
            let mut present: Vec<u32> = batch.iter().map(|&row| groups[row as usize]).collect();
            present.sort_unstable();
            present.dedup();
            assert_eq!(present.len(), 10);
        }
    }
}
