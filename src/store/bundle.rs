//! Bundles: a study and what was computed for it, in one tar file.
//!
//! ```text
//! bundle.json               version, name, what is in it
//! project/..                pipeline.yaml and the project files that tasks read
//! objects/ trees/ code/     as in the store
//! records/                  last, so that a bundle that was cut off imports no half result
//! ```
//!
//! Entries are sorted and carry no times or owners: the same records give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use tar::{Archive, Builder, EntryType, Header};

use super::{Record, Store, Tree, at, persist};
use crate::digest::Digest;
use crate::key::Description;

/// The largest manifest, record or code manifest that is read into memory.
const LARGEST_TEXT: u64 = 64 << 20;
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
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|e| at(e, folder))?;
        let mut tar = Builder::new(BufWriter::new(file.as_file_mut()));
        let contents = Contents {
            version: 1,
            name: name.to_owned(),
            dissim: env!("CARGO_PKG_VERSION").to_owned(),
            tasks: records.iter().map(|r| (r.task.clone(), r.key.clone())).collect(),
        };
        add(&mut tar, "bundle.json", &serde_json::to_vec_pretty(&contents)?)?;
        for (relative, path) in project {
            let bytes = fs::read(path).map_err(|e| at(e, path))?;
            add(&mut tar, &format!("project/{}", relative.display()), &bytes)?;
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
            let path = self.object(blob);
            let mut object = File::open(&path).map_err(|e| at(e, &path))?;
            let size = object.metadata()?.len();
            add_reader(&mut tar, &format!("objects/{blob}"), size, &mut object)?;
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
    /// When the file is no bundle, is damaged, or something cannot be written. What came before the
    /// damage is kept: it was checked.
    pub fn import(&self, from: &Path, project: &Path) -> io::Result<Imported> {
        let mut archive = Archive::new(BufReader::new(File::open(from).map_err(|e| at(e, from))?));
        let mut imported = Imported::default();
        let mut seen_contents = false;
        let no_bundle =
            |e: io::Error| invalid(format!("{}: no bundle, or cut off: {e}", from.display()));
        for entry in archive.entries()? {
            let mut entry = entry.map_err(no_bundle)?;
            let path = entry.path()?.into_owned();
            let plain = |c: Component<'_>| matches!(c, Component::Normal(_));
            let text = path.to_str().filter(|_| path.components().all(plain));
            let name =
                text.ok_or_else(|| invalid(format!("{}: no path of a bundle", path.display())))?;
            if entry.header().entry_type() != EntryType::Regular {
                return Err(invalid(format!("{name}: a bundle holds files, no links or devices")));
            }
            if !seen_contents {
                check_contents(name, &mut entry)?;
                seen_contents = true;
                continue;
            }
            let size = entry.size();
            match name.split_once('/') {
                Some(("project", file)) => {
                    let bytes = read(&mut entry, size, name)?;
                    put_file(project, Path::new(file), &bytes, &mut imported)?;
                }
                Some(("objects", digest)) => {
                    let digest = named(digest, name)?;
                    imported.blobs +=
                        usize::from(self.put_stream(&digest, &mut entry, Durable::Now)?);
                }
                Some((folder @ ("trees" | "code" | "records"), file)) => {
                    let digest = named(file.trim_end_matches(".json"), name)?;
                    let bytes = read(&mut entry, size, name)?;
                    match folder {
                        "trees" => self.put_tree(&digest, &bytes, name)?,
                        "code" => self.put_code(&digest, &bytes, name)?,
                        _ => self.put_imported(&digest, &bytes, name, &mut imported)?,
                    }
                }
                _ => return Err(invalid(format!("{name}: not part of a bundle"))),
            }
        }
        if seen_contents {
            Ok(imported)
        } else {
            Err(invalid("the file is no bundle: it is empty"))
        }
    }

    /// Keeps a blob whose bytes come from a stream; false where it is there already.
    pub(crate) fn put_stream(
        &self,
        digest: &Digest,
        from: &mut impl Read,
        durable: Durable,
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
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o444);
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

    fn put_imported(
        &self,
        key: &Digest,
        bytes: &[u8],
        name: &str,
        imported: &mut Imported,
    ) -> io::Result<()> {
        let record = Record::read(bytes, key).map_err(|what| invalid(format!("{name}: {what}")))?;
        let current = |r: &Record| r.description.version == Description::VERSION;
        let Some(record) = record.filter(current) else {
            return Err(invalid(format!("{name}: written by another version of dissim")));
        };
        if self.whole(&record.artifact).is_none() {
            return Err(invalid(format!("{name}: the bundle lacks files of {}", record.task)));
        }
        if self.record(key).is_some() {
            imported.known += 1;
            return Ok(());
        }
        self.write_hint(&self.sharded("records", key), &record.sealed()?)?;
        self.put_latest(&record.task, key)?;
        imported.tasks += 1;
        Ok(())
    }
}

fn add<W: Write>(tar: &mut Builder<W>, name: &str, bytes: &[u8]) -> io::Result<()> {
    add_reader(tar, name, bytes.len() as u64, &mut &*bytes)
}

fn add_reader<W: Write>(
    tar: &mut Builder<W>,
    name: &str,
    size: u64,
    from: &mut dyn Read,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, name, from)
}

fn named(text: &str, name: &str) -> io::Result<Digest> {
    Digest::try_from(text.to_owned()).map_err(|_| invalid(format!("{name}: its name is no digest")))
}

fn read(from: &mut impl Read, size: u64, name: &str) -> io::Result<Vec<u8>> {
    if size > LARGEST_TEXT {
        return Err(invalid(format!("{name}: larger than {} MB", LARGEST_TEXT >> 20)));
    }
    let mut bytes = Vec::new();
    from.take(LARGEST_TEXT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], name: &str) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(|e| invalid(format!("{name}: {e}")))
}

fn check_contents(name: &str, entry: &mut impl Read) -> io::Result<()> {
    let mut bytes = Vec::new();
    entry.take(LARGEST_TEXT).read_to_end(&mut bytes)?;
    let contents: Contents = match name {
        "bundle.json" => parse(&bytes, name)?,
        _ => return Err(invalid("the file is no bundle: it does not begin with bundle.json")),
    };
    if contents.version != 1 {
        let what = format!("the bundle has version {}, and this build reads 1", contents.version);
        return Err(invalid(what));
    }
    Ok(())
}

/// Writes a project file where there is none.
fn put_file(project: &Path, file: &Path, bytes: &[u8], imported: &mut Imported) -> io::Result<()> {
    let first = file.components().next().map(|c| c.as_os_str().to_ascii_lowercase());
    if FORBIDDEN.iter().any(|folder| first.as_deref() == Some(folder.as_ref())) {
        let what = format!("project/{}: a bundle may not write there", file.display());
        return Err(invalid(what));
    }
    let target = project.join(file);
    match fs::read(&target) {
        Ok(there) if there == bytes => return Ok(()),
        Ok(_) => {
            imported.kept.push(file.to_path_buf());
            return Ok(());
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(at(e, &target)),
    }
    let folder = target.parent().unwrap_or(project);
    fs::create_dir_all(folder).map_err(|e| at(e, folder))?;
    // A link in the project may lead out of it.
    let real = folder.canonicalize()?;
    if !real.starts_with(project.canonicalize()?) {
        return Err(invalid(format!("project/{}: leaves the project", file.display())));
    }
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(bytes)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    temporary.as_file().set_permissions(mode)?;
    persist(temporary, &target)?;
    imported.files.push(file.to_path_buf());
    Ok(())
}
