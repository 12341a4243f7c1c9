//! One task's turn: lock its key, look again, lay it out; and, when its process is over wherever
//! that ran, keep what it made. What is between the two is an executor's.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dissim_api::{Code, Progress, TaskSpec};

use super::process::{self, Cancel, End, Ended};
use super::{RunOptions, TaskId};
use crate::digest::Digest;
use crate::graph::Study;
use crate::history::host;
use crate::key::Description;
use crate::plan::Planner;
use crate::policy::Policy;
use crate::remote::{Claimed, Claiming, Remote};
use crate::say::calm;
use crate::store::{Damaged, Durable, Hit, KeyLock, Record, RunFolder, Store, at};

/// How often a lock that another runner holds is tried.
const LOCK_POLL: Duration = Duration::from_millis(50);
/// Lines of a log that a failure shows.
const LOG_TAIL: usize = 15;

/// What the scheduler is told.
pub(super) enum Message {
    Progress(TaskId, Progress),
    Finished(TaskId, Box<Outcome>),
    /// The remote was asked for a task's key: what it has is in the store now.
    Asked(TaskId),
}

/// How a task's turn ended.
pub(super) enum Outcome {
    /// It ran, and its record is written.
    Ran(Hit),
    /// Another runner computed it meanwhile.
    TakenOver(Hit),
    /// It failed, in words; another attempt may do better.
    Failed(String),
    /// What it reads changed while it ran: another attempt would be at another key.
    Stale(String),
    /// Somebody else computes it: who.
    Elsewhere(String),
    /// An input is damaged: whoever made it must make it again first.
    Damaged(String),
    /// A signal ended it.
    Cancelled,
}

/// What came of a look at a task's key.
pub(super) enum Tried {
    /// Its turn ended there.
    Over(Outcome),
    /// It is this runner's to compute.
    Locked(KeyLock),
    /// Another runner computes it.
    Busy,
}

/// What came of the beginning of a task's turn.
pub(super) enum Begun {
    /// It ended there.
    Over(Outcome),
    /// Its process may run.
    Laid(Box<Laid>),
}

/// A task that is laid out in its folder, and whose key is locked.
pub(super) struct Laid {
    spec: TaskSpec,
    /// The claim in the shared store.
    pub claim: Option<Claiming>,
    /// When the project files that it reads were written.
    written: BTreeMap<String, Written>,
    _lock: KeyLock,
}

/// Size, inode and time of a file; none of one that is gone. A file that was changed and changed
/// back is another one by this.
type Written = Option<(u64, u64, i64, i64)>;

/// A process that is over, wherever it ran.
pub(super) struct Finished {
    pub end: End,
    pub peak_memory_bytes: u64,
    /// When it started, in seconds since 1970.
    pub started: u64,
    pub duration_s: f64,
    pub host: String,
    pub metrics: BTreeMap<String, Option<f64>>,
    pub log: Vec<u8>,
}

impl Finished {
    /// A process of which nothing is known but why it is gone.
    pub fn lost(why: &str, log: Vec<u8>) -> Self {
        Self {
            end: End::Failed(why.to_owned()),
            peak_memory_bytes: 0,
            started: 0,
            duration_s: 0.0,
            host: String::new(),
            metrics: BTreeMap::new(),
            log,
        }
    }
}

/// A task whose turn it is.
pub(super) struct Turn {
    pub task: TaskId,
    pub key: Digest,
    pub description: Arc<Description>,
}

/// Where a task is laid out.
pub(super) enum Place<'a> {
    /// In the run's folder.
    Run(&'a RunFolder),
    /// In a folder that outlives the run.
    Own(PathBuf),
}

/// Everything a worker needs, so that it shares nothing with the scheduler.
pub(super) struct Job<'a> {
    study: &'a Study,
    store: &'a Store,
    planner: &'a Planner<'a>,
    policy: &'a Policy,
    task: TaskId,
    description: Arc<Description>,
    key: Digest,
    code: Arc<Code>,
    program: PathBuf,
    remote: Option<Arc<Remote>>,
    /// Whose folder the task's is in, and is used again; none where it outlives the runner.
    run: Option<&'a RunFolder>,
    folder: PathBuf,
    /// A process of the task may be left, and write to its folder.
    left: AtomicBool,
}

