//! Which of the tasks that wait for a core is next.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::graph::TaskId;

/// So many times the longest path must be left for every core before a run may look at anything else.
const SLACK: f64 = 2.0;

type ByPath = (Reverse<u64>, TaskId);
type ByDepth = (Reverse<u32>, Reverse<u64>, TaskId);

/// Tasks that may start.
///
/// Where many chains wait for a few cores, what has begun is finished first: a model is evaluated before the
/// next is trained, so that results come from the beginning on, a live page grows, and an interrupted
/// run leaves answers. Towards the end, or with cores enough, the longest path decides: it starts first,
/// so that no core waits for it alone.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The longest path first, then the order of the file.
    by_path: BTreeSet<ByPath>,
    /// What most tasks led to first, then as above.
    by_depth: BTreeSet<ByDepth>,
    /// Milliseconds to the end of the run, by task.
    ranks: Vec<u64>,
    depths: Vec<u32>,
    /// Seconds that each task takes; 0 where it is over.
    left: Vec<f64>,
    /// Their sum.
    work: f64,
}

impl Queue {
    /// Whether `expect` told what there is to do.
    pub fn knows_the_work(&self) -> bool {
        !self.ranks.is_empty()
    }

    /// The seconds from each task to the end of the run, the tasks that lead to it, and the seconds it takes
    /// itself, 0 where it is over.
    pub fn expect(&mut self, ranks: Vec<f64>, depths: Vec<u32>, left: Vec<f64>) {
        self.ranks = ranks.into_iter().map(|seconds| (seconds * 1e3) as u64).collect();
        self.work = left.iter().sum();
        (self.depths, self.left) = (depths, left);
    }

    pub fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }

    pub fn insert(&mut self, task: TaskId) {
        let (by_path, by_depth) = self.places(task);
        self.by_path.insert(by_path);
        self.by_depth.insert(by_depth);
    }

    /// The first that fits, out of the queue.
    pub fn take(&mut self, cores: u32, mut fits: impl FnMut(TaskId) -> bool) -> Option<TaskId> {
        let (Reverse(longest), _) = *self.by_path.first()?;
        let in_time = self.work * 1e3 >= SLACK * longest as f64 * f64::from(cores.max(1));
        let task = if in_time {
            self.by_depth.iter().map(|place| place.2).find(|task| fits(*task))
        } else {
            self.by_path.iter().map(|place| place.1).find(|task| fits(*task))
        }?;
        let (by_path, by_depth) = self.places(task);
        self.by_path.remove(&by_path);
        self.by_depth.remove(&by_depth);
        Some(task)
    }

    /// A task is done, or will never be.
    pub fn over(&mut self, task: TaskId) {
        if let Some(seconds) = self.left.get_mut(task) {
            self.work -= std::mem::take(seconds);
        }
    }

    fn places(&self, task: TaskId) -> (ByPath, ByDepth) {
        let rank = Reverse(self.ranks[task]);
        ((rank, task), (Reverse(self.depths[task]), rank, task))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chains of a training of 10 seconds and an evaluation of 1: tasks 2 i and 2 i + 1.
    fn chains(n: usize) -> Queue {
        let mut queue = Queue::default();
        let each = |of: [f64; 2]| (0..n).flat_map(|_| of).collect::<Vec<f64>>();
        queue.expect(
            each([11.0, 1.0]),
            (0..2 * n).map(|t| (t % 2) as u32).collect(),
            each([10.0, 1.0]),
        );
        (0..n).for_each(|chain| queue.insert(2 * chain));
        queue
    }

    /// The order of one core after another, each task ending before the next is taken.
    fn order(queue: &mut Queue, cores: u32) -> Vec<TaskId> {
        let mut order = Vec::new();
        while let Some(task) = queue.take(cores, |_| true) {
            order.push(task);
            queue.over(task);
            if task % 2 == 0 {
                queue.insert(task + 1);
            }
        }
        assert!(queue.is_empty() && queue.work.abs() < 1e-9);
        order
    }

    #[test]
    fn what_has_begun_is_finished_first_while_there_is_time() {
        // 55 seconds of work, and 22 would be twice the longest path of one core: the last two chains
        // are not in time any more, and train first.
        assert_eq!(order(&mut chains(5), 1), [0, 1, 2, 3, 4, 5, 6, 8, 7, 9]);
        assert_eq!(order(&mut chains(5), 2), [0, 1, 2, 4, 6, 8, 3, 5, 7, 9]);
        // With a core for each chain there is nothing to gain.
        assert_eq!(order(&mut chains(3), 3), [0, 2, 4, 1, 3, 5]);
    }

    #[test]
    fn what_does_not_fit_is_overtaken_and_keeps_its_place() {
        let mut queue = chains(3);
        assert_eq!(queue.take(1, |task| task != 0), Some(2));
        assert_eq!(queue.take(1, |_| false), None);
        assert_eq!(queue.take(1, |_| true), Some(0));
    }
}
