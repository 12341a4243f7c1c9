//! Whether a remote is worth asking: after trouble it is left alone for a while.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a remote is left alone after the first trouble; twice as long after every further one.
const PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// How a remote has done so far, in reading or in writing.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    troubles: u32,
    until: Option<Instant>,
}

impl Health {
    /// Whether to ask now.
    pub fn is_fine(&self, now: Instant) -> bool {
        self.state().until.is_none_or(|until| now >= until)
    }

    /// It answered.
    pub fn answered(&self) {
        let mut state = self.state();
        (state.troubles, state.until) = (0, None);
    }

    /// It did not.
    pub fn trouble(&self, now: Instant) {
        let mut state = self.state();
        // Requests that were under way together are one trouble.
        if state.until.is_none_or(|until| now >= until) {
            let pause = PAUSE * (1 << state.troubles.min(10));
            state.until = Some(now + pause.min(LONGEST_PAUSE));
            state.troubles += 1;
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_trouble_there_is_a_pause_and_it_doubles() {
        let health = Health::default();
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        assert!(health.is_fine(start));
        health.trouble(start);
        health.trouble(start);
        assert!(!health.is_fine(after(29)) && health.is_fine(after(30)));
        health.trouble(after(30));
        assert!(!health.is_fine(after(89)) && health.is_fine(after(90)));
        health.answered();
        assert!(health.is_fine(after(31)));
        for _ in 0..40 {
            health.trouble(after(100_000));
        }
        assert!(health.is_fine(after(100_600)));
    }
}