impl<'a> Job<'a> {
    pub fn new(
        study: &'a Study,
        store: &'a Store,
        planner: &'a Planner<'a>,
        options: &RunOptions,
        place: Place<'a>,
        turn: Turn,
    ) -> Self {
        let Turn { task, key, description } = turn;
        let (_, code) = planner.code(task);
        let (run, folder) = match place {
            Place::Run(run) => (Some(run), run.path().join(task.to_string())),
            Place::Own(folder) => (None, folder),
        };
        Self {
            study,
            store,
            planner,
            policy: &study.stage_of(task).policy,
            task,
            description,
            key,
            code,
            program: options.program.clone(),
            remote: options.remote.clone(),
            run,
            folder,
            left: AtomicBool::new(false),
        }
    }

    /// The task.
    pub fn task(&self) -> TaskId {
        self.task
    }

    /// The task's name.
    pub fn name(&self) -> &str {
        &self.study.tasks[self.task].name
    }

    /// The task's stage.
    pub fn stage(&self) -> usize {
        self.study.tasks[self.task].stage
    }

    /// The name of the task's stage.
    pub fn stage_name(&self) -> &str {
        &self.study.stage_of(self.task).name
    }

    /// How the task is to be run.
    pub fn policy(&self) -> &Policy {
        self.policy
    }

    /// Where the task is laid out.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes the key's lock and looks again.
    pub fn try_begin(&self) -> io::Result<Tried> {
        let Some(lock) = self.store.try_lock(&self.key)? else { return Ok(Tried::Busy) };
        Ok(match self.planner.index().look_up(&self.key) {
            Some(hit) => Tried::Over(Outcome::TakenOver(hit)),
            None => Tried::Locked(lock),
        })
    }

    /// Waits for the key's lock, looks again, and lays the task out.
    pub fn begin(&self, cancel: &Cancel) -> io::Result<Begun> {
        loop {
            if cancel.requested() {
                return Ok(Begun::Over(Outcome::Cancelled));
            }
            match self.try_begin()? {
                Tried::Over(outcome) => return Ok(Begun::Over(outcome)),
                Tried::Locked(lock) => {
                    let claimed = self.remote.as_ref().filter(|remote| remote.is_written());
                    let claimed =
                        claimed.and_then(|remote| remote.claim_all(&[self.to_claim()]).pop());
                    let claim = match self.claimed(claimed.unwrap_or(Claimed::Unknown)) {
                        Ok(claim) => claim,
                        Err(outcome) => return Ok(Begun::Over(*outcome)),
                    };
                    return self.lay_out(lock, claim);
                }
                Tried::Busy => std::thread::sleep(LOCK_POLL),
            }
        }
    }

    /// What is claimed in the shared store before the task runs: its key, and its name.
    pub fn to_claim(&self) -> (Digest, String) {
        (self.key.clone(), self.name().to_owned())
    }

    /// The claim to hold while the task runs; or how its turn ends where another has one.
    pub fn claimed(&self, claimed: Claimed) -> Result<Option<Claiming>, Box<Outcome>> {
        match claimed {
            Claimed::Ours(claim) => Ok(Some(claim)),
            Claimed::Unknown => Ok(None),
            Claimed::Theirs(who) => Err(Box::new(Outcome::Elsewhere(who))),
            Claimed::Here => match self.planner.index().look_up(&self.key) {
                Some(hit) => Err(Box::new(Outcome::TakenOver(hit))),
                None => Ok(None),
            },
        }
    }

    /// Lays out inputs, an empty output folder and the spec, where that still makes sense.
    pub fn lay_out(&self, lock: KeyLock, claim: Option<Claiming>) -> io::Result<Begun> {
        let written = self.written();
        if let Some(why) = self.changed_files(&written) {
            return Ok(Begun::Over(Outcome::Stale(self.keep_failure(&why, b""))));
        }
        match self.prepare() {
            Ok(spec) => Ok(Begun::Laid(Box::new(Laid { spec, claim, written, _lock: lock }))),
            Err(error) => match Damaged::of(&error) {
                Some(damaged) => Ok(Begun::Over(Outcome::Damaged(damaged.to_string()))),
                None => Err(error),
            },
        }
    }

