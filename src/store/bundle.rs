//! Bundles: a study and what was computed for it, in one tar file.
//!
//! ```text
//! bundle.json               version, name, what is in it
//! project/..                pipeline.yaml and the project files that tasks read
//! objects/ trees/ code/     as in the store
//! records/                  last, so that a bundle that was cut off imports no half result
//! ```
//!
//! Entries are sorted and carry no times or owners, and the mode of each file: the same records give the same
//! bytes.
//!
//! A bundle may come from anybody. Names are bounded before they are read, and a member is checked before
//! anything is made for it. Blobs and manifests are kept as they come, each whole and under its digest; project
//! files and records get their names at the end, when the bundle was whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use tar::{Archive, Builder, EntryType, Header};

use super::{Record, RunFolder, Store, Tree, at, persist, quoted};
use crate::digest::Digest;
use crate::key::Description;

/// The largest manifest, record or code manifest that is read into memory.
const LARGEST_TEXT: u64 = 64 << 20;
/// The longest name of a member, in bytes: what Linux takes as a path.
const LONGEST_NAME: u64 = 4096;
/// Folders of a project that a bundle has no business in: git runs what it finds in its own.
const FORBIDDEN: [&str; 3] = [".git", "cache", "reports"];

/// What a bundle says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// Version of this format: 1.
    pub version: u32,
    /// The study's name.
    pub name: String,
    /// The version of dissim that wrote it.
    pub dissim: String,
    /// Tasks in it by name, with their keys.
    pub tasks: BTreeMap<String, Digest>,
}

/// What an import brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Tasks that are hits now and were not before.
    pub tasks: usize,
    /// Tasks that were hits already.
    pub known: usize,
    /// Blobs that were not there before.
    pub blobs: usize,
    /// Project files that were written.
    pub files: Vec<PathBuf>,
    /// Project files that are there already, with other bytes; they were left alone.
    pub kept: Vec<PathBuf>,
}

