//! Artifacts: a task's output folder as blobs and a manifest.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::{Store, at, read_json};
use crate::digest::Digest;

/// Files from this size on are hashed by all cores.
const PARALLEL_HASH: u64 = 16 << 20;

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

/// blake3 of a file.
pub(super) fn hash_file(path: &Path, size: u64) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    if size >= PARALLEL_HASH {
        hasher.update_mmap_rayon(path)?;
    } else {
        hasher.update_reader(File::open(path)?)?;
    }
    Ok(hasher.finalize().into())
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
            self.write_hint(&path, &serde_json::to_vec(&tree)?)?;
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
        if fs::metadata(&object).is_ok_and(|m| m.len() == size) {
            fs::remove_file(path)?;
        } else {
            let shard = object.parent().unwrap_or(&self.root);
            fs::create_dir_all(shard)?;
            File::open(path)?.sync_all()?;
            fs::set_permissions(path, Permissions::from_mode(0o444))?;
            fs::rename(path, &object).map_err(|e| at(e, &object))?;
        }
        Ok(Entry { digest, size, executable })
    }

    /// Makes an artifact survive a power failure.
    pub(super) fn sync_artifact(&self, artifact: &Digest) -> io::Result<()> {
        let manifest = self.sharded("trees", artifact);
        File::open(&manifest)?.sync_all().map_err(|e| at(e, &manifest))?;
        let tree = self.tree(artifact).unwrap_or_default();
        let mut paths: Vec<_> = tree.files.values().map(|e| self.object(&e.digest)).collect();
        paths.push(manifest);
        let mut folders: Vec<_> = paths.iter().filter_map(|p| p.parent()).collect();
        folders.sort();
        folders.dedup();
        folders.into_iter().try_for_each(super::sync_folder)
    }

    /// Whether a blob is there with its size.
    pub(crate) fn has(&self, blob: &Digest, size: u64) -> bool {
        fs::metadata(self.object(blob)).is_ok_and(|m| m.is_file() && m.len() == size)
    }

    /// The manifest of an artifact, if it is there and is what its name says.
    #[must_use]
    pub fn tree(&self, artifact: &Digest) -> Option<Tree> {
        let tree: Tree = read_json(&self.sharded("trees", artifact))?;
        (tree.digest() == *artifact).then_some(tree)
    }

    /// The manifest, if every blob is there with its size. Reads no blob.
    #[must_use]
    pub fn whole(&self, artifact: &Digest) -> Option<Tree> {
        let tree = self.tree(artifact)?;
        let there = |entry: &Entry| self.has(&entry.digest, entry.size);
        tree.files.values().all(there).then_some(tree)
    }

    /// Puts the files of an artifact into `folder`, read-only: hard links where the file system
    /// has them, copies otherwise.
    ///
    /// # Errors
    /// When the artifact is not whole, a path in it would leave the folder, or a file cannot be made.
    pub fn materialise(&self, artifact: &Digest, folder: &Path) -> io::Result<()> {
        let Some(tree) = self.tree(artifact) else {
            let what = format!("artifact {} is not in the store", artifact.short());
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        };
        fs::create_dir_all(folder)?;
        for (name, entry) in &tree.files {
            let plain = |c: Component<'_>| matches!(c, Component::Normal(_));
            if !Path::new(name).components().all(plain) {
                let what = format!("artifact {}: `{name}` leaves its folder", artifact.short());
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            let target = folder.join(name);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            let object = self.object(&entry.digest);
            // An executable needs a mode of its own, which a link would share with every other use.
            if entry.executable || fs::hard_link(&object, &target).is_err() {
                fs::copy(&object, &target).map_err(|e| at(e, &object))?;
                let mode = if entry.executable { 0o555 } else { 0o444 };
                fs::set_permissions(&target, Permissions::from_mode(mode))?;
            }
        }
        Ok(())
    }
}
