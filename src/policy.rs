//! How a stage's tasks are run: again after a failure, for how long, on how much of the machine. None
//! of it changes a result, so none of it is part of a key. Pure functions of what they are given.

use std::time::Duration;

/// How long a program may take to react to SIGTERM, unless its stage says otherwise.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// The longest wait before another attempt.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// `retry:`, `timeout:`, `grace:` and `resources:` of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What to do after a failure.
    pub retry: Retry,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// How long a task may take to react to SIGTERM before it is killed.
    pub grace: Duration,
    /// What one task takes of the machine.
    pub resources: Resources,
    /// What a cluster is told beside that.
    pub cluster: ClusterWishes,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            retry: Retry::default(),
            timeout: None,
            grace: DEFAULT_GRACE,
            resources: Resources::default(),
            cluster: ClusterWishes::default(),
        }
    }
}

/// What a stage asks of a cluster, in the cluster's own words; a single machine has no use for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterWishes {
    /// Generic resources, such as `gpu:1`.
    pub gres: Option<String>,
    /// The partition.
    pub partition: Option<String>,
}

/// How often a failed task is tried again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retry {
    /// Further attempts after the first.
    pub times: u32,
    /// The wait before the second attempt; it doubles with every further one.
    pub wait: Duration,
}

impl Retry {
    /// The wait before another attempt after so many failed ones; none where it is given up.
    #[must_use]
    pub fn after(&self, failed: u32) -> Option<Duration> {
        let doublings = failed.saturating_sub(1).min(20);
        (failed <= self.times).then(|| (self.wait * (1 << doublings)).min(LONGEST_WAIT))
    }
}

/// What one task takes of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// Cores; the task's thread pools are this large.
    pub cpus: u32,
    /// Bytes of memory; 0 where nothing was said.
    pub memory: u64,
}

impl Default for Resources {
    fn default() -> Self {
        Self { cpus: 1, memory: 0 }
    }
}

/// What is free of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    all: Resources,
    free: Resources,
}

impl Budget {
    /// Everything is free.
    #[must_use]
    pub fn new(all: Resources) -> Self {
        Self { free: all.clone(), all }
    }

    /// What a task really takes: one that asks for more cores than there are takes all of them.
    fn share(&self, wanted: &Resources) -> Resources {
        Resources { cpus: wanted.cpus.clamp(1, self.all.cpus.max(1)), memory: wanted.memory }
    }

    /// Why a task can never run here.
    #[must_use]
    pub fn refuses(&self, wanted: &Resources) -> Option<String> {
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        (wanted.memory > self.all.memory).then(|| {
            format!(
                "it asks for {:.1} GB of memory, and this machine has {:.1} GB: lower `resources.memory`",
                gigabytes(wanted.memory),
                gigabytes(self.all.memory),
            )
        })
    }

    /// Whether there is a core for another task.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.free.cpus > 0
    }

    /// Takes a share where it is free.
    pub fn take(&mut self, wanted: &Resources) -> bool {
        let share = self.share(wanted);
        let fits = share.cpus <= self.free.cpus && share.memory <= self.free.memory;
        if fits {
            self.free.cpus -= share.cpus;
            self.free.memory -= share.memory;
        }
        fits
    }

    /// Gives a share back.
    pub fn give_back(&mut self, wanted: &Resources) {
        let share = self.share(wanted);
        self.free.cpus += share.cpus;
        self.free.memory += share.memory;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_wait_doubles_up_to_ten_minutes() {
        let retry = Retry { times: 40, wait: Duration::from_secs(100) };
        let waits: Vec<_> = [1, 2, 3, 4, 40].map(|n| retry.after(n).unwrap().as_secs()).to_vec();
        assert_eq!(waits, [100, 200, 400, 600, 600]);
        assert_eq!(retry.after(41), None);
        assert_eq!(Retry::default().after(1), None);
    }

    #[test]
    fn more_memory_than_there_is_is_refused() {
        let budget = Budget::new(Resources { cpus: 2, memory: 8_000_000_000 });
        assert_eq!(budget.refuses(&Resources { cpus: 9, memory: 8_000_000_000 }), None);
        insta::assert_snapshot!(
            budget.refuses(&Resources { cpus: 1, memory: 64_000_000_000 }).unwrap(),
            @"it asks for 64.0 GB of memory, and this machine has 8.0 GB: lower `resources.memory`"
        );
    }

    proptest! {
        /// Never more at once than there is, and all of it back in the end.
        #[test]
        fn a_budget_is_never_overdrawn(
            asks in prop::collection::vec((0u32..6, 0u64..12), 1..40), cpus in 1u32..5
        ) {
            let all = Resources { cpus, memory: 10 };
            let mut budget = Budget::new(all.clone());
            let mut running: Vec<Resources> = Vec::new();
            for (cpus, memory) in asks {
                let wanted = Resources { cpus, memory };
                if budget.take(&wanted) {
                    running.push(wanted);
                } else if let Some(done) = running.pop() {
                    budget.give_back(&done);
                }
                let cores: u32 = running.iter().map(|r| r.cpus.clamp(1, all.cpus)).sum();
                let memory: u64 = running.iter().map(|r| r.memory).sum();
                prop_assert!(cores <= all.cpus && memory <= all.memory);
            }
            running.iter().for_each(|r| budget.give_back(r));
            prop_assert_eq!(budget, Budget::new(all));
        }
    }
}
