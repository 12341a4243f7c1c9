//! The processes of a task: all that descend from one process, whatever sessions and groups they made for
//! themselves.
//!
//! `dissim task` is a subreaper: a process whose parent is gone becomes its child, so everything that a
//! program starts stays below it until it ends.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// A process that was killed ends within this time, unless it waits for a device that does not answer.
const MAX_KILL_TIME: Duration = Duration::from_secs(5);
/// How often it is looked whether all are gone.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// What `/proc/PID/stat` says of a process.
struct Process {
    pid: i32,
    parent: i32,
    is_zombie: bool,
}

fn process(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything, brackets too.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let is_zombie = matches!(fields.next()?, "Z" | "X");
    Some(Process { pid, parent: fields.next()?.parse().ok()?, is_zombie })
}

/// Every process that runs below `root`; `root` is not among them. Empty if the system does not say.
#[must_use]
pub fn descendants(root: i32) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(process) = pid.and_then(process) {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let (mut found, mut parents) = (Vec::new(), vec![root]);
    while let Some(parent) = parents.pop() {
        for process in children.remove(&parent).unwrap_or_default() {
            parents.push(process.pid);
            if !process.is_zombie {
                found.push(process.pid);
            }
        }
    }
    found
}

/// Whether this process has children, ended ones that nobody waited for included. Where it is a subreaper, it has
/// descendants only if it has children. Costs one system call; [`descendants`] reads all of `/proc`.
#[must_use]
pub fn has_children() -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::All, flags) != Err(Errno::ECHILD)
}

/// Sends a signal to a process and to all below it.
pub fn signal_tree(root: i32, signal: Signal) {
    for pid in descendants(root).into_iter().chain([root]) {
        // A process that is gone already is what was wanted.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Kills all processes below `root`, again and again until there are none: some may start others meanwhile.
/// Returns whether there were any.
pub fn kill_descendants(root: i32) -> bool {
    let deadline = Instant::now() + MAX_KILL_TIME;
    let mut any = false;
    loop {
        let below = descendants(root);
        if below.is_empty() || Instant::now() > deadline {
            return any;
        }
        any = true;
        for pid in below {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Makes this process the parent of every process below it whose own parent ends.
///
/// # Errors
/// Returns an error if the system does not know subreapers.
pub fn become_subreaper() -> std::io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true).map_err(std::io::Error::from)
}

/// Kills a process and all below it. What is below goes first: without `root`, its subreaper, it could not be
/// told from other processes any more.
pub fn kill_tree(root: i32) {
    kill_descendants(root);
    let _ = kill(Pid::from_raw(root), Signal::SIGKILL);
}

/// Kills every process of this user whose environment has this entry: what a task left that was killed together
/// with its subreaper.
pub fn kill_marked(entry: &str) {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let deadline = Instant::now() + MAX_KILL_TIME;
    loop {
        let mut any = false;
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
            let Some(pid) = pid.filter(|pid| *pid != own) else { continue };
            let environment = fs::read(process.path().join("environ")).unwrap_or_default();
            if environment.split(|byte| *byte == 0).any(|found| found == entry.as_bytes()) {
                any |= kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok();
            }
        }
        if !any || Instant::now() > deadline {
            return;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Bytes of memory that a process and all below it hold, files that the system may drop left out. 0 where the
/// system does not say.
#[must_use]
pub fn memory(root: i32) -> u64 {
    let held =
        |pid: i32| fs::read_to_string(format!("/proc/{pid}/status")).map_or(0, |s| resident(&s));
    descendants(root).into_iter().chain([root]).map(held).sum()
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
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn memory_of_files_does_not_count() {
        let status = "Name:\tx\nVmRSS:\t  900 kB\nRssAnon:\t  300 kB\nRssFile:\t  500 kB\nRssShmem:\t  100 kB\n";
        assert_eq!(resident(status), 400 * 1024);
        assert_eq!(resident(""), 0);
        assert_eq!(memory(-1), 0);
    }

    #[test]
    fn descendants_in_other_sessions_are_found_and_killed() {
        let line = "setsid sleep 100 & (sleep 100 & sleep 100) & wait";
        let mut shell = Command::new("sh").args(["-c", line]).stdin(Stdio::null()).spawn().unwrap();
        let root = i32::try_from(shell.id()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        // Three that sleep: the subshell becomes the last of them, or waits for it.
        while descendants(root).len() < 3 {
            assert!(Instant::now() < deadline, "{:?}", descendants(root));
            std::thread::sleep(POLL_INTERVAL);
        }
        assert!(has_children());
        let below = descendants(root);
        kill_tree(root);
        shell.wait().unwrap();
        assert!(below.iter().all(|pid| process(*pid).is_none_or(|p| p.is_zombie)));
    }

    #[test]
    fn processes_are_found_by_their_environment() {
        let marker = format!("DISSIM_TEST_MARKER=/{}", std::process::id());
        let (name, value) = marker.split_once('=').unwrap();
        let mut marked = Command::new("sleep").arg("100").env(name, value).spawn().unwrap();
        let mut other = Command::new("sleep").arg("100").env(name, "/other").spawn().unwrap();
        kill_marked(&marker);
        assert!(!marked.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