/// When a file is on the disk for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// Before it has its name.
    Now,
    /// When [`Store::sync`] is called; until then a marker says so.
    Later,
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl Store {
    /// Writes a bundle of these records, of the project files that they read, and of `pipeline`.
    /// The file appears whole or not at all.
    ///
    /// # Errors
    /// When something that a record needs is gone, or the file cannot be written.
    pub fn export(
        &self,
        name: &str,
        records: &[Record],
        project: &BTreeMap<PathBuf, PathBuf>,
        to: &Path,
    ) -> io::Result<()> {
        let folder = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        // As any new file: the umask says who may read it.
        builder.permissions(PermissionsExt::from_mode(0o666));
        let mut file = builder.tempfile_in(folder).map_err(|e| at(e, folder))?;
        let mut tar = Builder::new(BufWriter::new(file.as_file_mut()));
        let contents = Contents {
            version: 1,
            name: name.to_owned(),
            dissim: env!("CARGO_PKG_VERSION").to_owned(),
            tasks: records.iter().map(|r| (r.task.clone(), r.key.clone())).collect(),
        };
        add(&mut tar, "bundle.json", &serde_json::to_vec_pretty(&contents)?)?;
        for (relative, path) in project {
            add_file(&mut tar, &Path::new("project").join(relative), path)?;
        }
        let (mut blobs, mut trees, mut codes) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
        for record in records {
            let Some(tree) = self.whole(&record.artifact) else {
                return Err(invalid(format!("the artifact of {} is not whole", record.task)));
            };
            blobs.insert(record.log.clone());
            codes.insert(record.description.code.clone());
            blobs.extend(tree.files.values().map(|entry| entry.digest.clone()));
            trees.insert(record.artifact.clone(), tree);
        }
        for blob in &blobs {
            add_file(&mut tar, &Path::new("objects").join(blob.as_str()), &self.object(blob))?;
        }
        for (digest, tree) in &trees {
            add(&mut tar, &format!("trees/{digest}.json"), &serde_json::to_vec(tree)?)?;
        }
        for digest in &codes {
            if let Some(code) = self.code(digest) {
                add(&mut tar, &format!("code/{digest}.json"), &serde_json::to_vec(&code)?)?;
            }
        }
        let sorted: BTreeMap<&Digest, &Record> = records.iter().map(|r| (&r.key, r)).collect();
        for (key, record) in sorted {
            add(&mut tar, &format!("records/{key}.json"), &record.sealed()?)?;
        }
        tar.into_inner()?.flush()?;
        file.as_file().sync_all()?;
        persist(file, to)
    }

    /// Takes in a bundle. Every blob, manifest and record is checked against its name, and only
    /// what is whole becomes a hit. Project files are written where there are none; others stay.
    ///
    /// # Errors
    /// Returns an error if the file is not a bundle, is damaged or cut off, holds something that a bundle does
    /// not, or if something cannot be written. No project file and no record is kept then. Whole blobs may be.
    pub fn import(&self, from: &Path, project: &Path) -> io::Result<Imported> {
        let mut archive = Archive::new(BufReader::new(File::open(from).map_err(|e| at(e, from))?));
        let staging = self.run_folder()?;
        let mut bundle = Incoming::new(self, &staging);
        let cut_off =
            |e: io::Error| invalid(format!("{}: not a bundle, or cut off: {e}", from.display()));
        // As they stand in the file: a long name is a member before the one that it names.
        let mut long_name = None;
        for entry in archive.entries()?.raw(true) {
            let mut entry = entry.map_err(cut_off)?;
            let header = entry.header();
            let (kind, size) = (header.entry_type(), header.entry_size().map_err(cut_off)?);
            if kind == EntryType::GNULongName && long_name.is_none() {
                if size > LONGEST_NAME {
                    let what = format!(
                        "the bundle has a name of {size} bytes, and at most {LONGEST_NAME} are read"
                    );
                    return Err(invalid(what));
                }
                let mut bytes = read(&mut entry, size, "a long name")?;
                bytes.pop_if(|last| *last == 0);
                long_name = Some(bytes);
                continue;
            }
            let name = long_name.take().unwrap_or_else(|| header.path_bytes().into_owned());
            let name = check_name(&name)?;
            if kind != EntryType::Regular {
                let what = format!("{}: a bundle holds regular files only", quoted(&name));
                return Err(invalid(what));
            }
            let mode = header.mode().map_err(cut_off)? & 0o777;
            bundle.take(&name, size, mode, &mut entry)?;
        }
        if long_name.is_some() {
            return Err(invalid("the bundle is cut off: it ends behind a long name"));
        }
        bundle.keep(project)
    }

    /// Keeps a blob whose bytes come from a stream, readable for whom `mode` and the umask say; false if it is
    /// there already.
    pub(crate) fn put_stream(
        &self,
        digest: &Digest,
        from: &mut impl Read,
        durable: Durable,
        mode: u32,
    ) -> io::Result<bool> {
        let target = self.object(digest);
        let there = fs::metadata(&target).is_ok_and(|m| self.has(digest, m.len()));
        let mut file = self.owned_file(super::scratch::WRITE, "")?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = from.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            if !there {
                file.write_all(&buffer[..n])?;
            }
        }
        if Digest::from(hasher.finalize()) != *digest {
            return Err(invalid(format!("objects/{digest}: its bytes are not what its name says")));
        }
        if !there {
            let folder = target.parent().unwrap_or(&self.root);
            fs::create_dir_all(folder).map_err(|e| at(e, folder))?;
            if durable == Durable::Now {
                file.as_file().sync_all()?;
            }
            let allowed = file.as_file().metadata()?.permissions().mode();
            let mode = PermissionsExt::from_mode(allowed & mode & 0o444 | 0o400);
            file.as_file().set_permissions(mode)?;
            persist(file, &target)?;
        }
        Ok(!there)
    }

    fn put_tree(&self, digest: &Digest, bytes: &[u8], name: &str) -> io::Result<()> {
        let tree = Tree::read(bytes, digest).map_err(|what| invalid(format!("{name}: {what}")))?;
        self.write(&self.sharded("trees", digest), &serde_json::to_vec(&tree)?)
    }

    pub(crate) fn put_code(&self, digest: &Digest, bytes: &[u8], name: &str) -> io::Result<()> {
        let code: dissim_api::Code = parse(bytes, name)?;
        if code.digest() != digest.as_str() {
            return Err(invalid(format!("{name}: the code manifest is not what its name says")));
        }
        self.write_json(&self.root.join("code").join(format!("{digest}.json")), &code)
    }
}

