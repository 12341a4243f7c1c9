//! A task's process, from both sides.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};

use dissim_api::{Context, Event, StageError, TaskSpec};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use wait4::Wait4;

use super::limits::{self, GRACE};
use crate::policy::Policy;
use crate::registry::Registry;

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
    let mut child = Command::new(program)
        .arg("task")
        .arg(folder.join("spec.json"))
        .current_dir(folder)
        // A task is single-threaded unless its stage asks for more; the runner runs as many as there
        // are cores.
        .envs(POOLS.map(|variable| (variable, &threads)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(log)?)
        .process_group(0)
        .spawn()
        .map_err(|e| {
            io::Error::new(e.kind(), format!("cannot start {}: {e}", program.display()))
        })?;
    let group = i32::try_from(child.id()).unwrap_or(i32::MAX);
    cancel.add(group);
    let mut last = None;
    let (used, breach) = std::thread::scope(|scope| {
        // Dropped when the process has ended: the watch goes home.
        let (over, ended) = mpsc::channel::<()>();
        let limited = policy.timeout.is_some() || policy.resources.memory > 0;
        let watch = limited.then(|| scope.spawn(move || limits::watch(group, policy, &ended)));
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // A program may print what it likes; only events count.
                if let Ok(event) = serde_json::from_str::<Event>(&line) {
                    last = Some(event.clone());
                    on_event(event);
                }
            }
        }
        let used = child.wait4();
        drop(over);
        (used, watch.and_then(|watch| watch.join().ok().flatten()))
    });
    cancel.remove(group);
    let used = used?;
    let end = match last {
        Some(Event::Done) if used.status.success() => End::Done,
        _ if cancel.requested() => End::Cancelled,
        last => End::Failed(match (breach, last) {
            (Some(breach), _) => breach.to_string(),
            (None, Some(Event::Failed(error))) => error.to_string(),
            (None, _) => died(used.status),
        }),
    };
    Ok(Ended { end, peak_memory_bytes: used.rusage.maxrss })
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
    let say = |event: &Event| {
        println!("{}", serde_json::to_string(event).expect("events serialise"));
    };
    match run_stage(spec, registry) {
        Ok(()) => {
            say(&Event::Done);
            true
        }
        Err(error) => {
            eprintln!("error: {error}");
            say(&Event::Failed(error));
            false
        }
    }
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
    stage.run(&mut Context::new(spec))
}