    /// The spec of a task that an earlier runner laid out.
    pub fn laid_before(&self) -> Option<TaskSpec> {
        let spec: TaskSpec =
            serde_json::from_slice(&fs::read(self.folder.join("spec.json")).ok()?).ok()?;
        let ours = spec.version == TaskSpec::VERSION && spec.output == self.folder.join("output");
        ours.then_some(spec)
    }

    /// A task that an earlier runner laid out, under this one's lock.
    pub fn taken_up(&self, spec: TaskSpec, lock: KeyLock) -> Laid {
        Laid { spec, claim: None, written: self.written(), _lock: lock }
    }

    /// Runs a task that was laid out as a process of this machine.
    pub fn process(
        &self,
        cancel: &Cancel,
        mut progress: impl FnMut(Progress),
    ) -> io::Result<Finished> {
        let started = SystemTime::now();
        let clock = Instant::now();
        let log = self.folder.join("log");
        let mut metrics = BTreeMap::new();
        let on_event = |event| match event {
            dissim_api::Event::Progress(of) => progress(of),
            dissim_api::Event::Metric { name, value } => drop(metrics.insert(name, value)),
            _ => {}
        };
        let ended = process::run(&self.program, &self.folder, &log, self.policy, cancel, on_event);
        // Until it is known that there is none.
        self.left.store(ended.as_ref().map_or(true, |ended| ended.left), Ordering::Relaxed);
        let Ended { end, peak_memory_bytes, .. } = ended?;
        Ok(Finished {
            end,
            peak_memory_bytes,
            started: started.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            duration_s: clock.elapsed().as_secs_f64(),
            host: host(),
            metrics,
            log: fs::read(&log).unwrap_or_default(),
        })
    }

    /// Keeps what a task made, or says why there is nothing to keep.
    pub fn end(&self, laid: Laid, finished: Finished, durable: Durable) -> io::Result<Outcome> {
        match finished.end {
            End::Cancelled => return Ok(Outcome::Cancelled),
            End::Failed(why) => {
                return Ok(Outcome::Failed(self.keep_failure(&why, &finished.log)));
            }
            End::Done => {
                if let Some(why) = self.changed_files(&laid.written) {
                    return Ok(Outcome::Stale(self.keep_failure(&why, &finished.log)));
                }
            }
        }
        let artifact = self.store.commit(&laid.spec.output)?;
        let record = Record {
            version: Record::VERSION,
            key: self.key.clone(),
            task: self.study.tasks[self.task].name.clone(),
            description: (*self.description).clone(),
            artifact,
            started: finished.started,
            duration_s: finished.duration_s,
            peak_memory_bytes: finished.peak_memory_bytes,
            host: finished.host,
            log: self.store.put(&finished.log)?,
            metrics: finished.metrics,
            dissim: env!("CARGO_PKG_VERSION").to_owned(),
            check: None,
        };
        self.store.put_record(&record, &self.code, durable)?;
        match self.run_folder_to_reuse() {
            Some(run) => run.give_back_scratch(&laid.spec.scratch, &self.task.to_string()),
            None => drop(fs::remove_dir_all(&laid.spec.scratch)),
        }
        let index = self.planner.index();
        index.put_latest(&record.task, &record.key);
        if let Some(remote) = self.remote.as_ref().filter(|remote| remote.is_written()) {
            remote.send(record, laid.claim);
        }
        match index.look_up(&self.key) {
            Some(hit) => Ok(Outcome::Ran(hit)),
            None => Ok(Outcome::Failed("what it made is gone from the store already".to_owned())),
        }
    }

    /// The task is over: its folder goes.
    pub fn clear(&self) {
        match self.run_folder_to_reuse() {
            Some(run) => run.give_back(self.folder.clone()),
            None => drop(fs::remove_dir_all(&self.folder)),
        }
    }