/// A bundle on its way in.
struct Incoming<'a> {
    store: &'a Store,
    /// Where project files wait.
    staging: &'a RunFolder,
    contents: Option<Contents>,
    names: BTreeSet<String>,
    /// Project files by their path, each with the file that waits.
    files: BTreeMap<PathBuf, PathBuf>,
    records: BTreeMap<Digest, Record>,
    blobs: usize,
}

impl<'a> Incoming<'a> {
    fn new(store: &'a Store, staging: &'a RunFolder) -> Self {
        Self {
            store,
            staging,
            contents: None,
            names: BTreeSet::new(),
            files: BTreeMap::new(),
            records: BTreeMap::new(),
            blobs: 0,
        }
    }

    /// Takes one member.
    fn take(&mut self, name: &str, size: u64, mode: u32, from: &mut impl Read) -> io::Result<()> {
        if !self.names.insert(name.to_owned()) {
            return Err(invalid(format!("{}: the bundle has it twice", quoted(name))));
        }
        if self.contents.is_none() {
            self.contents = Some(read_contents(name, size, from)?);
            return Ok(());
        }
        match name.split_once('/') {
            Some(("project", file)) => {
                check_project_file(Path::new(file))?;
                let waiting = self.staging.path().join(self.files.len().to_string());
                // With the umask, as any new file. Whoever writes it has it open already.
                let mut options = File::options();
                let made = options.write(true).create_new(true).mode(mode | 0o400).open(&waiting);
                let copied = io::copy(from, &mut made.map_err(|e| at(e, &waiting))?)?;
                whole(copied, size, name)?;
                self.files.insert(PathBuf::from(file), waiting);
            }
            Some(("objects", digest)) => {
                let digest = named(digest, name)?;
                self.blobs +=
                    usize::from(self.store.put_stream(&digest, from, Durable::Now, mode)?);
            }
            Some((folder @ ("trees" | "code" | "records"), file)) => {
                let digest = file.strip_suffix(".json").unwrap_or_default();
                let digest = named(digest, name)?;
                let bytes = read(from, size, name)?;
                match folder {
                    "trees" => self.store.put_tree(&digest, &bytes, name)?,
                    "code" => self.store.put_code(&digest, &bytes, name)?,
                    _ => self.take_record(digest, &bytes, name)?,
                }
            }
            _ => return Err(invalid(format!("{}: not part of a bundle", quoted(name)))),
        }
        Ok(())
    }

    fn take_record(&mut self, key: Digest, bytes: &[u8], name: &str) -> io::Result<()> {
        let record =
            Record::read(bytes, &key).map_err(|what| invalid(format!("{name}: {what}")))?;
        let current = |r: &Record| r.description.version == Description::VERSION;
        let Some(record) = record.filter(current) else {
            return Err(invalid(format!("{name}: written by another version of dissim")));
        };
        if self.store.whole(&record.artifact).is_none() {
            let task = quoted(&record.task);
            return Err(invalid(format!("{name}: the bundle lacks files of {task}")));
        }
        self.records.insert(key, record);
        Ok(())
    }

