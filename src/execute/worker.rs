//! One task's turn: lock its key, look again, lay it out; and, when its process is over wherever
//! that ran, keep what it made. What is between the two is an executor's.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dissim_api::{Code, InputArtifact, InputSpec, Progress, TaskSpec, files};
use serde::{Deserialize, Serialize};

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
use crate::snapshot::ProjectFiles;
use crate::store::{Damaged, Durable, Hit, KeyLock, LinkedFile, Record, Store, at};

/// How often a lock that another runner holds is tried.
const LOCK_POLL: Duration = Duration::from_millis(50);
/// Lines of a log that a failure shows.
const LOG_TAIL: usize = 15;
/// The last bytes of a log in which those lines are looked for.
const LOG_TAIL_BYTES: u64 = 64 << 10;
/// The file in a task's folder that lists the files which the task reads in place.
const WATCHED: &str = "watched.json";

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
    watched: Watched,
    _lock: KeyLock,
}

/// Files that a task reads in place, as they were before it ran. A file that was changed and changed back is detected too.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Watched {
    /// Project files.
    files: Vec<LinkedFile>,
    /// Blobs of its inputs.
    blobs: Vec<LinkedFile>,
}

/// A process that is over, wherever it ran.
pub(super) struct Finished {
    pub end: End,
    pub peak_memory_bytes: u64,
    /// When it started, in seconds since 1970.
    pub started: u64,
    pub duration_s: f64,
    pub host: String,
    pub metrics: BTreeMap<String, Option<f64>>,
    /// The file that holds what it printed.
    pub log: PathBuf,
}

