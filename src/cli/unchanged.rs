//! The short way of `dissim run`: the same run as one that had nothing to do, and nothing changed
//! since.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use dissim_api::files;
use walkdir::WalkDir;

use super::run::{RunArgs, last_line};
use crate::digest::Digest;
use crate::execute::Summary;
use crate::graph::Study;
use crate::history::Recorder;
use crate::parse;
use crate::say::has_warned;
use crate::store::{Ground, Question, Store, Unchanged};

/// A run that may be one that was there before.
pub(super) struct Asked {
    question: Question,
    root: PathBuf,
    text: Vec<u8>,
}

/// What came of asking.
pub(super) enum Answer {
    /// The last line of the run: nothing changed.
    Line(String),
    /// The long way is to be gone; this is its beginning.
    Begun(Store, Recorder),
    /// The long way is to be gone, from the start.
    None,
}

impl Asked {
    /// None where the run has to tell of every task, or where something cannot be read: the long way
    /// says what.
    pub fn new(file: &Path, args: &RunArgs) -> Option<Self> {
        if args.json || args.trace.is_some() || args.output_logs {
            return None;
        }
        // The folder of the name, not of what a link may lead to: that is where the long way has the store.
        let root = parse::root_of(file);
        let file = root.join(file.file_name()?);
        let text = fs::read(&file).ok()?;
        let profile: Vec<String> = args.selection.profile.iter().cloned().collect();
        let given = [profile.as_slice(), &args.selection.set, &args.targets];
        let question = Question::new(&file, &text, &given)?;
        Some(Self { question, root, text })
    }

    /// The last line of the run, if nothing changed. It is recorded like any other.
    pub fn answer(&self) -> Answer {
        let start = Instant::now();
        let cache = self.root.join("cache");
        // A store that is not there is not made for a pipeline that may have errors.
        if !cache.is_dir() {
            return Answer::None;
        }
        let Ok(store) = Store::open(&cache) else { return Answer::None };
        let recorder = Recorder::start(&self.root, &self.text);
        let Some(answer) = store.unchanged(&self.question) else {
            return Answer::Begun(store, recorder);
        };
        if let Err(error) = recorder.finish_unchanged(&store, &answer) {
            say!("warning: the run could not be recorded: {error}");
        }
        let Unchanged { tasks, saved_s, .. } = answer;
        let summary = Summary { tasks, cached: tasks, saved_s, ..Summary::default() };
        Answer::Line(last_line(&summary, start.elapsed().as_secs_f64(), answer.page.as_deref()))
    }

    /// Notes what a run rested on, if it had nothing to do and nothing to warn of: the next one says no
    /// more than its last line. Only a hint: a failure to keep it is not a failure of the run.
    pub fn note(
        &self,
        study: &Study,
        store: &Store,
        summary: &Summary,
        keys: Digest,
        page: Option<&Path>,
    ) {
        let is_idle = summary.cached == summary.tasks && !summary.interrupted;
        if !is_idle || !summary.failed.is_empty() || has_warned() {
            return;
        }
        let Some((files, mut others)) = files_of(study, summary) else { return };
        let answer = Unchanged {
            tasks: summary.tasks,
            saved_s: summary.saved_s,
            profile: study.profile.clone(),
            backend: study.backend.clone(),
            keys,
            page: page.map(Path::to_path_buf),
        };
        if page.is_some() {
            others.extend(crate::publish::files(study));
        }
        let ground = Ground { files, others, keys: summary.keys.values().collect() };
        let (digests, index) = (store.file_digests(), store.index());
        if let Err(error) = store.note_unchanged(&self.question, &answer, &ground, &digests, &index)
        {
            say!("warning: what this run rested on could not be kept: {error}");
        }
    }
}

/// The project files that the tasks read, and the folders that are read as a whole, absolute. None where a task reads what a pattern matches:
/// what is new among that shows in no file's `stat`.
fn files_of(study: &Study, summary: &Summary) -> Option<(Vec<PathBuf>, Vec<PathBuf>)> {
    let patterns: BTreeSet<&PathBuf> =
        summary.keys.keys().flat_map(|&task| study.tasks[task].project_files()).collect();
    let (mut paths, mut folders) = (BTreeSet::new(), BTreeSet::new());
    for pattern in patterns {
        let path = study.root.join(pattern);
        let plain = pattern.components().all(|c| matches!(c, Component::Normal(_)));
        if !plain || pattern.to_string_lossy().contains(['*', '?']) {
            return None;
        }
        if path.is_dir() {
            // A file that comes or goes changes the time of its folder.
            let below = WalkDir::new(&path).into_iter().map(|entry| entry.ok());
            for entry in below.collect::<Option<Vec<_>>>()? {
                if entry.file_type().is_dir() {
                    folders.insert(entry.into_path());
                }
            }
            let found = files::expand(&study.root, pattern).ok()?;
            paths.extend(found.into_iter().map(|file| study.root.join(file)));
        } else {
            paths.insert(path);
        }
    }
    Some((paths.into_iter().collect(), folders.into_iter().collect()))
}