    /// Gives project files and records their names.
    fn keep(self, project: &Path) -> io::Result<Imported> {
        let Some(contents) = &self.contents else {
            return Err(invalid("the file is not a bundle: it is empty"));
        };
        let missing = contents.tasks.iter().find(|(_, key)| !self.records.contains_key(*key));
        if let Some((task, _)) = missing {
            let what = format!("the bundle is cut off: the record of {} is missing", quoted(task));
            return Err(invalid(what));
        }
        // All are looked at before the first is written.
        for file in self.files.keys() {
            check_parents(project, file)?;
        }
        let mut imported = Imported { blobs: self.blobs, ..Imported::default() };
        for (file, waiting) in &self.files {
            put_file(project, file, waiting, &mut imported)?;
        }
        for (key, record) in &self.records {
            if self.store.record(key).is_some() {
                imported.known += 1;
                continue;
            }
            self.store.write_hint(&self.store.sharded("records", key), &record.sealed()?)?;
            self.store.put_latest(&record.task, key)?;
            imported.tasks += 1;
        }
        Ok(imported)
    }
}

fn add<W: Write>(tar: &mut Builder<W>, name: &str, bytes: &[u8]) -> io::Result<()> {
    add_reader(tar, Path::new(name), bytes.len() as u64, 0o644, &mut &*bytes)
}

/// Adds a file with its mode.
fn add_file<W: Write>(tar: &mut Builder<W>, name: &Path, path: &Path) -> io::Result<()> {
    let mut file = File::open(path).map_err(|e| at(e, path))?;
    let metadata = file.metadata().map_err(|e| at(e, path))?;
    let (size, mode) = (metadata.len(), metadata.permissions().mode() & 0o777);
    // One that grows meanwhile is what it was; one that shrinks is an error.
    let mut bytes = (&mut file).take(size);
    add_reader(tar, name, size, mode, &mut bytes)?;
    if bytes.limit() > 0 {
        return Err(invalid(format!("{}: it became shorter while it was read", path.display())));
    }
    Ok(())
}

fn add_reader<W: Write>(
    tar: &mut Builder<W>,
    name: &Path,
    size: u64,
    mode: u32,
    from: &mut dyn Read,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, name, from)
}

/// The name of a member, if it names something below a folder.
fn check_name(bytes: &[u8]) -> io::Result<String> {
    let name = String::from_utf8_lossy(bytes);
    let refuse = |what: &str| Err(invalid(format!("{}: {what}", quoted(&name))));
    if std::str::from_utf8(bytes).is_err() {
        return refuse("its name is not UTF-8");
    }
    let path = Path::new(std::ffi::OsStr::from_bytes(bytes));
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !is_plain || !super::is_plain(&name) {
        return refuse("not a path of a bundle");
    }
    if name.split('/').any(|part| part.len() > 255) {
        return refuse("its name is longer than a file system takes");
    }
    Ok(name.into_owned())
}

fn named(text: &str, name: &str) -> io::Result<Digest> {
    let digest = Digest::try_from(text.to_owned());
    digest.map_err(|_| invalid(format!("{}: its name is not a digest", quoted(name))))
}

fn read(from: &mut impl Read, size: u64, name: &str) -> io::Result<Vec<u8>> {
    if size > LARGEST_TEXT {
        return Err(invalid(format!("{}: larger than {} MB", quoted(name), LARGEST_TEXT >> 20)));
    }
    let mut bytes = Vec::new();
    from.take(LARGEST_TEXT).read_to_end(&mut bytes)?;
    whole(bytes.len() as u64, size, name)?;
    Ok(bytes)
}

/// Checks that a member had the bytes that its header says.
fn whole(read: u64, size: u64, name: &str) -> io::Result<()> {
    if read == size {
        return Ok(());
    }
    let what = format!("{}: the bundle is cut off: {read} of {size} bytes are there", quoted(name));
    Err(invalid(what))
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], name: &str) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(|e| invalid(format!("{name}: {e}")))
}

