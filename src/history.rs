//! The history of runs, in `cache/runs/`. Recording never fails a run: what cannot be written is a
//! warning.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::execute::Summary;
use crate::graph::Study;
use crate::secret;
use crate::store::{Store, Unchanged};

/// What is kept of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// Version of this format.
    pub version: u32,
    /// Its name: when it started, and its process.
    pub id: String,
    /// When it started, in seconds since 1970.
    pub started: u64,
    /// How long it took, in seconds.
    pub duration_s: f64,
    /// How it ended.
    pub outcome: Outcome,
    /// Digest of pipeline.yaml as it was.
    pub pipeline: Digest,
    /// The profile in use.
    pub profile: Option<String>,
    /// The compute backend.
    pub backend: String,
    /// The command line, with secrets masked.
    pub command: Vec<String>,
    /// Where it ran.
    pub host: String,
    /// The version of dissim.
    pub dissim: String,
    /// The commit of the project, if it is in git.
    pub git: Option<Git>,
    /// Tasks asked for, with what they need.
    pub tasks: usize,
    /// Those that were in the store.
    pub cached: usize,
    /// Those that ran.
    pub ran: usize,
    /// Those that failed, with the first line of the reason.
    pub failed: BTreeMap<String, String>,
    /// Those that could not start.
    pub skipped: usize,
    /// Digest of the list of keys by task name, in `cache/runs/keys/`: equal runs share one.
    pub keys: Digest,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every task has its artifact.
    Succeeded,
    /// A task failed.
    Failed,
    /// A signal ended it.
    Interrupted,
}

/// A commit, and whether the files are what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Git {
    /// The commit's digest.
    pub commit: String,
    /// Whether tracked files differ from it; none where git did not say.
    pub dirty: Option<bool>,
}

/// A run in progress.
#[derive(Debug)]
pub struct Recorder {
    started: SystemTime,
    pipeline: Digest,
    git: Option<(String, Option<Child>)>,
}

impl Recorder {
    /// Notes what a run starts from. Git is asked while the run goes on.
    #[must_use]
    pub fn start(root: &Path, pipeline: &[u8]) -> Self {
        let pipeline = Digest::of(pipeline);
        let git = commit(root).map(|commit| {
            let status = Command::new("git")
                .args(["status", "--porcelain", "--untracked-files=no"])
                .current_dir(root)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn();
            (commit, status.ok())
        });
        Self { started: SystemTime::now(), pipeline, git }
    }

    /// The same, of a study as its file stands.
    #[must_use]
    pub fn of(study: &Study) -> Self {
        Self::start(&study.root, &fs::read(&study.file).unwrap_or_default())
    }

    /// Keeps the run.
    ///
    /// # Errors
    /// When it cannot be written; the run is none the worse for it.
    pub fn finish(self, study: &Study, store: &Store, summary: &Summary) -> io::Result<RunRecord> {
        let keys: BTreeMap<&str, &Digest> =
            summary.keys.iter().map(|(&t, key)| (study.tasks[t].name.as_str(), key)).collect();
        let keys = serde_json::to_vec(&keys)?;
        let first =
            |why: &String| secret::hide(why.lines().next().unwrap_or_default()).into_owned();
        let record = RunRecord {
            outcome: match summary {
                s if s.interrupted => Outcome::Interrupted,
                s if s.failed.is_empty() => Outcome::Succeeded,
                _ => Outcome::Failed,
            },
            profile: study.profile.clone(),
            backend: study.backend.clone(),
            tasks: summary.tasks,
            cached: summary.cached,
            ran: summary.ran,
            failed: summary
                .failed
                .iter()
                .map(|(t, why)| (secret::hide(t).into_owned(), first(why)))
                .collect(),
            skipped: summary.skipped,
            ..self.succeeded(Digest::of(&keys))
        };
        store.put_run(&record, Some(&keys))?;
        Ok(record)
    }

    /// Keeps a run that found nothing changed.
    ///
    /// # Errors
    /// When it cannot be written; the run is none the worse for it.
    pub fn finish_unchanged(self, store: &Store, answer: &Unchanged) -> io::Result<()> {
        let record = RunRecord {
            profile: answer.profile.clone(),
            backend: answer.backend.clone(),
            tasks: answer.tasks,
            cached: answer.tasks,
            ..self.succeeded(answer.keys.clone())
        };
        store.put_run(&record, None)
    }

