//! Artifacts: a task's output folder as blobs and a manifest.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::hash::hash_file;
use super::{Store, at};
use crate::digest::Digest;

/// The files of an artifact by path, relative and with `/`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tree {
    /// Path to entry.
    pub files: BTreeMap<String, Entry>,
}

/// One file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Whether it may be executed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

impl Tree {
    /// The artifact's digest: blake3 of the manifest's JSON.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("a manifest serialises"))
    }

    /// Reads the manifest of an artifact.
    ///
    /// # Errors
    /// What is wrong with it: it is no manifest, is not what the digest says, or has a path that
    /// would leave the folder it is put into.
    pub(super) fn read(bytes: &[u8], artifact: &Digest) -> Result<Self, String> {
        let tree: Self = serde_json::from_slice(bytes)
            .map_err(|error| format!("the manifest cannot be read: {error}"))?;
        if tree.digest() != *artifact {
            return Err("the manifest is not what its name says".to_owned());
        }
        tree.check_paths()?;
        Ok(tree)
    }

    /// Checks that a folder can hold every path.
    ///
    /// # Errors
    /// Returns an error that names the first path that leaves its folder, is longer than a file system takes, or
    /// is below a file.
    pub(crate) fn check_paths(&self) -> Result<(), String> {
        for path in self.files.keys() {
            let wrong = if !is_plain(path) {
                "leaves its folder"
            } else if path.len() > MAX_PATH || path.split('/').any(|part| part.len() > MAX_NAME) {
                "is longer than a file system takes"
            } else if path.match_indices('/').any(|(at, _)| self.files.contains_key(&path[..at])) {
                "is below a file"
            } else {
                continue;
            };
            return Err(format!("the manifest has a file {}, which {wrong}", quoted(path)));
        }
        Ok(())
    }

    /// What the manifest of `folder` would be, were it committed; nothing is moved.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn of_folder(folder: &Path) -> io::Result<Self> {
        Self::gather(folder, |path| {
            let metadata = fs::metadata(path)?;
            let (size, executable) = (metadata.len(), metadata.mode() & 0o111 != 0);
            let digest = hash_file(path, size).map_err(|e| at(e, path))?;
            Ok(Entry { digest, size, executable })
        })
    }

    /// The entry of every file under `folder`.
    fn gather(folder: &Path, entry_of: impl Fn(&Path) -> io::Result<Entry>) -> io::Result<Self> {
        let mut tree = Self::default();
        for entry in WalkDir::new(folder).sort_by_file_name() {
            let entry = entry?;
            if entry.file_type().is_dir() {
                continue;
            }
            let path = entry.path();
            let relative = path.strip_prefix(folder).unwrap_or(path);
            let Some(name) = relative.to_str() else {
                let what = format!("{}: the name is not UTF-8", relative.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            };
            if !entry.file_type().is_file() {
                let what = format!("{name}: an artifact holds files, no links or devices");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            tree.files.insert(name.to_owned(), entry_of(path)?);
        }
        Ok(tree)
    }

    /// Bytes of all files.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files.values().map(|e| e.size).sum()
    }
}

/// The longest name that a file system takes, in bytes.
const MAX_NAME: usize = 255;
/// The longest path in an artifact: with the folder around it, it stays below the 4096 bytes of Linux.
const MAX_PATH: usize = 3072;
/// How many characters of a path are shown.
const MAX_SHOWN: usize = 80;

/// A path of somebody else's in a message: short, and without characters that a terminal obeys.
pub(crate) fn quoted(path: &str) -> String {
    let mut shown: String = path.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if path.chars().nth(MAX_SHOWN).is_some() {
        shown += "..";
    }
    format!("`{shown}`")
}

/// Whether a path names something below a folder, in the one way of writing it.
pub(crate) fn is_plain(name: &str) -> bool {
    let part = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    name.split('/').all(part)
}

