//! The program's working folder: the declared files of the project in it before, the declared
//! outputs taken out of it after.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Component, Path, PathBuf};

use dissim_api::{Context, IoContext, StageError, files};

use crate::params::CommandParams;

/// The folder in it that holds a link for each input artifact.
const INPUTS: &str = "inputs";

/// A private working folder.
pub(crate) struct WorkFolder {
    path: PathBuf,
    /// What was put there, relative to it.
    placed: BTreeSet<PathBuf>,
}

/// Whether there is a folder, and as it would be made: the runner may have one left.
fn is_empty(path: &Path) -> bool {
    let usable = fs::symlink_metadata(path).is_ok_and(|m| m.is_dir() && m.mode() & 0o777 == 0o755);
    usable && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

impl WorkFolder {
    /// Makes the folder afresh: what a killed try left in it is not to be trusted.
    pub fn prepare(context: &Context, params: &CommandParams) -> Result<Self, StageError> {
        let path = context.scratch().join("work");
        if !is_empty(&path) {
            match fs::remove_dir_all(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(e).or_fail("cannot remove", &path);
                }
                _ => fs::create_dir_all(&path).or_fail("cannot create", &path)?,
            }
        }
        let mut folder = Self { path, placed: BTreeSet::new() };
        // Code is copied: an interpreter that follows links would find, beside the file that a
        // link leads to, modules that were not declared.
        folder.place(context.project(), &params.code, |from, to| fs::copy(from, to).map(drop))?;
        folder.place(context.project(), &params.inputs, |from, to| symlink(from, to))?;
        folder.link_artifacts(context)?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the project files that `patterns` mean at their own relative paths.
    fn place(
        &mut self,
        project: &Path,
        patterns: &BTreeSet<String>,
        put: impl Fn(&Path, &Path) -> std::io::Result<()>,
    ) -> Result<(), StageError> {
        for pattern in patterns {
            for file in files::expand(project, Path::new(pattern))? {
                if !self.placed.insert(file.clone()) {
                    continue;
                }
                let from = project.join(&file);
                let from = fs::canonicalize(&from).or_fail("cannot read", &from)?;
                put(&from, &self.make_room(&file)?).or_fail("cannot hand on", &from)?;
            }
        }
        Ok(())
    }

    /// `inputs/<name>` is the artifact's folder; of several, `inputs/<name>/<task>` is each.
    fn link_artifacts(&mut self, context: &Context) -> Result<(), StageError> {
        for name in context.input_names() {
            let artifacts = context.inputs(name);
            let base = Path::new(INPUTS).join(name);
            for artifact in artifacts {
                let link = match artifacts {
                    [_] => base.clone(),
                    _ => base.join(artifact.task.replace('/', "_")),
                };
                let target =
                    fs::canonicalize(&artifact.path).or_fail("no input", &artifact.path)?;
                let at = self.make_room(&link)?;
                symlink(target, &at).or_fail("cannot link an input, is its name taken?", &at)?;
                self.placed.insert(link);
            }
        }
        Ok(())
    }

    /// The full path of `file`, with the folders above it made.
    fn make_room(&self, file: &Path) -> Result<PathBuf, StageError> {
        let target = self.path.join(file);
        let above = target.parent().unwrap_or(&self.path);
        fs::create_dir_all(above).or_fail("cannot create", above)?;
        Ok(target)
    }

    /// Moves the declared outputs to `output`, where some may be already, and returns what else
    /// the program left; that does not stay in `output`.
    pub fn collect(
        &self,
        outputs: &BTreeSet<String>,
        output: &Path,
    ) -> Result<Vec<PathBuf>, StageError> {
        let declared: Vec<PathBuf> = outputs.iter().map(|o| normal(Path::new(o))).collect();
        let mut missing = Vec::new();
        for path in &declared {
            let (here, there) = (self.path.join(path), output.join(path));
            match (exists(&here), exists(&there)) {
                (true, true) => {
                    let what = format!("output `{}` was written twice", path.display());
                    let help = "write it either to the working folder or to $DISSIM_OUTPUT";
                    return Err(StageError::new(what).at(there).help(help));
                }
                (true, false) => {
                    refuse_links(&here, path)?;
                    move_to(&here, &there)?;
                }
                (false, true) => refuse_links(&there, path)?,
                (false, false) => missing.push(format!("`{}`", path.display())),
            }
        }
        if !missing.is_empty() {
            let what = format!("the program did not leave {}", missing.join(", "));
            let help = "it must be there when the program ends, relative to its working folder or \
                        in $DISSIM_OUTPUT; the log says what it left instead";
            return Err(StageError::new(what).help(help));
        }
        let mut undeclared = Vec::new();
        for file in files_under(output)? {
            if !declared.iter().any(|d| file.starts_with(d)) {
                let full = output.join(&file);
                fs::remove_file(&full).or_fail("cannot remove", &full)?;
                undeclared.push(file);
            }
        }
        undeclared.extend(self.left_over()?);
        undeclared.sort();
        Ok(undeclared)
    }

    /// Files in the working folder that were not put there.
    pub fn left_over(&self) -> Result<Vec<PathBuf>, StageError> {
        let mut left = files_under(&self.path)?;
        left.retain(|file| {
            let cache = file.components().any(|c| c == Component::Normal("__pycache__".as_ref()));
            !self.placed.contains(file) && !cache
        });
        Ok(left)
    }
}

/// Without `.` components.
fn normal(path: &Path) -> PathBuf {
    path.components().filter(|c| matches!(c, Component::Normal(_))).collect()
}

/// Whether there is anything, a link that leads nowhere included.
fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
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

/// An artifact holds bytes: a link in it would lead somewhere else tomorrow.
fn refuse_links(full: &Path, declared: &Path) -> Result<(), StageError> {
    let kind = fs::symlink_metadata(full).or_fail("cannot read", full)?;
    let links: Vec<PathBuf> = if kind.is_dir() {
        let all = files_under(full)?.into_iter().map(|file| full.join(file));
        all.filter(|file| fs::symlink_metadata(file).is_ok_and(|m| !m.is_file())).collect()
    } else if kind.is_file() {
        Vec::new()
    } else {
        vec![full.to_path_buf()]
    };
    let Some(link) = links.into_iter().next() else { return Ok(()) };
    let what =
        format!("output `{}` is or holds a link, and must be plain files", declared.display());
    Err(StageError::new(what).at(link).help("let the program write the file itself"))
}

/// Renames, or copies where the two are on different file systems.
fn move_to(from: &Path, to: &Path) -> Result<(), StageError> {
    if let Some(above) = to.parent() {
        fs::create_dir_all(above).or_fail("cannot create", above)?;
    }
    match fs::rename(from, to) {
        Err(e) if e.kind() == ErrorKind::CrossesDevices => {}
        renamed => return renamed.or_fail("cannot move to the output folder", from),
    }
    if from.is_file() {
        return fs::copy(from, to).map(drop).or_fail("cannot copy to the output folder", from);
    }
    for file in files_under(from)? {
        let (from, to) = (from.join(&file), to.join(&file));
        fs::create_dir_all(to.parent().unwrap_or(&to)).or_fail("cannot create", &to)?;
        fs::copy(&from, &to).or_fail("cannot copy to the output folder", &from)?;
    }
    Ok(())
}
