//! Ends a task that takes longer, or holds more memory, than its stage allows.

use std::fs;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::policy::Policy;

/// How long a task may take to die of SIGTERM.
pub(super) const GRACE: Duration = Duration::from_secs(3);
/// How often the system is asked what a task holds: in between, a process touches a few hundred
/// megabytes of new memory at most.
const POLL: Duration = Duration::from_millis(50);

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

/// Watches the process group `group` until `ended` is dropped. Says what it was ended for, if it was.
/// One that takes too long is asked first; one that holds too much may not be able to answer.
pub(super) fn watch(group: i32, policy: &Policy, ended: &Receiver<()>) -> Option<Breach> {
    let allowed = policy.resources.memory;
    let deadline = policy.timeout.and_then(|limit| Instant::now().checked_add(limit));
    let gone = |wait: Duration| ended.recv_timeout(wait) != Err(RecvTimeoutError::Timeout);
    loop {
        let left = deadline.map_or(Duration::MAX, |d| d.saturating_duration_since(Instant::now()));
        // A pause of centuries cannot be added to a clock.
        let pause = if allowed > 0 { left.min(POLL) } else { left.min(Duration::from_secs(3600)) };
        if gone(pause) {
            return None;
        }
        let held = if allowed > 0 { held(group) } else { 0 };
        if held > allowed {
            signal(group, Signal::SIGKILL);
            return Some(Breach::Memory { held, allowed });
        }
        if deadline.is_some_and(|d| Instant::now() >= d) {
            signal(group, Signal::SIGTERM);
            if !gone(GRACE) {
                signal(group, Signal::SIGKILL);
            }
            return policy.timeout.map(Breach::Time);
        }
    }
}

fn signal(group: i32, signal: Signal) {
    // A process that is gone already is what was wanted.
    let _ = killpg(Pid::from_raw(group), signal);
}

/// Bytes of memory that a process and its descendants hold, files that the system may drop left
/// out. 0 where the system does not say.
fn held(process: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let children = children.unwrap_or_default();
    let below = children.split_whitespace().filter_map(|child| child.parse().ok()).map(held);
    resident(&status) + below.sum::<u64>()
}

/// What `/proc/PID/status` says of memory that belongs to no file, in bytes.
fn resident(status: &str) -> u64 {
    let kilobytes = status.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        let counts = ["RssAnon", "RssShmem"].contains(&name);
        counts.then(|| value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())?
    });
    kilobytes.sum::<u64>() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_files_does_not_count() {
        let status = "Name:\tx\nVmRSS:\t  900 kB\nRssAnon:\t  300 kB\nRssFile:\t  500 kB\nRssShmem:\t  100 kB\n";
        assert_eq!(resident(status), 400 * 1024);
        assert_eq!(resident(""), 0);
        assert_eq!(held(-1), 0);
    }

    #[test]
    fn breaches_as_people_read_them() {
        let breach = Breach::Memory { held: 1_234_000_000, allowed: 500_000_000 };
        insta::assert_snapshot!(breach, @"the task was ended: out of memory: it held 1234 MB, and its `resources.memory` is 500 MB");
        insta::assert_snapshot!(Breach::Time(Duration::from_secs(90)), @"the task was ended: it took longer than its timeout of 1m 30s");
    }
}
