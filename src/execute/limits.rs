//! Ends a task that takes longer, or holds more memory, than its stage allows.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use dissim_processes::{kill_tree, memory, signal_tree};
use nix::sys::signal::Signal;

use crate::policy::Policy;

/// How often the system is asked what a task holds: in between, a process touches a few hundred
/// megabytes of new memory at most.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Why a task was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Breach {
    /// It took longer than this.
    Time(Duration),
    /// It held more memory than was allowed, in bytes.
    Memory { held: u64, allowed: u64 },
}

impl std::fmt::Display for Breach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let megabytes = |bytes: &u64| *bytes as f64 / 1e6;
        match self {
            Self::Time(limit) => {
                let limit = super::seconds(limit.as_secs_f64());
                write!(f, "the task was ended: it took longer than its timeout of {limit}")
            }
            Self::Memory { held, allowed } => write!(
                f,
                "the task was ended: out of memory: it held {:.0} MB, and its `resources.memory` is {:.0} MB",
                megabytes(held),
                megabytes(allowed)
            ),
        }
    }
}

/// Watches the process `task`, and all that it started, until `ended` is dropped. Returns what it was ended for,
/// if it was. One that takes too long gets SIGTERM and some time to react; one that holds too much may not be
/// able to.
pub(super) fn watch(task: i32, policy: &Policy, ended: &Receiver<()>) -> Option<Breach> {
    let allowed = policy.resources.memory;
    let deadline = policy.timeout.and_then(|limit| Instant::now().checked_add(limit));
    let gone = |wait: Duration| ended.recv_timeout(wait) != Err(RecvTimeoutError::Timeout);
    loop {
        let left = deadline.map_or(Duration::MAX, |d| d.saturating_duration_since(Instant::now()));
        // A pause of centuries cannot be added to a clock.
        let longest = if allowed > 0 { POLL_INTERVAL } else { Duration::from_secs(3600) };
        if gone(left.min(longest)) {
            return None;
        }
        let held = if allowed > 0 { memory(task) } else { 0 };
        if held > allowed {
            kill_tree(task);
            return Some(Breach::Memory { held, allowed });
        }
        if deadline.is_some_and(|d| Instant::now() >= d) {
            signal_tree(task, Signal::SIGTERM);
            if !gone(policy.grace) {
                kill_tree(task);
            }
            return policy.timeout.map(Breach::Time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaches_as_people_read_them() {
        let breach = Breach::Memory { held: 1_234_000_000, allowed: 500_000_000 };
        insta::assert_snapshot!(breach, @"the task was ended: out of memory: it held 1234 MB, and its `resources.memory` is 500 MB");
        insta::assert_snapshot!(Breach::Time(Duration::from_secs(90)), @"the task was ended: it took longer than its timeout of 1m 30s");
    }
}
