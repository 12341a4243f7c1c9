//! Artifacts: a task's output folder as blobs and a manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use walkdir::WalkDir;

use super::hash::hash_file;
use super::stat::Stat;
use super::{Store, at};
use crate::digest::Digest;

/// The files of an artifact by path, relative and with `/`.
///
/// In JSON it is one map from path to what is there. A manifest of files alone looks as it did before links
/// and empty folders were kept, so that its digest is the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// Files by path.
    pub files: BTreeMap<String, Entry>,
    /// Symbolic links by path: what they say. Each leads to something in the artifact.
    pub links: BTreeMap<String, String>,
    /// Folders with nothing in them.
    pub empty_folders: BTreeSet<String>,
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

/// An entry of a manifest.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Node {
    File(Entry),
    Link(LinkNode),
    Folder(FolderNode),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkNode {
    link: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FolderNode {
    empty_folder: bool,
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let files = self.files.iter().map(|(path, entry)| (path, Node::File(entry.clone())));
        let links = self
            .links
            .iter()
            .map(|(path, link)| (path, Node::Link(LinkNode { link: link.clone() })));
        let folders = self.empty_folders.iter();
        let folders = folders.map(|path| (path, Node::Folder(FolderNode { empty_folder: true })));
        let nodes: BTreeMap<&String, Node> = files.chain(links).chain(folders).collect();
        nodes.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut tree = Self::default();
        for (path, node) in BTreeMap::<String, Node>::deserialize(deserializer)? {
            match node {
                Node::File(entry) => drop(tree.files.insert(path, entry)),
                Node::Link(LinkNode { link }) => drop(tree.links.insert(path, link)),
                Node::Folder(_) => drop(tree.empty_folders.insert(path)),
            }
        }
        Ok(tree)
    }
}

impl Tree {
    /// A manifest of files alone.
    #[must_use]
    pub fn of_files(files: BTreeMap<String, Entry>) -> Self {
        Self { files, ..Self::default() }
    }