    /// The record of a run that ends now and did nothing.
    fn succeeded(self, keys: Digest) -> RunRecord {
        let since = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let dirty = |child: Child| -> Option<bool> {
            let output = child.wait_with_output().ok()?;
            output.status.success().then_some(!output.stdout.is_empty())
        };
        let git = self.git.map(|(commit, status)| Git { commit, dirty: status.and_then(dirty) });
        RunRecord {
            version: RunRecord::VERSION,
            // By the millisecond: runs are put in order by their ids.
            id: format!(
                "{}.{:03}-{}",
                stamp(since.as_secs()),
                since.subsec_millis(),
                std::process::id()
            ),
            started: since.as_secs(),
            duration_s: self.started.elapsed().unwrap_or_default().as_secs_f64(),
            outcome: Outcome::Succeeded,
            pipeline: self.pipeline,
            profile: None,
            backend: String::new(),
            command: command_line(),
            host: host(),
            dissim: env!("CARGO_PKG_VERSION").to_owned(),
            git,
            tasks: 0,
            cached: 0,
            ran: 0,
            failed: BTreeMap::new(),
            skipped: 0,
            keys,
        }
    }
}

impl RunRecord {
    /// The version this build writes.
    pub const VERSION: u32 = 1;
}

impl Store {
    fn runs(&self) -> PathBuf {
        self.root().join("runs")
    }

    /// Without `keys`, the list of keys is there.
    fn put_run(&self, run: &RunRecord, keys: Option<&[u8]>) -> io::Result<()> {
        let list = self.runs().join("keys").join(format!("{}.json", run.keys));
        if let Some(keys) = keys
            && !list.exists()
        {
            self.write_hint(&list, keys)?;
        }
        self.write_hint(
            &self.runs().join(format!("{}.json", run.id)),
            &serde_json::to_vec_pretty(run)?,
        )
    }

    /// Every run that was recorded, the oldest first; damaged ones are left out.
    #[must_use]
    pub fn run_records(&self) -> Vec<RunRecord> {
        let entries = fs::read_dir(self.runs()).into_iter().flatten().flatten();
        // Builds before this one recorded secrets.
        let masked =
            |run: RunRecord| RunRecord { command: secret::mask_command(&run.command), ..run };
        let read = |entry: fs::DirEntry| serde_json::from_slice(&fs::read(entry.path()).ok()?).ok();
        let mut runs: Vec<RunRecord> = entries.filter_map(read).map(masked).collect();
        runs.sort_by(|a, b| a.id.cmp(&b.id));
        runs
    }

    /// The keys of a run by task name.
    #[must_use]
    pub fn run_keys(&self, run: &RunRecord) -> BTreeMap<String, Digest> {
        let list = fs::read(self.runs().join("keys").join(format!("{}.json", run.keys)));
        list.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }
}

/// The command line of this process. A word that is not UTF-8 is kept as far as it is.
fn command_line() -> Vec<String> {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    secret::mask_command(&words.collect::<Vec<_>>())
}

/// The name of this machine.
pub(crate) fn host() -> String {
    nix::unistd::gethostname()
        .map_or_else(|_| "unknown".into(), |h| h.to_string_lossy().into_owned())
}

/// User, machine and process, for others to see.
pub(crate) fn whoami() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    format!("{}@{} ({})", user.as_deref().unwrap_or("somebody"), host(), std::process::id())
}

/// The commit that HEAD is, read from the files: asking git takes longer than a run that does nothing.
fn commit(root: &Path) -> Option<String> {
    let commit = head(root)?;
    (commit.len() >= 40 && commit.bytes().all(|b| b.is_ascii_hexdigit())).then_some(commit)
}

/// What the files of git say that HEAD is.
fn head(root: &Path) -> Option<String> {
    let git = root.ancestors().map(|folder| folder.join(".git")).find(|git| git.exists())?;
    let git = match fs::read_to_string(&git) {
        // A worktree's .git is a file that names the folder.
        Ok(text) => git.parent()?.join(text.trim().strip_prefix("gitdir: ")?),
        Err(_) => git,
    };
    let common = fs::read_to_string(git.join("commondir")).map(|c| git.join(c.trim()));
    let common = common.unwrap_or_else(|_| git.clone());
    let head = fs::read_to_string(git.join("HEAD")).ok()?;
    let Some(name) = head.trim().strip_prefix("ref: ") else { return Some(head.trim().to_owned()) };
    if let Ok(commit) = fs::read_to_string(common.join(name)) {
        return Some(commit.trim().to_owned());
    }
    let packed = fs::read_to_string(common.join("packed-refs")).ok()?;
    let line = packed.lines().find(|line| line.ends_with(&format!(" {name}")))?;
    line.split(' ').next().map(str::to_owned)
}

/// `20261124-215501` in UTC, for seconds since 1970.
#[must_use]
pub fn stamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant, "chrono-compatible low-level date algorithms": civil_from_days.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + carry;
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn stamps_are_dates() {
        // By `date -u -d @N +%Y%m%d-%H%M%S`.
        let stamps = [0, 951_782_400, 951_868_799, 1_795_557_301, 4_102_444_799].map(super::stamp);
        assert_eq!(
            stamps,
            [
                "19700101-000000",
                "20000229-000000",
                "20000229-235959",
                "20261124-215501",
                "20991231-235959"
            ]
        );
    }
}
