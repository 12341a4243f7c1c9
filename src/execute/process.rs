//! A task's process, from both sides.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use dissim_api::{Context, Event, StageError, TaskSpec};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getpgrp};
use wait4::Wait4;

use crate::policy::Policy;
use crate::registry::Registry;
use crate::store::at;

/// How long a task may take to die of SIGTERM.
const GRACE: Duration = Duration::from_secs(3);

/// The longest line that is read as an event.
const LONGEST_EVENT: u64 = 1 << 20;

/// Set for a task that is to end when its standard input does.
const TIED: &str = "DISSIM_TIED";

/// What sets the size of the thread pools a task may have.
const POOLS: [&str; 3] = ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "POLARS_MAX_THREADS"];

/// The wish to stop, and the processes it concerns.
#[derive(Debug, Default)]
pub struct Cancel {
    requested: AtomicBool,
    groups: Mutex<Vec<i32>>,
}

impl Cancel {
    /// Whether to stop.
    #[must_use]
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }

    /// Asks every running task to end, and ends it after three seconds; at once the second time.
    pub fn request(&'static self) {
        if self.requested.swap(true, Ordering::SeqCst) {
            self.signal(Signal::SIGKILL);
            return;
        }
        self.signal(Signal::SIGTERM);
        std::thread::spawn(|| {
            std::thread::sleep(GRACE);
            self.signal(Signal::SIGKILL);
        });
    }

    fn signal(&self, signal: Signal) {
        for &group in self.groups.lock().unwrap_or_else(|e| e.into_inner()).iter() {
            // A process that is gone already is what was wanted.
            let _ = killpg(Pid::from_raw(group), signal);
        }
    }

    fn add(&self, group: i32) {
        self.groups.lock().unwrap_or_else(|e| e.into_inner()).push(group);
        // The signal may have come between the start and this line.
        if self.requested() {
            let _ = killpg(Pid::from_raw(group), Signal::SIGTERM);
        }
    }

    fn remove(&self, group: i32) {
        self.groups.lock().unwrap_or_else(|e| e.into_inner()).retain(|g| *g != group);
    }
}

/// How a process ended.
pub(super) enum End {
    /// It said that it is done, and ended well.
    Done,
    /// It failed, in words.
    Failed(String),
    /// It was told to stop.
    Cancelled,
}

pub(super) struct Ended {
    pub end: End,
    pub peak_memory_bytes: u64,
}

/// Starts `program task folder/spec.json` in a process group of its own and waits for it.
pub(super) fn run(
    program: &Path,
    folder: &Path,
    log: &Path,
    policy: &Policy,
    cancel: &Cancel,
    mut on_event: impl FnMut(Event),
) -> io::Result<Ended> {
    let threads = policy.resources.cpus.to_string();
    let kills = oom_kills();
    let mut child = Command::new(program)
        .arg("task")
        .arg(folder.join("spec.json"))
        .current_dir(folder)
        // A task is single-threaded unless its stage asks for more; the runner runs as many as there
        // are cores.
        .envs(POOLS.map(|variable| (variable, &threads)))
        // Nothing is ever written to it: it ends when this process does, however that does.
        .env(TIED, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::create(log).map_err(|e| at(e, log))?)
        .process_group(0)
        .spawn()
        .map_err(|e| {
            io::Error::new(e.kind(), format!("cannot start {}: {e}", program.display()))
        })?;
    let group = i32::try_from(child.id()).unwrap_or(i32::MAX);
    cancel.add(group);
    let mut last = None;
    let overdue = AtomicBool::new(false);
    let used = std::thread::scope(|scope| {
        // Dropped when the process has ended: the watch goes home.
        let (over, ended) = mpsc::channel::<()>();
        if let Some(limit) = policy.timeout {
            let overdue = &overdue;
            scope.spawn(move || watch(group, limit, overdue, &ended));
        }
        if let Some(stdout) = child.stdout.take() {
            events(BufReader::new(stdout), |event| {
                last = Some(event.clone());
                on_event(event);
            });
        }
        let used = child.wait4();
        drop(over);
        used
    });
    // What it left running would write where the next attempt does.
    let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    cancel.remove(group);
    let used = used?;
    let end = match last {
        Some(Event::Done) if used.status.success() => End::Done,
        _ if cancel.requested() => End::Cancelled,
        _ if overdue.load(Ordering::SeqCst) => {
            let limit = policy.timeout.unwrap_or_default().as_secs_f64();
            let limit = super::seconds(limit);
            End::Failed(format!("the task was ended: it took longer than its timeout of {limit}"))
        }
        Some(Event::Failed(error)) => End::Failed(error.to_string()),
        _ => End::Failed(died(used.status)),
    };
    let end = match end {
        End::Failed(why) if oom_kills() > kills => {
            let what = "out of memory: the system had none left and killed a process of the task, or another one while it ran";
            End::Failed(format!("{what}\n  {why}"))
        }
        end => end,
    };
    Ok(Ended { end, peak_memory_bytes: used.rusage.maxrss })
}