    /// The artifact's digest: blake3 of the manifest's JSON.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("a manifest serialises"))
    }

    /// Reads the manifest of an artifact.
    ///
    /// # Errors
    /// Returns an error that says what is wrong if the bytes are not a manifest or not the one of that digest,
    /// or if a path would leave the folder that the artifact is put into.
    pub(super) fn read(bytes: &[u8], artifact: &Digest) -> Result<Self, String> {
        let tree: Self = serde_json::from_slice(bytes)
            .map_err(|error| format!("the manifest cannot be read: {error}"))?;
        if tree.digest() != *artifact {
            return Err("the manifest is not what its name says".to_owned());
        }
        tree.check_paths()?;
        Ok(tree)
    }

    /// Checks that a folder can hold every path, and that nothing in it leads out.
    ///
    /// # Errors
    /// Returns an error that names the first path that leaves its folder, is longer than a file system takes, or
    /// is below something that is no folder, or the first link that leads out.
    pub(crate) fn check_paths(&self) -> Result<(), String> {
        let taken = |name: &str| self.files.contains_key(name) || self.links.contains_key(name);
        for path in self.paths() {
            let wrong = if !is_plain(path) {
                "leaves its folder"
            } else if path.len() > MAX_PATH || path.split('/').any(|part| part.len() > MAX_NAME) {
                "is longer than a file system takes"
            } else if path.match_indices('/').any(|(at, _)| taken(&path[..at])) {
                "is below a file"
            } else {
                continue;
            };
            return Err(format!("the manifest has a file {}, which {wrong}", quoted(path)));
        }
        let leads_out =
            |(path, link): &(&String, &String)| !leads_inside(Path::new(path), Path::new(link));
        if let Some((path, _)) = self.links.iter().find(leads_out) {
            return Err(format!("the manifest has a link {}, which leads out", quoted(path)));
        }
        Ok(())
    }

    /// What the manifest of `folder` would be, were it committed; nothing is moved.
    ///
    /// # Errors
    /// The same as those of [`Store::commit`].
    pub fn of_folder(folder: &Path) -> io::Result<Self> {
        Self::gather(folder, |path| {
            let metadata = fs::metadata(path)?;
            let (size, executable) = (metadata.len(), metadata.mode() & 0o111 != 0);
            let digest = hash_file(path, size).map_err(|e| at(e, path))?;
            Ok(Entry { digest, size, executable })
        })
    }

    /// Reads everything under `folder`. All names and links are checked before `entry_of` gets the first file.
    fn gather(folder: &Path, entry_of: impl Fn(&Path) -> io::Result<Entry>) -> io::Result<Self> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let (mut tree, mut files) = (Self::default(), Vec::new());
        let mut filled: BTreeSet<PathBuf> = BTreeSet::new();
        for entry in WalkDir::new(folder).min_depth(1).sort_by_file_name() {
            let entry = entry?;
            let relative = entry.path().strip_prefix(folder).unwrap_or(entry.path());
            filled.extend(relative.parent().map(Path::to_path_buf));
            let name = || match relative.to_str() {
                Some(name) => Ok(name.to_owned()),
                None => Err(invalid(format!("{}: the name is not UTF-8", relative.display()))),
            };
            if entry.file_type().is_dir() {
                tree.empty_folders.insert(name()?);
            } else if entry.file_type().is_symlink() {
                let link = fs::read_link(entry.path()).map_err(|e| at(e, entry.path()))?;
                let kept = leads_inside(relative, &link) && entry.path().exists();
                let Some(text) = link.to_str().filter(|_| kept) else {
                    let (relative, link) = (relative.display(), link.display());
                    let what =
                        format!("{relative}: a link to {link}, which is not in the artifact");
                    return Err(invalid(what));
                };
                tree.links.insert(name()?, text.to_owned());
            } else if entry.file_type().is_file() {
                files.push((name()?, entry.into_path()));
            } else {
                let what = "an artifact holds files, folders and links";
                return Err(invalid(format!("{}: {what}", relative.display())));
            }
        }
        tree.empty_folders.retain(|name| !filled.contains(Path::new(name)));
        for (name, path) in files {
            tree.files.insert(name, entry_of(&path)?);
        }
        Ok(tree)
    }

    /// The path of everything in it.
    pub fn paths(&self) -> impl Iterator<Item = &String> {
        self.files.keys().chain(self.links.keys()).chain(&self.empty_folders)
    }

    /// The entry at a path, as text that is equal for equal entries; `None` if there is none.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<String> {
        let file = self.files.get(path);
        let file = file.map(|f| format!("file {} {} {}", f.digest, f.size, f.executable));
        file.or_else(|| self.links.get(path).map(|link| format!("link {link}")))
            .or_else(|| self.empty_folders.contains(path).then(|| "empty folder".to_owned()))
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

/// Whether a relative link at `path` leads to something below the folder that `path` is relative to. `..`
/// may only stand at its beginning: behind a name it would start from wherever that name leads.
fn leads_inside(path: &Path, link: &Path) -> bool {
    let up = link.components().take_while(|part| *part == Component::ParentDir).count();
    let mut rest = link.components().skip(up).peekable();
    up < path.components().count()
        && rest.peek().is_some()
        && rest.all(|part| matches!(part, Component::Normal(_)))
}

/// A file that a task reads where it is, and what `stat` said of it before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkedFile {
    /// The file.
    pub path: PathBuf,
    stat: Stat,
}

impl LinkedFile {
    /// A file as it is now.
    ///
    /// # Errors
    /// Returns an error if the file cannot be looked at.
    pub fn now(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path).map_err(|e| at(e, path))?;
        Ok(Self { path: path.to_path_buf(), stat: Stat::of(&metadata) })
    }

    /// Whether the file was written, replaced or given another mode since.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        !fs::metadata(&self.path).is_ok_and(|metadata| Stat::of(&metadata) == self.stat)
    }
}

impl Store {
    /// Takes over the files of `folder`: blobs first, then the manifest. The folder is empty or
    /// gone afterwards. Nothing is moved if anything in it cannot be kept.
    ///
    /// # Errors
    /// Returns an error if something is neither a file, a folder nor a link within `folder`, has a name that is
    /// not UTF-8, or cannot be moved.
    pub fn commit(&self, folder: &Path) -> io::Result<Digest> {
        let tree = Tree::gather(folder, |path| self.take(path))?;
        let digest = tree.digest();
        let path = self.sharded("trees", &digest);
        // A damaged manifest is written again.
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

    /// Moves a file of this process among the blobs, such as a log; an empty blob if there is no such file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be moved.
    pub(crate) fn put_file(&self, path: &Path) -> io::Result<Digest> {
        match self.take(path) {
            Ok(entry) => Ok(entry.digest),
            Err(e) if e.kind() == io::ErrorKind::NotFound && !path.exists() => self.put(b""),
            Err(error) => Err(error),
        }
    }

    /// Moves a file to a place in the store, over what is there.
    ///
    /// # Errors
    /// Returns an error if the file cannot be moved.
    pub(crate) fn move_in(&self, from: &Path, to: &Path) -> io::Result<()> {
        match fs::rename(from, to) {
            Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
                super::persist(self.copy_of(from)?, to)
            }
            moved => moved.map_err(|e| at(e, to)),
        }
    }

