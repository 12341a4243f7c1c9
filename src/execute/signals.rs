//! The signals that ask a run to stop.

use std::fs;
use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Cancel;

/// From now on SIGINT, SIGTERM and SIGHUP ask for a stop. Those that were ignored when this process started stay
/// ignored: `nohup dissim run` outlives its terminal.
///
/// # Errors
/// Returns an error if the signals cannot be listened for.
pub fn cancel_on_signals(cancel: &'static Cancel) -> io::Result<()> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = ignored(&status);
    let wanted = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|s| ignored >> (s - 1) & 1 == 0);
    let mut signals = Signals::new(wanted)?;
    std::thread::spawn(move || signals.forever().for_each(|_| cancel.request()));
    Ok(())
}

/// The set of signals that a process ignores, as `/proc/PID/status` has it: bit n - 1 stands for signal n.
fn ignored(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn ignored_signals_are_read() {
        let status = "Name:\tdissim\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\n";
        assert_eq!(super::ignored(status), 1 | 1 << 12);
        assert_eq!(super::ignored(""), 0);
    }
}
