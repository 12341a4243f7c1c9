//! A task's process, from both sides.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use dissim_api::{Context, Event, StageError, TaskSpec};
use dissim_processes::{
    become_subreaper, has_children, kill_descendants, kill_marked, kill_tree, signal_tree,
};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getpgrp};
use wait4::Wait4;

use super::limits;
use crate::policy::Policy;
use crate::registry::Registry;
use crate::store::at;

/// The longest line that is read as an event.
const LONGEST_EVENT: u64 = 1 << 20;

/// Set for a task that is to end when its standard input does.
const TIED: &str = "DISSIM_TIED";

/// What sets the size of the thread pools a task may have.
const POOLS: [&str; 3] = ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "POLARS_MAX_THREADS"];

/// How often it is looked whether tasks that were asked to end are gone.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The wish to stop, and the processes it concerns.
#[derive(Debug, Default)]
pub struct Cancel {
    requested: AtomicBool,
    /// The processes of running tasks, and how long each may take to react.
    tasks: Mutex<Vec<(i32, Duration)>>,
}

impl Cancel {
    /// Whether to stop.
    #[must_use]
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }

    /// Asks every running task to end, and kills it when its time to react is over; at once the second time.
    pub fn request(&'static self) {
        if self.requested.swap(true, Ordering::SeqCst) {
            self.tasks().iter().for_each(|(task, _)| kill_tree(*task));
            return;
        }
        self.tasks().iter().for_each(|(task, _)| signal_tree(*task, Signal::SIGTERM));
        std::thread::spawn(|| self.kill_in_time());
    }

    fn kill_in_time(&self) {
        let start = Instant::now();
        loop {
            let late: Vec<i32> = {
                let tasks = self.tasks();
                if tasks.is_empty() {
                    return;
                }
                let late = tasks.iter().filter(|(_, grace)| start.elapsed() >= *grace);
                late.map(|(task, _)| *task).collect()
            };
            late.into_iter().for_each(kill_tree);
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Vec<(i32, Duration)>> {
        self.tasks.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn add(&self, task: i32, grace: Duration) {
        self.tasks().push((task, grace));
        // The signal may have come between the start and this line.
        if self.requested() {
            signal_tree(task, Signal::SIGTERM);
        }
    }

    fn remove(&self, task: i32) {
        self.tasks().retain(|(other, _)| *other != task);
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
    let task = i32::try_from(child.id()).unwrap_or(i32::MAX);
    cancel.add(task, policy.grace);
    let mut last = None;
    // A program that was asked to end may have left only half of its outputs.
    let mut undisturbed = true;
    let (used, breach) = std::thread::scope(|scope| {
        // Dropped when the process has ended: the watch goes home.
        let (over, ended) = mpsc::channel::<()>();
        let limited = policy.timeout.is_some() || policy.resources.memory > 0;
        let watch = limited.then(|| scope.spawn(move || limits::watch(task, policy, &ended)));
        if let Some(stdout) = child.stdout.take() {
            events(BufReader::new(stdout), |event| {
                undisturbed = !cancel.requested();
                last = Some(event.clone());
                on_event(event);
            });
        }
        let used = child.wait4();
        drop(over);
        (used, watch.and_then(|watch| watch.join().ok().flatten()))
    });
    // Processes that the task left running could write to its results.
    let _ = killpg(Pid::from_raw(task), Signal::SIGKILL);
    cancel.remove(task);
    let used = used?;
    if used.status.signal().is_some() {
        kill_what_is_left(folder);
    }
    let end = match last {
        Some(Event::Done) if used.status.success() && undisturbed && breach.is_none() => End::Done,
        _ if cancel.requested() => End::Cancelled,
        last => End::Failed(match (breach, last) {
            (Some(breach), _) => breach.to_string(),
            (None, Some(Event::Failed(error))) => error.to_string(),
            (None, _) => died(used.status),
        }),
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

/// Kills processes that a killed task left behind: `dissim task` could not end them itself.
fn kill_what_is_left(folder: &Path) {
    let spec = fs::read(folder.join("spec.json")).ok();
    let spec: Option<TaskSpec> = spec.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(spec) = spec {
        kill_marked(&format!(
            "{}={}",
            dissim_command::SCRATCH,
            dissim_command::kept(&spec.scratch).display()
        ));
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
    // Where there are none, what a program starts in a session of its own is not seen.
    let _ = become_subreaper();
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
    end_descendants();
    let _ = killpg(getpgrp(), Signal::SIGKILL);
}

/// Kills every process below this one.
fn end_descendants() {
    if has_children() {
        kill_descendants(i32::try_from(std::process::id()).unwrap_or(i32::MAX));
    }
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
    if stage.traits().runs_programs {
        // The program gets the signal too, and this process sees how it ends.
        let ignored = Arc::new(AtomicBool::new(false));
        let _ = signal_hook::flag::register(signal_hook::consts::SIGTERM, ignored);
    }
    let _held = hold_scratch(&spec.scratch);
    stage.run(&mut Context::new(spec).with_end_of_processes(end_descendants))
}