/// Ends a process group that takes too long: asks first, and does not ask twice.
fn watch(group: i32, limit: Duration, overdue: &AtomicBool, ended: &mpsc::Receiver<()>) {
    for (wait, signal) in [(limit, Signal::SIGTERM), (GRACE, Signal::SIGKILL)] {
        if ended.recv_timeout(wait) != Err(mpsc::RecvTimeoutError::Timeout) {
            return;
        }
        overdue.store(true, Ordering::SeqCst);
        // A process that is gone already is what was wanted.
        let _ = killpg(Pid::from_raw(group), signal);
    }
}

/// Hands on every event that a process prints. It may print what it likes, of any length and no
/// text at all; only events count.
fn events(mut from: impl BufRead, mut on_event: impl FnMut(Event)) {
    let mut line = Vec::new();
    let mut whole = true;
    loop {
        line.clear();
        match (&mut from).take(LONGEST_EVENT).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        }
        // A line in pieces is no event, and neither is its end.
        let ends = line.ends_with(b"\n");
        if whole && let Ok(event) = serde_json::from_slice::<Event>(&line) {
            on_event(event);
        }
        whole = ends;
    }
}

/// How many processes the system has killed for want of memory since it started; none where it does
/// not say.
fn oom_kills() -> Option<u64> {
    let text = fs::read_to_string("/proc/vmstat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Why a process that said nothing ended.
fn died(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(9), _) => {
            "the task was killed (SIGKILL): most often because memory ran out".to_owned()
        }
        (Some(signal), _) => {
            let name = Signal::try_from(signal).map_or("an unknown signal", Signal::as_str);
            format!("the task was ended by {name}")
        }
        (None, Some(101)) => "the task panicked: this is a bug in the stage".to_owned(),
        (None, Some(code)) => format!("the task ended with code {code} before it was done"),
        (None, None) => "the task ended before it was done".to_owned(),
    }
}

/// The other side: reads a spec, runs the stage, and says how it went. True on success.
#[must_use]
pub fn serve_task(spec: &Path, registry: &Registry) -> bool {
    if std::env::var_os(TIED).is_some() {
        std::thread::spawn(end_with_the_runner);
    }
    let say = |event: &Event| {
        let line = serde_json::to_string(event).expect("events serialise");
        // A runner that is gone hears nothing, and this process ends with it.
        let _ = writeln!(io::stdout().lock(), "{line}");
    };
    match run_stage(spec, registry) {
        Ok(()) => {
            say(&Event::Done);
            true
        }
        Err(error) => {
            say!("error: {error}");
            say(&Event::Failed(error));
            false
        }
    }
}

/// Waits for standard input to end, then ends this process and all that it started: a runner that is
/// gone has let go of the key, and another may be at it already.
fn end_with_the_runner() {
    let mut nothing = [0; 64];
    loop {
        match io::stdin().read(&mut nothing) {
            Ok(0) => break,
            Err(e) if e.kind() != io::ErrorKind::Interrupted => break,
            _ => {}
        }
    }
    let _ = killpg(getpgrp(), Signal::SIGKILL);
}

/// Holds a task's scratch folder for as long as this process lives: the task of a runner that was
/// killed may need a moment to notice.
fn hold_scratch(folder: &Path) -> Option<File> {
    let held = File::open(folder).ok()?;
    // Where a folder cannot be locked, nobody waits.
    while held.lock().is_err_and(|e| e.kind() == io::ErrorKind::Interrupted) {}
    Some(held)
}

fn run_stage(path: &Path, registry: &Registry) -> Result<(), StageError> {
    let bytes =
        fs::read(path).map_err(|e| StageError::new(format!("cannot read: {e}")).at(path))?;
    let spec: TaskSpec = serde_json::from_slice(&bytes)
        .map_err(|e| StageError::new(format!("not a task spec: {e}")).at(path))?;
    if spec.version != TaskSpec::VERSION {
        let what =
            format!("the spec has version {}, and this is for {}", spec.version, TaskSpec::VERSION);
        return Err(StageError::new(what).at(path));
    }
    let Some(stage) = registry.get(&spec.kind) else {
        return Err(StageError::new(format!("no stage kind `{}`", spec.kind)).at(path));
    };
    let _held = hold_scratch(&spec.scratch);
    stage.run(&mut Context::new(spec))
}
