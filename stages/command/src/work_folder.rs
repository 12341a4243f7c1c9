//! The program's working folder: its code and inputs in it before, the declared outputs taken out of it after.
//!
//! Everything in it is the program's own. What the program does to its code and inputs reaches neither the user's files nor
//! the store: they are copies, or clones where the file system has them. Files that are too large to be
//! copied are links, and the runner looks after the task whether what they lead to is as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use dissim_api::{Context, IoContext, StageError, files};
use serde_json::{Value, json};

use crate::params::CommandParams;

/// The folder in it that holds the input artifacts.
const INPUTS: &str = "inputs";
/// The folder in the task's scratch folder that is the working folder.
const WORK: &str = "work";
/// The folder that keeps what a program left whose outputs were not as declared.
const FAILED: &str = "failed";
/// The time of every file that is put there, 1980-01-01 UTC: a program sees nothing of when its inputs were made or
/// copied, and `make` finds no file older than another.
const PLACED: Duration = Duration::from_secs(315_532_800);
/// Files up to this size are copied.
const MAX_COPIED_FILE_BYTES: u64 = 8 << 20;
/// All files that are copied for one task have at most this size together.
const MAX_COPIED_BYTES: u64 = 256 << 20;

/// A private working folder.
pub(crate) struct WorkFolder {
    path: PathBuf,
    /// What was put there, relative to it, as it was then.
    placed: BTreeMap<PathBuf, Stamp>,
    /// What links in it lead to.
    linked: BTreeSet<PathBuf>,
    /// How many bytes may still be copied.
    budget: u64,
}

/// A file as the system describes it: another one after any write.
type Stamp = (u64, u64, i64, i64, i64, i64);

fn stamp(path: &Path) -> io::Result<Stamp> {
    let of = fs::symlink_metadata(path)?;
    Ok((of.ino(), of.len(), of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec()))
}