impl Finished {
    /// A process of which nothing is known but why it is gone.
    pub fn lost(why: &str, log: PathBuf) -> Self {
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
    folder: PathBuf,
}

impl<'a> Job<'a> {
    pub fn new(
        study: &'a Study,
        store: &'a Store,
        planner: &'a Planner<'a>,
        options: &RunOptions,
        folder: PathBuf,
        turn: Turn,
    ) -> Self {
        let Turn { task, key, description } = turn;
        let (_, code) = planner.code(task);
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
            folder,
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
        let files = match self.read_files() {
            Ok(files) => files,
            Err(why) => return Ok(Begun::Over(Outcome::Stale(self.keep_failure(&why, None)))),
        };
        match self.prepare() {
            Ok((spec, blobs)) => {
                let watched = Watched { files, blobs };
                let file = self.folder.join(WATCHED);
                fs::write(&file, serde_json::to_vec(&watched)?).map_err(|e| at(e, &file))?;
                Ok(Begun::Laid(Box::new(Laid { spec, claim, watched, _lock: lock })))
            }
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
        let watched = fs::read(self.folder.join(WATCHED)).ok();
        let watched = watched.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Laid { spec, claim: None, watched: watched.unwrap_or_default(), _lock: lock }
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
        let Ended { end, peak_memory_bytes } =
            process::run(&self.program, &self.folder, &log, self.policy, cancel, on_event)?;
        Ok(Finished {
            end,
            peak_memory_bytes,
            started: started.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            duration_s: clock.elapsed().as_secs_f64(),
            host: host(),
            metrics,
            log,
        })
    }

    /// Keeps what a task made, or says why there is nothing to keep.
    pub fn end(&self, laid: Laid, finished: Finished, durable: Durable) -> io::Result<Outcome> {
        match finished.end {
            End::Cancelled => return Ok(Outcome::Cancelled),
            End::Failed(why) => {
                return Ok(Outcome::Failed(self.keep_failure(&why, Some(&finished.log))));
            }
            End::Done => {
                if let Some(why) = self.changed_file(&laid.watched) {
                    return Ok(Outcome::Stale(self.keep_failure(&why, Some(&finished.log))));
                }
                if let Some(why) = self.changed_input(&laid.watched)? {
                    let _ = self.keep_failure(&why, Some(&finished.log));
                    return Ok(Outcome::Damaged(why));
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
            log: self.store.put_file(&finished.log)?,
            metrics: finished.metrics,
            dissim: env!("CARGO_PKG_VERSION").to_owned(),
            check: None,
        };
        self.store.put_record(&record, &self.code, durable)?;
        let _ = files::remove_tree(&laid.spec.scratch);
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
        let _ = files::remove_tree(&self.folder);
    }

    /// Lays out inputs, an empty output folder and the spec. Also returns the blobs that the task reads where they
    /// are.
    fn prepare(&self) -> io::Result<(TaskSpec, Vec<LinkedFile>)> {
        // A folder that outlives the run may hold what an earlier attempt left.
        files::remove_tree(&self.folder).map_err(|e| at(e, &self.folder))?;
        let scratch = self.store.scratch(&self.key)?;
        let code = self.planner.code_files(self.task).map_err(io::Error::other)?;
        lay_out(self.study, self.store, self.task, &self.description, &code, &self.folder, scratch)
    }

    /// The project files that the task reads, as they are now; or why its key is not theirs any more.
    fn read_files(&self) -> Result<Vec<LinkedFile>, String> {
        let root = &self.study.root;
        let files = self.planner.read_files(self.task)?;
        let stat = |name: &String| LinkedFile::now(&root.join(name)).map_err(|e| e.to_string());
        let before: Vec<LinkedFile> = files.keys().map(stat).collect::<Result<_, _>>()?;
        // Looked at again: what is written from here on shows in what `stat` said.
        match self.changed_name() {
            Some(name) => Err(changed(&name)),
            None => Ok(before),
        }
    }

    /// A project file that is not what the key says it was.
    fn changed_name(&self) -> Option<String> {
        let Ok(now) = self.planner.read_files(self.task) else {
            return self.description.files.keys().next().cloned();
        };
        let code = self.planner.code_files(self.task).unwrap_or_default();
        let keyed = &self.description.files;
        let gone = keyed.keys().find(|name| !now.contains_key(*name) && !code.contains_key(*name));
        let changed = now.iter().find(|(name, file)| {
            keyed.get(*name) != Some(&file.digest)
                || self.description.executables.contains(*name) != file.executable
        });
        changed.map(|(name, _)| name).or(gone).cloned()
    }

    /// Why a result is not kept: a project file changed while the task ran, even if it was changed back.
    fn changed_file(&self, watched: &Watched) -> Option<String> {
        let touched = watched.files.iter().find(|file| file.is_changed());
        let touched = touched.map(|file| {
            let name = file.path.strip_prefix(&self.study.root).unwrap_or(&file.path);
            name.display().to_string()
        });
        Some(changed(&touched.or_else(|| self.changed_name())?))
    }

    /// Why a result is not kept: somebody wrote to a blob while the task read it. A blob that is damaged goes
    /// into quarantine.
    fn changed_input(&self, watched: &Watched) -> io::Result<Option<String>> {
        let Some(file) = watched.blobs.iter().find(|file| file.is_changed()) else {
            return Ok(None);
        };
        for file in watched.blobs.iter().filter(|file| file.is_changed()) {
            if let Err(error) = self.store.prove_object(&file.path)
                && Damaged::of(&error).is_none()
            {
                return Err(error);
            }
        }
        let name = file.path.strip_prefix(self.store.root()).unwrap_or(&file.path);
        let what = "was changed while the task read it; the result was not kept";
        Ok(Some(format!("its input {} {what}", name.display())))
    }

    /// Keeps the log of a failed attempt, and says what happened with the end of it.
    fn keep_failure(&self, why: &str, log: Option<&Path>) -> String {
        let kept = self.store.failed_log(&self.key);
        let tail = log.and_then(|log| tail_of(log, LOG_TAIL_BYTES).ok());
        let (tail, _) = tail.unwrap_or_default();
        let moved = match log {
            Some(log) => self.store.move_in(log, &kept),
            None => self.store.write_hint(&kept, b""),
        };
        let whole = match moved {
            Ok(()) => kept.display().to_string(),
            Err(error) => format!("could not be kept: {error}"),
        };
        self.planner.index().put_latest(&self.study.tasks[self.task].name, &self.key);
        failure(why, &tail, &whole)
    }
}

fn changed(name: &str) -> String {
    format!("`{name}` changed while the task ran; its result was not kept: run again")
}

/// The last bytes of a log, and how many stand before them.
pub(super) fn tail_of(log: &Path, most: u64) -> io::Result<(Vec<u8>, u64)> {
    let mut file = fs::File::open(log)?;
    let before = file.metadata()?.len().saturating_sub(most);
    file.seek(SeekFrom::Start(before))?;
    let mut tail = Vec::new();
    file.take(most).read_to_end(&mut tail)?;
    Ok((tail, before))
}

/// Puts inputs, code, an empty output folder and the spec into `folder`. Also returns the blobs that the task reads
/// where they are.
pub(super) fn lay_out(
    study: &Study,
    store: &Store,
    task: TaskId,
    description: &Description,
    code: &ProjectFiles,
    folder: &Path,
    scratch: PathBuf,
) -> io::Result<(TaskSpec, Vec<LinkedFile>)> {
    let output = folder.join("output");
    fs::create_dir_all(&output).map_err(|e| at(e, &output))?;
    let (mut inputs, mut linked) = (BTreeMap::new(), Vec::new());
    for (name, input) in &description.inputs {
        let width = input.artifacts.len().saturating_sub(1).to_string().len();
        let mut artifacts = Vec::new();
        for (i, artifact) in input.artifacts.iter().enumerate() {
            // Numbers, not names: a task that would see the name of another would have to have it in its key.
            let path = folder.join("inputs").join(name).join(format!("{i:0width$}"));
            linked.extend(store.materialise(&artifact.artifact, &path)?);
            let task = if input.named { artifact.task.clone() } else { String::new() };
            artifacts.push(InputArtifact { task, axes: artifact.axes.clone(), path });
        }
        inputs.insert(name.clone(), InputSpec { gathered: input.gathered, artifacts });
    }
    let code = lay_out_code(store, code, &folder.join("code"))?;
    let spec = TaskSpec {
        version: TaskSpec::VERSION,
        task: study.tasks[task].name.clone(),
        kind: description.kind.clone(),
        params: description.params.clone(),
        inputs,
        code,
        output,
        scratch,
        project: study.root.clone(),
        backend: study.backend.clone(),
        device: study.device,
        pipeline: description.pipeline.clone(),
    };
    let file = folder.join("spec.json");
    fs::write(&file, serde_json::to_vec_pretty(&spec)?).map_err(|e| at(e, &file))?;
    Ok((spec, linked))
}

/// Puts code into `folder`, under numbers; returns where each file is.
fn lay_out_code(
    store: &Store,
    code: &ProjectFiles,
    folder: &Path,
) -> io::Result<BTreeMap<PathBuf, PathBuf>> {
    let mut placed = BTreeMap::new();
    if !code.is_empty() {
        fs::create_dir_all(folder).map_err(|e| at(e, folder))?;
    }
    for (i, (name, file)) in code.iter().enumerate() {
        let path = folder.join(i.to_string());
        store.copy_blob(&file.digest, file.executable, &path)?;
        placed.insert(PathBuf::from(name), path);
    }
    Ok(placed)
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