    /// The run's folder, where no process is left that may write to the task's.
    fn run_folder_to_reuse(&self) -> Option<&RunFolder> {
        self.run.filter(|_| !self.left.load(Ordering::Relaxed))
    }

    /// Lays out inputs, an empty output folder and the spec.
    fn prepare(&self) -> io::Result<TaskSpec> {
        let scratch = match self.run {
            Some(run) => {
                run.take(&self.task.to_string())?;
                run.take_scratch(self.store, &self.key)?
            }
            None => {
                let _ = fs::remove_dir_all(&self.folder);
                self.store.scratch(&self.key)?
            }
        };
        lay_out(self.study, self.store, self.task, &self.description, &self.folder, scratch)
    }

    /// When each project file that the task reads was written.
    fn written(&self) -> BTreeMap<String, Written> {
        let stat = |name: &String| {
            let metadata = fs::metadata(self.study.root.join(name)).ok()?;
            Some((metadata.len(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
        };
        self.description.files.keys().map(|name| (name.clone(), stat(name))).collect()
    }

    /// A project file that is not what the key says it was, or was written since `before`: the
    /// result is of neither.
    fn changed_files(&self, before: &BTreeMap<String, Written>) -> Option<String> {
        let written = self.written();
        let now = self.planner.files(self.task).unwrap_or_default();
        let keyed = &self.description.files;
        let changed = now.iter().find(|(name, digest)| keyed.get(*name) != Some(digest));
        let gone = keyed.keys().find(|name| !now.contains_key(*name));
        let touched = before.keys().find(|name| written.get(*name) != before.get(*name));
        let name = changed.map(|(name, _)| name).or(gone).or(touched)?;
        Some(format!("`{name}` changed while the task ran; its result was not kept: run again"))
    }

    /// Keeps the log of a failed attempt, and says what happened with the end of it.
    fn keep_failure(&self, why: &str, log: &[u8]) -> String {
        let kept = self.store.failed_log(&self.key);
        let whole = match self.store.write_hint(&kept, log) {
            Ok(()) => kept.display().to_string(),
            Err(error) => format!("could not be kept: {error}"),
        };
        self.planner.index().put_latest(&self.study.tasks[self.task].name, &self.key);
        failure(why, log, &whole)
    }
}

/// Puts inputs, an empty output folder and the spec into `folder`.
pub(super) fn lay_out(
    study: &Study,
    store: &Store,
    task: TaskId,
    description: &Description,
    folder: &Path,
    scratch: PathBuf,
) -> io::Result<TaskSpec> {
    let output = folder.join("output");
    fs::create_dir_all(&output).map_err(|e| at(e, &output))?;
    let mut inputs = BTreeMap::new();
    for (name, artifacts) in &description.inputs {
        let mut specs = Vec::new();
        for (i, input) in artifacts.iter().enumerate() {
            let path = folder.join("inputs").join(name).join(i.to_string());
            store.materialise(&input.artifact, &path)?;
            specs.push(dissim_api::InputArtifact { task: input.task.clone(), path });
        }
        inputs.insert(name.clone(), specs);
    }
    let spec = TaskSpec {
        version: TaskSpec::VERSION,
        task: study.tasks[task].name.clone(),
        kind: description.kind.clone(),
        params: description.params.clone(),
        inputs,
        output,
        scratch,
        project: study.root.clone(),
        backend: study.backend.clone(),
        device: study.device,
        pipeline: description.pipeline.clone(),
    };
    let file = folder.join("spec.json");
    fs::write(&file, serde_json::to_vec_pretty(&spec)?).map_err(|e| at(e, &file))?;
    Ok(spec)
}

/// A failure with the end of its log and where the whole log is.
fn failure(why: &str, log: &[u8], kept: &str) -> String {
    let text = String::from_utf8_lossy(log);
    let text = calm(&text);
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(LOG_TAIL)..];
    let mut message = why.to_owned();
    for line in tail {
        message += &format!("\n  | {line}");
    }
    message + &format!("\n  log: {kept}")
}