impl WorkFolder {
    /// Makes the folder afresh: what a killed attempt left in it is not to be trusted.
    pub fn prepare(context: &Context, params: &CommandParams) -> Result<Self, StageError> {
        let path = context.scratch().join(WORK);
        files::remove_tree(&path).or_fail("cannot remove", &path)?;
        fs::create_dir_all(&path).or_fail("cannot create", &path)?;
        let (placed, linked) = (BTreeMap::new(), BTreeSet::new());
        let mut folder = Self { path, placed, linked, budget: MAX_COPIED_BYTES };
        for (file, copy) in context.code() {
            folder.place_code(copy, file)?;
        }
        folder.place_inputs(context.project(), &params.inputs)?;
        folder.place_artifacts(context)?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the artifact of an input is, or the folder of all artifacts of an input that gathers.
    pub fn input(&self, name: &str) -> PathBuf {
        self.path.join(INPUTS).join(name)
    }

    /// Code is always copied, and the copy may be changed: some programs compile beside their sources.
    fn place_code(&mut self, copy: &Path, file: &Path) -> Result<(), StageError> {
        let to = self.make_room(file)?;
        copy_new(copy, &to).or_fail("cannot copy", copy)?;
        let mode = fs::metadata(copy).or_fail("cannot read", copy)?.mode();
        settle(&to, mode & 0o777 | 0o200)?;
        self.remember(file)
    }

    /// Puts the project files that `patterns` mean at their own relative paths.
    fn place_inputs(
        &mut self,
        project: &Path,
        patterns: &BTreeSet<String>,
    ) -> Result<(), StageError> {
        for pattern in patterns {
            for file in files::expand(project, Path::new(pattern))? {
                if self.placed.contains_key(&file) {
                    continue;
                }
                let from = project.join(&file);
                let from = fs::canonicalize(&from).or_fail("cannot read", &from)?;
                self.place(&from, &file)?;
            }
        }
        Ok(())
    }

    /// `inputs/<name>` is the artifact's folder. Of an input that gathers, `inputs/<name>/` holds a folder for
    /// each artifact, numbered, and `inputs/<name>.json` has the axes of each.
    fn place_artifacts(&mut self, context: &Context) -> Result<(), StageError> {
        for name in context.input_names() {
            let base = Path::new(INPUTS).join(name);
            if !context.gathers(name) {
                self.place_tree(context.input(name)?, &base)?;
                continue;
            }
            let full = self.path.join(&base);
            fs::create_dir_all(&full).or_fail("cannot create", &full)?;
            let mut list = Vec::new();
            for artifact in context.inputs(name) {
                let number = artifact.path.file_name().unwrap_or_default();
                let folder = base.join(number);
                self.place_tree(&artifact.path, &folder)?;
                // Sorted: the order of axes in the pipeline is not part of the task.
                let axes: BTreeMap<&String, &Value> = artifact.axes.iter().collect();
                list.push(json!({ "path": folder, "axes": axes }));
            }
            let file = Path::new(INPUTS).join(format!("{name}.json"));
            let full = self.make_room(&file)?;
            let text = serde_json::to_vec_pretty(&list).unwrap_or_default();
            fs::write(&full, text).or_fail("cannot write", &full)?;
            self.remember(&file)?;
        }
        Ok(())
    }

    /// Puts a folder of the runner's at a relative path.
    fn place_tree(&mut self, from: &Path, to: &Path) -> Result<(), StageError> {
        let folder = self.path.join(to);
        fs::create_dir_all(&folder).or_fail("cannot create", &folder)?;
        for entry in fs::read_dir(from).or_fail("cannot list", from)? {
            let entry = entry.or_fail("cannot list", from)?;
            let (path, to) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type().or_fail("cannot read", &path)?;
            if kind.is_dir() {
                self.place_tree(&path, &to)?;
                continue;
            }
            // Links of the runner's lead into the store, and are absolute. Others are the artifact's own.
            let link = if kind.is_symlink() { fs::read_link(&path).ok() } else { None };
            match link.filter(|link| link.is_relative()) {
                Some(link) => {
                    let full = self.make_room(&to)?;
                    symlink(link, &full).or_fail("cannot link", &full)?;
                    self.remember(&to)?;
                }
                None => {
                    let from = fs::canonicalize(&path).or_fail("cannot read", &path)?;
                    self.place(&from, &to)?;
                }
            }
        }
        Ok(())
    }

    /// Puts one file at a relative path, read-only: a copy, a clone, or a link.
    fn place(&mut self, from: &Path, file: &Path) -> Result<(), StageError> {
        let to = self.make_room(file)?;
        let metadata = fs::metadata(from).or_fail("cannot read", from)?;
        let copied = metadata.len() <= MAX_COPIED_FILE_BYTES.min(self.budget);
        if copied {
            self.budget -= metadata.len();
            copy_new(from, &to).or_fail("cannot copy", from)?;
        } else if reflink_copy::reflink(from, &to).is_err() {
            if symlink(from, &to).is_ok() {
                self.linked.insert(from.to_path_buf());
                return self.remember(file);
            }
            copy_new(from, &to).or_fail("cannot copy", from)?;
        }
        settle(&to, metadata.mode() & 0o555 | 0o400)?;
        self.remember(file)
    }

    /// Notes how a file is that was put at a relative path.
    fn remember(&mut self, file: &Path) -> Result<(), StageError> {
        let full = self.path.join(file);
        let stamp = stamp(&full).or_fail("cannot read", &full)?;
        self.placed.insert(file.to_path_buf(), stamp);
        Ok(())
    }

    /// The full path of `file`, with the folders above it made.
    fn make_room(&self, file: &Path) -> Result<PathBuf, StageError> {
        let target = self.path.join(file);
        let above = target.parent().unwrap_or(&self.path);
        fs::create_dir_all(above).or_fail("cannot create", above)?;
        if fs::symlink_metadata(&target).is_ok() {
            let what = "the name of an input is taken by another input or a project file";
            return Err(StageError::new(what).at(target).help("rename one of them"));
        }
        Ok(target)
    }

    /// Whether a file is as it was put there.
    fn is_untouched(&self, file: &Path) -> bool {
        let before = self.placed.get(file);
        before.is_some_and(|before| stamp(&self.path.join(file)).is_ok_and(|now| now == *before))
    }

    /// Moves the declared outputs to `output`, and returns what else the program left. All of them are looked at
    /// before the first is moved: where one is missing or cannot be kept, all that the program left stays, in a
    /// folder that the error names.
    pub fn collect(
        &self,
        outputs: &BTreeSet<String>,
        output: &Path,
    ) -> Result<Vec<PathBuf>, StageError> {
        // A folder that the program closed to itself could not be moved.
        files::unlock_folders(&self.path);
        let declared: Vec<PathBuf> = outputs.iter().map(|o| normal(Path::new(o))).collect();
        if let Err(error) = self.check(&declared) {
            return Err(self.keep_failed(error));
        }
        for path in &declared {
            move_to(&self.path.join(path), &output.join(path))?;
        }
        self.left_over()
    }

    /// Whether every declared output was made and can be kept.
    fn check(&self, declared: &[PathBuf]) -> Result<(), StageError> {
        let mut missing = Vec::new();
        for path in declared {
            let full = self.path.join(path);
            let Ok(kind) = fs::symlink_metadata(&full) else {
                missing.push(format!("`{}`", path.display()));
                continue;
            };
            let below = if kind.is_dir() { files_under(&full)? } else { Vec::new() };
            let found: Vec<PathBuf> = match kind.is_dir() {
                true => below.into_iter().map(|file| path.join(file)).collect(),
                false => vec![path.clone()],
            };
            // What was only put there was not made.
            if !found.is_empty() && found.iter().all(|file| self.is_untouched(file)) {
                missing.push(format!("`{}`", path.display()));
                continue;
            }
            for file in &found {
                self.check_file(file, declared)?;
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let what = format!("the program did not leave {}", missing.join(", "));
        let help = "outputs must be there when the program ends, relative to its working folder; \
                    files under `code` and `inputs` do not count; the log says what it left instead";
        Err(StageError::new(what).help(help))
    }

    /// Whether one file of an output can be kept. A link to a large input becomes a copy of it.
    fn check_file(&self, file: &Path, declared: &[PathBuf]) -> Result<(), StageError> {
        let full = self.path.join(file);
        if file.to_str().is_none() {
            let what = format!("the name of output `{}` is not UTF-8", file.display());
            return Err(StageError::new(what).help("give the file another name"));
        }
        let kind = fs::symlink_metadata(&full).or_fail("cannot read", &full)?;
        if kind.is_file() {
            return Ok(());
        }
        if !kind.is_symlink() {
            let what =
                format!("output `{}` is neither a file, a folder nor a link", file.display());
            return Err(StageError::new(what).help("let the program write a file"));
        }
        let link = fs::read_link(&full).or_fail("cannot read", &full)?;
        if self.linked.contains(&link) {
            fs::remove_file(&full).or_fail("cannot remove", &full)?;
            return copy_new(&link, &full).or_fail("cannot copy", &link);
        }
        // Where the link leads, relative to the working folder.
        let target = file.parent().unwrap_or(Path::new("")).join(&link);
        let target = lexical(&target).filter(|_| link.is_relative());
        let kept = target.is_some_and(|target| declared.iter().any(|d| target.starts_with(d)));
        if kept && full.exists() {
            return Ok(());
        }
        let (file, link) = (file.display(), link.display());
        let what = format!("output `{file}` is a link to `{link}`, which is not kept");
        let help = "links must be relative and lead to something in the outputs; or let the program \
                    write the file itself";
        Err(StageError::new(what).help(help))
    }

    /// Puts all that the program left where no further attempt removes it at its start, and says where.
    fn keep_failed(&self, error: StageError) -> StageError {
        let kept = self.path.with_file_name(FAILED);
        let moved = files::remove_tree(&kept).and_then(|()| fs::rename(&self.path, &kept));
        let place = if moved.is_ok() { kept } else { self.path.clone() };
        let files = files_under(&place).unwrap_or_default();
        let placed = files.iter().filter(|file| self.placed.contains_key(*file)).count();
        match files.len() - placed {
            0 => error,
            _ => error.at(place),
        }
    }

    /// Files in the working folder that were not put there.
    pub fn left_over(&self) -> Result<Vec<PathBuf>, StageError> {
        let failed = self.path.with_file_name(FAILED);
        let folder = if self.path.exists() { &self.path } else { &failed };
        let mut left = files_under(folder)?;
        left.retain(|file| {
            let cache = file.components().any(|c| c == Component::Normal("__pycache__".as_ref()));
            !self.placed.contains_key(file) && !cache
        });
        Ok(left)
    }
}

/// Gives a file that was put there its mode and time.
fn settle(file: &Path, mode: u32) -> Result<(), StageError> {
    let opened = File::open(file).or_fail("cannot read", file)?;
    opened.set_modified(UNIX_EPOCH + PLACED).or_fail("cannot set the time of", file)?;
    fs::set_permissions(file, Permissions::from_mode(mode))
        .or_fail("cannot change the mode of", file)
}

/// Without `.` components.
fn normal(path: &Path) -> PathBuf {
    path.components().filter(|c| matches!(c, Component::Normal(_))).collect()
}

/// A relative path without `..`, by its text alone; `None` if it leaves its folder.
fn lexical(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            Component::ParentDir if plain.pop() => {}
            _ => return None,
        }
    }
    Some(plain)
}

/// Files and links under `folder`, relative to it; links are not followed.
fn files_under(folder: &Path) -> Result<Vec<PathBuf>, StageError> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        let full = folder.join(&below);
        for entry in fs::read_dir(&full).or_fail("cannot list", &full)? {
            let entry = entry.or_fail("cannot list", &full)?;
            let path = below.join(entry.file_name());
            if entry.file_type().or_fail("cannot read", &full)?.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Copies a file to where nothing is. Nothing is ever written through a link that is there.
fn copy_new(from: &Path, to: &Path) -> io::Result<()> {
    io::copy(&mut File::open(from)?, &mut File::create_new(to)?).map(drop)
}

/// Renames, or copies where the two are on different file systems.
fn move_to(from: &Path, to: &Path) -> Result<(), StageError> {
    if let Some(above) = to.parent() {
        fs::create_dir_all(above).or_fail("cannot create", above)?;
    }
    match fs::rename(from, to) {
        Err(e) if e.kind() == io::ErrorKind::CrossesDevices => copy_tree(from, to),
        renamed => renamed.or_fail("cannot move to the output folder", from),
    }
}

/// Copies a file, a link, or a folder with all that is in it, modes included.
fn copy_tree(from: &Path, to: &Path) -> Result<(), StageError> {
    let kind = fs::symlink_metadata(from).or_fail("cannot read", from)?;
    if kind.is_symlink() {
        let link = fs::read_link(from).or_fail("cannot read", from)?;
        return symlink(link, to).or_fail("cannot link", to);
    }
    if kind.is_file() {
        return fs::copy(from, to).map(drop).or_fail("cannot copy to the output folder", from);
    }
    fs::create_dir_all(to).or_fail("cannot create", to)?;
    for entry in fs::read_dir(from).or_fail("cannot list", from)? {
        let entry = entry.or_fail("cannot list", from)?;
        copy_tree(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