    /// Moves one file among the blobs.
    fn take(&self, path: &Path) -> io::Result<Entry> {
        let metadata = fs::metadata(path).map_err(|e| at(e, path))?;
        let mode = blob_mode(metadata.mode());
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|e| at(e, path))?;
        let (size, executable) = (metadata.len(), metadata.mode() & 0o111 != 0);
        let digest = hash_file(path, size).map_err(|e| at(e, path))?;
        // Verify an existing blob before this copy is discarded: this copy may be the only good one.
        if self.has(&digest, size) {
            self.widen(&digest, mode)?;
            fs::remove_file(path).map_err(|e| at(e, path))?;
        } else if metadata.nlink() > 1 {
            // Another link to the same file would let its holder write to the blob later.
            let copy = self.copy_of(path)?;
            copy.as_file().set_permissions(Permissions::from_mode(mode))?;
            let (size, path) = (copy.as_file().metadata()?.len(), copy.path().to_path_buf());
            let digest = hash_file(&path, size).map_err(|e| at(e, &path))?;
            self.place_blob(&digest, |object| super::persist(copy, object))?;
            return Ok(Entry { digest, size, executable });
        } else {
            self.place_blob(&digest, |object| fs::rename(path, object).map_err(|e| at(e, object)))?;
        }
        Ok(Entry { digest, size, executable })
    }

    fn place_blob(
        &self,
        digest: &Digest,
        place: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let object = self.object(digest);
        let shard = object.parent().unwrap_or(&self.root);
        fs::create_dir_all(shard).map_err(|e| at(e, shard))?;
        place(&object)
    }

    fn copy_of(&self, path: &Path) -> io::Result<tempfile::NamedTempFile> {
        let mut copy = self.owned_file(super::scratch::WRITE, "")?;
        let mut from = fs::File::open(path).map_err(|e| at(e, path))?;
        io::copy(&mut from, copy.as_file_mut()).map_err(|e| at(e, path))?;
        Ok(copy)
    }

    /// Lets whom a new file of the same content would let read a blob that is there.
    fn widen(&self, blob: &Digest, mode: u32) -> io::Result<()> {
        let object = self.object(blob);
        let has = fs::metadata(&object).map_err(|e| at(e, &object))?.mode() & 0o444;
        if has | mode == has {
            return Ok(());
        }
        match fs::set_permissions(&object, Permissions::from_mode(has | mode)) {
            // It is another user's, who can read it; so can this one.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            widened => widened.map_err(|e| at(e, &object)),
        }
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
        self.try_tree(artifact).unwrap_or_else(|error| {
            say!("warning: {error}");
            None
        })
    }

    /// The manifest of an artifact; `None` if there is none, or it is damaged and was put aside.
    ///
    /// # Errors
    /// Returns an error if the file is there and cannot be read.
    pub(super) fn try_tree(&self, artifact: &Digest) -> io::Result<Option<Tree>> {
        self.try_read(&self.sharded("trees", artifact), |bytes| Tree::read(bytes, artifact))
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
    /// Returns [`Damaged`](super::Damaged) if the file is damaged or gone, and another error if the copy cannot
    /// be written.
    pub fn copy_out(&self, entry: &Entry, target: &Path) -> io::Result<()> {
        self.prove(&entry.digest, entry.size)?;
        let object = self.object(&entry.digest);
        fs::copy(&object, target).map_err(|e| at(e, target))?;
        let mode = fs::metadata(&object).map_err(|e| at(e, &object))?.mode() & 0o444 | 0o600;
        let mode = if entry.executable { executable(mode) } else { mode };
        fs::set_permissions(target, Permissions::from_mode(mode)).map_err(|e| at(e, target))
    }

    /// A file of an artifact, open for reading.
    ///
    /// # Errors
    /// Returns [`Damaged`](super::Damaged) if it is damaged or gone; otherwise an error if it cannot be
    /// read.
    pub fn open_out(&self, entry: &Entry) -> io::Result<fs::File> {
        self.prove(&entry.digest, entry.size)?;
        let path = self.object(&entry.digest);
        fs::File::open(&path).map_err(|e| at(e, &path))
    }

    /// The bytes of a file of an artifact.
    ///
    /// # Errors
    /// Returns [`Damaged`](super::Damaged) if the file is damaged or gone, and another error if it cannot be read.
    pub fn read_out(&self, entry: &Entry) -> io::Result<Vec<u8>> {
        self.prove(&entry.digest, entry.size)?;
        let path = self.object(&entry.digest);
        fs::read(&path).map_err(|e| at(e, &path))
    }

    /// Puts a blob that is in the store at `target`, read-only, as a copy of its own.
    ///
    /// # Errors
    /// Returns an error if the blob is damaged or gone, or if something is at `target`.
    pub fn copy_blob(&self, blob: &Digest, runs: bool, target: &Path) -> io::Result<()> {
        let object = self.object(blob);
        let size = fs::metadata(&object).map_or(0, |metadata| metadata.len());
        self.prove(blob, size)?;
        copy_new(&object, target)?;
        set_read_only(&object, target, runs)
    }

    /// Puts an artifact into `folder`: links to its blobs, and read-only copies of executables and where the file
    /// system has no links. Each file is read first, and is what the manifest says. Returns the blobs that are
    /// linked: they are to be looked at again after the task.
    ///
    /// # Errors
    /// Returns [`Damaged`](super::Damaged) if something of the artifact is damaged or gone, and another error if a
    /// file cannot be made, for example because something is there.
    pub fn materialise(&self, artifact: &Digest, folder: &Path) -> io::Result<Vec<LinkedFile>> {
        let Some(tree) = self.try_tree(artifact)? else {
            let path = self.relative(&self.sharded("trees", artifact));
            let what = "the manifest is gone from the store".to_owned();
            return Err(super::Damaged { path, what }.into());
        };
        let make_folder = |path: &Path| fs::create_dir_all(path).map_err(|e| at(e, path));
        make_folder(folder)?;
        let mut linked = Vec::new();
        for (name, entry) in &tree.files {
            let target = folder.join(name);
            make_folder(target.parent().unwrap_or(folder))?;
            // Before it is read: whatever is written to it from then on shows.
            let object = self.object(&entry.digest);
            let before = LinkedFile::now(&object);
            self.prove(&entry.digest, entry.size)?;
            // An executable has a mode of its own, which a link cannot have.
            if !entry.executable && symlink(&object, &target).is_ok() {
                linked.push(before?);
            } else {
                copy_new(&object, &target)?;
                set_read_only(&object, &target, entry.executable)?;
            }
        }
        for name in &tree.empty_folders {
            make_folder(&folder.join(name))?;
        }
        // After the files: no file is put through a link.
        for (name, link) in &tree.links {
            let target = folder.join(name);
            make_folder(target.parent().unwrap_or(folder))?;
            symlink(link, &target).map_err(|e| at(e, &target))?;
        }
        Ok(linked)
    }
}

/// The mode of a blob: whoever may read the program's file may read it, and nobody may write it.
fn blob_mode(of_file: u32) -> u32 {
    of_file & 0o444 | 0o400
}

/// A mode with the right to execute for whoever may read.
fn executable(mode: u32) -> u32 {
    mode | (mode & 0o444) >> 2
}

fn set_read_only(object: &Path, target: &Path, runs: bool) -> io::Result<()> {
    let mode = blob_mode(fs::metadata(object).map_err(|e| at(e, object))?.mode());
    let mode = if runs { executable(mode) } else { mode };
    fs::set_permissions(target, Permissions::from_mode(mode)).map_err(|e| at(e, target))
}

/// Copies a file to where nothing is. Nothing is ever written through a link that is there.
fn copy_new(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = fs::File::open(from).map_err(|e| at(e, from))?;
    let mut target = fs::File::create_new(to).map_err(|e| at(e, to))?;
    io::copy(&mut source, &mut target).map(drop).map_err(|e| at(e, to))
}