fn read_contents(name: &str, size: u64, from: &mut impl Read) -> io::Result<Contents> {
    if name != "bundle.json" {
        return Err(invalid("the file is not a bundle: it does not begin with bundle.json"));
    }
    let contents: Contents = parse(&read(from, size, name)?, name)?;
    if contents.version != 1 {
        let what = format!("the bundle has version {}, and this build reads 1", contents.version);
        return Err(invalid(what));
    }
    Ok(contents)
}

fn check_project_file(file: &Path) -> io::Result<()> {
    let first = file.components().next().map(|c| c.as_os_str().to_ascii_lowercase());
    if FORBIDDEN.iter().any(|folder| first.as_deref() == Some(folder.as_ref())) {
        let name = format!("project/{}", file.display());
        return Err(invalid(format!("{}: a bundle may not write there", quoted(&name))));
    }
    Ok(())
}

/// Checks that the folders of a project file are in the project, without making any. A link in the project may
/// lead out of it.
fn check_parents(project: &Path, file: &Path) -> io::Result<()> {
    let name = quoted(&format!("project/{}", file.display()));
    let root = project.canonicalize().map_err(|e| at(e, project))?;
    let mut folder = project.to_path_buf();
    for part in file.parent().into_iter().flat_map(Path::components) {
        folder.push(part);
        match fs::symlink_metadata(&folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(at(e, &folder)),
            Ok(metadata) if metadata.is_dir() => {}
            Ok(metadata) if metadata.is_symlink() => {
                let inside = folder.canonicalize().is_ok_and(|real| real.starts_with(&root));
                if !inside || !folder.is_dir() {
                    let link = folder.display();
                    return Err(invalid(format!("{name}: leaves the project by the link {link}")));
                }
            }
            Ok(_) => {
                let what = format!("{name}: {} is not a folder", folder.display());
                return Err(invalid(what));
            }
        }
    }
    Ok(())
}

/// Moves a project file that waits to its place if nothing is there.
fn put_file(
    project: &Path,
    file: &Path,
    waiting: &Path,
    imported: &mut Imported,
) -> io::Result<()> {
    let target = project.join(file);
    match fs::symlink_metadata(&target) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(at(e, &target)),
        Ok(_) => {
            if !is_same(&target, waiting)? {
                imported.kept.push(file.to_path_buf());
            }
            return Ok(());
        }
    }
    check_parents(project, file)?;
    let folder = target.parent().unwrap_or(project);
    fs::create_dir_all(folder).map_err(|e| at(e, folder))?;
    match fs::rename(waiting, &target) {
        Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
            let mut copy = tempfile::NamedTempFile::new_in(folder).map_err(|e| at(e, folder))?;
            let mut from = File::open(waiting).map_err(|e| at(e, waiting))?;
            io::copy(&mut from, copy.as_file_mut()).map_err(|e| at(e, &target))?;
            copy.as_file().set_permissions(from.metadata()?.permissions())?;
            persist(copy, &target)?;
        }
        moved => moved.map_err(|e| at(e, &target))?,
    }
    imported.files.push(file.to_path_buf());
    Ok(())
}

/// Whether a file of the project has the bytes of another file. What is not a regular file has not.
fn is_same(ours: &Path, other: &Path) -> io::Result<bool> {
    if !fs::metadata(ours).is_ok_and(|metadata| metadata.is_file()) {
        return Ok(false);
    }
    let open = |path: &Path| File::open(path).map_err(|e| at(e, path));
    let (mut ours, mut other) = (open(ours)?, open(other)?);
    if ours.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut one, mut two) = (Vec::new(), Vec::new());
    loop {
        one.clear();
        two.clear();
        (&mut ours).take(1 << 16).read_to_end(&mut one)?;
        (&mut other).take(1 << 16).read_to_end(&mut two)?;
        if one != two || one.is_empty() {
            return Ok(one == two);
        }
    }
}
