//! The proof that a run has nothing to do, from the last time when it had nothing to do.
//!
//! Reading pipeline.yaml, expanding it and hashing every task's facts takes longer than asking the file
//! system whether anything changed. So a run in which every task was a hit notes what that rested on:
//! the question (pipeline, options, targets, program), and what `stat` said of every project file,
//! record and manifest, which blobs there were, and which files were published. While all of that
//! stands, the same run has the same answer. It is the very look that [`super::Index`] and
//! [`super::FileDigests`] take; where anything differs, the run goes the long way and finds out what.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rayon::prelude::*;

use super::index::Known;
use super::packed::{Packer, Unpacker};
use super::stat::Stat;
use super::{FileDigests, Index, Store};
use crate::digest::Digest;

const FOLDER: &str = "unchanged";
const VERSION: u64 = 1;
/// So many questions are remembered: profiles and targets that take turns.
const MOST: usize = 8;
/// A file this young may change once more within the clock's resolution and look the same.
const SETTLED: Duration = Duration::from_secs(2);

/// What a run was asked, as a digest of it.
#[derive(Debug, Clone)]
pub struct Question(Digest);

impl Question {
    /// The question of a pipeline's text, the options and targets that were given, and this program.
    /// None where the program does not know its own file.
    #[must_use]
    pub fn new(file: &Path, text: &[u8], given: &[&[String]]) -> Option<Self> {
        let program = fs::metadata(std::env::current_exe().ok()?).ok()?;
        let mut packer = Packer::default();
        Stat::of(&program).pack(&mut packer);
        packer.text(env!("CARGO_PKG_VERSION"));
        packer.text(file.to_str()?);
        packer.digest(&Digest::of(text));
        for list in given {
            packer.number(list.len() as u64);
            list.iter().for_each(|text| packer.text(text));
        }
        Some(Self(Digest::of(&packer.seal(VERSION))))
    }
}

/// What a run that does nothing comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Unchanged {
    /// Tasks, all of them hits.
    pub tasks: usize,
    /// Seconds that they took when they ran.
    pub saved_s: f64,
    /// The profile in use.
    pub profile: Option<String>,
    /// The compute backend.
    pub backend: String,
    /// The list of keys by task name, as the history of runs keeps it.
    pub keys: Digest,
    /// The page to open.
    pub page: Option<PathBuf>,
}

/// What a run in which all tasks were hits rested on.
#[derive(Debug)]
pub struct Ground<'a> {
    /// The project files that tasks read, absolute, each once.
    pub files: Vec<PathBuf>,
    /// Folders that are read as a whole, and files that were published, absolute.
    pub others: Vec<PathBuf>,
    /// The keys of the tasks.
    pub keys: Vec<&'a Digest>,
}

impl Store {
    fn unchanged_file(&self, question: &Question) -> PathBuf {
        self.root.join(FOLDER).join(format!("{}.bin", question.0))
    }

    /// What the run comes to, if nothing changed since it was last found to have nothing to do.
    #[must_use]
    pub fn unchanged(&self, question: &Question) -> Option<Unchanged> {
        let mut from = Unpacker::open(&self.unchanged_file(question), VERSION)?;
        let tasks = usize::try_from(from.number()?).ok()?;
        let saved_s = f64::from_bits(from.number()?);
        let profile = optional(&mut from)?;
        let backend = from.text()?.to_owned();
        let keys = from.digest()?;
        let page = optional(&mut from)?.map(PathBuf::from);
        if !self.root.join("runs").join("keys").join(format!("{keys}.json")).is_file() {
            return None;
        }
        let mut files = Vec::new();
        for _ in 0..from.number()? {
            files.push((from.text()?.to_owned(), Stat::unpack(&mut from)?));
        }
        let mut known = Vec::new();
        for _ in 0..from.number()? {
            known.push((from.digest()?, Known::unpack(&mut from)?));
        }
        let stands = |(path, stat): &(String, Stat)| {
            fs::metadata(path).is_ok_and(|metadata| Stat::of(&metadata) == *stat)
        };
        let all = files.par_iter().with_min_len(64).all(stands)
            && known.par_iter().with_min_len(64).all(|(key, known)| self.stands(key, known));
        all.then_some(Unchanged { tasks, saved_s, profile, backend, keys, page })
    }

    /// Notes what a run rested on in which every task was a hit. Nothing is noted while a file is so
    /// young that a change of it could go unseen.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note_unchanged(
        &self,
        question: &Question,
        answer: &Unchanged,
        ground: &Ground<'_>,
        files: &FileDigests,
        index: &Index,
    ) -> io::Result<()> {
        let file = self.unchanged_file(question);
        match self.packed_ground(answer, ground, files, index) {
            Some(bytes) => {
                self.write_hint(&file, &bytes)?;
                self.forget_old_questions()
            }
            None => Ok(()),
        }
    }

    fn packed_ground(
        &self,
        answer: &Unchanged,
        ground: &Ground<'_>,
        files: &FileDigests,
        index: &Index,
    ) -> Option<Vec<u8>> {
        let mut packer = Packer::default();
        packer.number(answer.tasks as u64);
        packer.number(answer.saved_s.to_bits());
        pack_optional(answer.profile.as_deref(), &mut packer);
        packer.text(&answer.backend);
        packer.digest(&answer.keys);
        let page = answer.page.as_ref().map(|page| page.to_str());
        pack_optional(page.flatten(), &mut packer);
        // The latest key of every task's name stands as long as nothing was renamed into its folder.
        let latest = self.root.join("latest");
        let shards = fs::read_dir(&latest).ok()?.flatten().map(|entry| entry.path());
        let mut stats: Vec<(PathBuf, Stat)> = Vec::new();
        for path in shards.chain([latest.clone()]).chain(ground.others.iter().cloned()) {
            let metadata = fs::metadata(&path).ok()?;
            let age = SystemTime::now().duration_since(metadata.modified().ok()?).ok()?;
            if age <= SETTLED {
                return None;
            }
            stats.push((path, Stat::of(&metadata)));
        }
        for path in &ground.files {
            stats.push((path.clone(), files.stat_of(path)?.clone()));
        }
        packer.number(stats.len() as u64);
        for (path, stat) in &stats {
            packer.text(path.to_str()?);
            stat.pack(&mut packer);
        }
        packer.number(ground.keys.len() as u64);
        for &key in &ground.keys {
            packer.digest(key);
            index.known(key)?.pack(&mut packer);
        }
        Some(packer.seal(VERSION))
    }

    /// Keeps the latest few.
    fn forget_old_questions(&self) -> io::Result<()> {
        let entries = fs::read_dir(self.root.join(FOLDER))?.flatten();
        let dated =
            |entry: fs::DirEntry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()));
        let mut all: Vec<(SystemTime, PathBuf)> = entries.filter_map(dated).collect();
        all.sort();
        all.iter().rev().skip(MOST).try_for_each(|(_, path)| match fs::remove_file(path) {
            // Another run forgets the same ones.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        })
    }
}

fn optional(from: &mut Unpacker) -> Option<Option<String>> {
    let there = from.number()?;
    Some(if there == 1 { Some(from.text()?.to_owned()) } else { None })
}

fn pack_optional(text: Option<&str>, packer: &mut Packer) {
    packer.number(u64::from(text.is_some()));
    if let Some(text) = text {
        packer.text(text);
    }
}