impl Store {
    /// Takes over the files of `folder`: blobs first, then the manifest. The folder is empty or
    /// gone afterwards.
    ///
    /// # Errors
    /// When a file is a link or no regular file, has a name that is not UTF-8, or cannot be moved.
    pub fn commit(&self, folder: &Path) -> io::Result<Digest> {
        let tree = Tree::gather(folder, |path| self.take(path))?;
        let digest = tree.digest();
        let path = self.sharded("trees", &digest);
        // One that is damaged is written anew.
        if self.tree(&digest).is_none() {
            let bytes = serde_json::to_vec(&tree)?;
            if bytes.len() as u64 > super::LARGEST_TEXT {
                let what = format!("{} files are too many for an artifact", tree.files.len());
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            self.write_hint(&path, &bytes)?;
        }
        Ok(digest)
    }

    /// Moves one file among the blobs.
    fn take(&self, path: &Path) -> io::Result<Entry> {
        let metadata = fs::metadata(path)?;
        let size = metadata.len();
        let executable = metadata.mode() & 0o111 != 0;
        let digest = hash_file(path, size).map_err(|e| at(e, path))?;
        let object = self.object(&digest);
        // One that is there is believed only when it is read: these good bytes may be all there is.
        if self.has(&digest, size) {
            fs::remove_file(path).map_err(|e| at(e, path))?;
        } else {
            let shard = object.parent().unwrap_or(&self.root);
            fs::create_dir_all(shard).map_err(|e| at(e, shard))?;
            fs::set_permissions(path, Permissions::from_mode(0o444)).map_err(|e| at(e, path))?;
            fs::rename(path, &object).map_err(|e| at(e, &object))?;
        }
        Ok(Entry { digest, size, executable })
    }

    /// The files of an artifact and its log, each of which must be on the disk before its record.
    pub(super) fn paths_of(&self, artifact: &Digest, log: &Digest) -> Vec<PathBuf> {
        let tree = self.tree(artifact).unwrap_or_default();
        let blobs = tree.files.values().map(|entry| &entry.digest).chain([log]);
        let mut paths: Vec<_> = blobs.map(|digest| self.object(digest)).collect();
        paths.push(self.sharded("trees", artifact));
        paths
    }

    /// The manifest of an artifact, if it is there and is what its name says.
    #[must_use]
    pub fn tree(&self, artifact: &Digest) -> Option<Tree> {
        self.read(&self.sharded("trees", artifact), |bytes| Tree::read(bytes, artifact))
    }

    /// The manifest, if every blob is there with its size. Reads no blob.
    #[must_use]
    pub fn whole(&self, artifact: &Digest) -> Option<Tree> {
        let tree = self.tree(artifact)?;
        let there = |entry: &Entry| {
            fs::metadata(self.object(&entry.digest))
                .is_ok_and(|m| m.is_file() && m.len() == entry.size)
        };
        tree.files.values().all(there).then_some(tree)
    }

    /// Copies a file of an artifact to `target`, where people may edit it.
    ///
    /// # Errors
    /// [`Damaged`](super::Damaged) when it is damaged or gone; otherwise when it cannot be written.
    pub fn copy_out(&self, entry: &Entry, target: &Path) -> io::Result<()> {
        self.prove(&entry.digest, entry.size)?;
        fs::copy(self.object(&entry.digest), target).map(drop).map_err(|e| at(e, target))
    }

    /// The bytes of a file of an artifact.
    ///
    /// # Errors
    /// [`Damaged`](super::Damaged) when it is damaged or gone; otherwise when it cannot be read.
    pub fn read_out(&self, entry: &Entry) -> io::Result<Vec<u8>> {
        self.prove(&entry.digest, entry.size)?;
        let path = self.object(&entry.digest);
        fs::read(&path).map_err(|e| at(e, &path))
    }

    /// Puts the files of an artifact into `folder`, read-only: hard links where the file system
    /// has them, copies otherwise. Each is read first, and is what the manifest says.
    ///
    /// # Errors
    /// [`Damaged`](super::Damaged) when something of the artifact is damaged or gone; otherwise
    /// when a file cannot be made.
    pub fn materialise(&self, artifact: &Digest, folder: &Path) -> io::Result<()> {
        let Some(tree) = self.tree(artifact) else {
            let path = self.relative(&self.sharded("trees", artifact));
            let what = "the manifest is gone from the store".to_owned();
            return Err(super::Damaged { path, what }.into());
        };
        fs::create_dir_all(folder).map_err(|e| at(e, folder))?;
        for (name, entry) in &tree.files {
            let target = folder.join(name);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).map_err(|e| at(e, parent))?;
            }
            self.prove(&entry.digest, entry.size)?;
            let object = self.object(&entry.digest);
            // An executable needs a mode of its own, which a link would share with every other use.
            if entry.executable || fs::hard_link(&object, &target).is_err() {
                fs::copy(&object, &target).map_err(|e| at(e, &target))?;
                let mode = if entry.executable { 0o555 } else { 0o444 };
                fs::set_permissions(&target, Permissions::from_mode(mode))
                    .map_err(|e| at(e, &target))?;
            }
        }
        Ok(())
    }
}
