//! The files of a crate that is there as a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::Error;
use super::cargo::Package;

/// Folders of a crate that hold tests, benchmarks and examples: cargo does not build them into a stage.
const FOR_DEVELOPMENT: [&str; 3] = ["tests", "benches", "examples"];
/// Folders that runs write in a folder with a pipeline.
const WRITTEN_BY_RUNS: [&str; 2] = ["cache", "reports"];

/// The files of one crate.
pub(super) struct Sources {
    /// Path to blake3 digest.
    pub entries: BTreeMap<String, String>,
    pub watched: BTreeSet<PathBuf>,
}

/// All that rustc can read of a crate: every file of its folder, but for what is hidden, another crate's, or
/// for development; and what a source includes by name from elsewhere.
///
/// The folder of a workspace or a pipeline holds much that has nothing to do with the crate. Of that folder
/// only Rust sources, the folders of the crate's targets, and included files count.
pub(super) fn of(package: &Package, prefix: &str, is_root: bool) -> Result<Sources, Error> {
    let folder = package.folder();
    let is_project = is_root || folder.join("pipeline.yaml").exists();
    let built: Vec<&Path> =
        package.targets.iter().filter(|t| t.is_built()).map(|t| t.src_path.as_path()).collect();
    let target_folders: Vec<&Path> =
        built.iter().filter_map(|path| path.parent()).filter(|parent| *parent != folder).collect();
    let mut files: BTreeSet<PathBuf> = built.iter().map(|path| path.to_path_buf()).collect();
    files.insert(folder.join("Cargo.toml"));
    let mut watched = BTreeSet::new();
    let wanted = |entry: &DirEntry| {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy());
        if entry.depth() == 0 || built.iter().any(|target| target.starts_with(path)) {
            return true;
        }
        let at_top = |names: &[&str]| entry.depth() == 1 && names.contains(&&*name);
        if !path.is_dir() {
            // What editors leave.
            return !(name.starts_with(['.', '#']) || name.ends_with('~'));
        }
        !(name.starts_with('.')
            || name == "target"
            || path.join("CACHEDIR.TAG").exists()
            || path.join("Cargo.toml").exists()
            || at_top(&FOR_DEVELOPMENT)
            || (is_project && at_top(&WRITTEN_BY_RUNS)))
    };
    for entry in WalkDir::new(folder).follow_links(true).into_iter().filter_entry(wanted) {
        let entry = match entry {
            Ok(entry) => entry,
            // A link to nothing.
            Err(error) if error.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound) => {
                continue;
            }
            Err(error) => return Err(Error::reading(folder, &error)),
        };
        let path = entry.path();
        let is_source = path.extension().is_some_and(|end| end == "rs");
        let of_target = target_folders.iter().any(|target| path.starts_with(target));
        if entry.file_type().is_file() && (!is_project || is_source || of_target) {
            files.insert(entry.into_path());
        }
    }
    // A target outside the crate's folder brings its own.
    for target in target_folders.iter().filter(|target| !target.starts_with(folder)) {
        let all = WalkDir::new(target).into_iter().filter_map(Result::ok);
        files.extend(all.filter(|entry| entry.file_type().is_file()).map(DirEntry::into_path));
    }
    let mut entries = BTreeMap::new();
    let mut queue: Vec<PathBuf> = files.iter().cloned().collect();
    while let Some(file) = queue.pop() {
        let bytes = fs::read(&file).map_err(|error| Error::reading(&file, &error))?;
        let mut digest = blake3::Hasher::new();
        digest.update(&bytes);
        if file == folder.join("Cargo.toml") {
            digest.update(package.inherited().as_bytes());
        }
        let name = format!("{prefix}/{}", unix_path(&relative(&file, folder)));
        entries.insert(name, digest.finalize().to_hex().to_string());
        if file.extension().is_some_and(|end| end == "rs") {
            let text = String::from_utf8_lossy(&bytes);
            let beside = file.parent().unwrap_or(folder);
            for included in included(&text, beside, folder) {
                if included.is_file() && files.insert(included.clone()) {
                    queue.push(included);
                }
            }
        }
        watched.insert(watch(&file, folder, &target_folders, is_project));
    }
    Ok(Sources { entries, watched })
}

/// What cargo is to watch for a file: a folder shows new files too.
fn watch(file: &Path, folder: &Path, target_folders: &[&Path], is_project: bool) -> PathBuf {
    if let Some(target) = target_folders.iter().find(|target| file.starts_with(target)) {
        return target.to_path_buf();
    }
    match file.strip_prefix(folder).ok().and_then(|inside| inside.components().next()) {
        Some(first) if !is_project => folder.join(first),
        _ => file.to_path_buf(),
    }
}

/// The files that a source includes by a literal path, whether or not they are there.
fn included(source: &str, beside: &Path, folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for start in ["include!", "include_str!", "include_bytes!", "#[path"] {
        for (at, _) in source.match_indices(start) {
            let rest = source[at + start.len()..]
                .trim_start_matches([' ', '\n', '\t', '(', '[', '{', '=']);
            let (base, rest) = match rest.strip_prefix("concat!") {
                Some(rest) => {
                    let variable = "env!(\"CARGO_MANIFEST_DIR\")";
                    let Some((_, rest)) = rest.split_once(variable) else { continue };
                    (folder, rest.trim_start_matches([' ', '\n', '\t', ',']))
                }
                None => (beside, rest),
            };
            let rest = rest.trim_start_matches(['r', '#']);
            let literal = rest.strip_prefix('"').and_then(|rest| rest.split_once('"'));
            if let Some((literal, _)) = literal {
                let literal =
                    if base == folder { literal.trim_start_matches('/') } else { literal };
                found.push(lexical(&base.join(literal)));
            }
        }
    }
    found
}

/// The path without `.` and `..`.
fn lexical(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

/// The path as seen from a folder.
fn relative(path: &Path, folder: &Path) -> PathBuf {
    let up = folder.ancestors().position(|above| path.starts_with(above)).unwrap_or(0);
    let above = folder.ancestors().nth(up).unwrap_or(folder);
    let rest = path.strip_prefix(above).unwrap_or(path);
    std::iter::repeat_n(Path::new(".."), up).collect::<PathBuf>().join(rest)
}

pub(super) fn unix_path(path: &Path) -> String {
    path.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}
