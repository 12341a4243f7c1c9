//! Moves one record, with all that belongs to it, from or to the remote.
//!
//! To it: blobs first, the record last, so that nobody ever sees half an artifact. From it: every
//! byte is checked against its digest before it gets a name in the local store, and the record is
//! written last there too. What was moved before an interruption is not moved again.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
// A sync of the disk may take long; signs of life are due meanwhile.
use tokio::task::block_in_place;

use super::pack::{self, Pack};
use super::place::{Fetched, PART, Place, Trouble};
use super::sign::{PublicKey, Signer};
use crate::digest::Digest;
use crate::store::{Durable, Record, Store};

/// The mode of a blob from the remote: whoever could take it from there may read it here.
const PUBLIC: u32 = 0o444;

/// Blobs of at most this size travel with their record,
const INLINE: u64 = 1 << 20;
/// as long as all of them together have at most this size.
const INLINE_ALL: u64 = 8 << 20;
/// No pack is larger: its blobs, and a manifest of some hundred thousand files.
const LARGEST_PACK: u64 = 64 << 20;
/// No log is larger. A record does not say how large its log is.
const LARGEST_LOG: u64 = 4 << 30;
/// Blobs of one artifact that are moved at once.
const BLOBS: usize = 4;

/// Why a record was not moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// The store does not answer, or refuses to.
    Trouble(String),
    /// What it holds is not what it says.
    Refused(String),
    /// The local store is at fault.
    Local(String),
}

impl From<Trouble> for Why {
    fn from(Trouble(what): Trouble) -> Self {
        Self::Trouble(what)
    }
}

impl From<std::io::Error> for Why {
    fn from(error: std::io::Error) -> Self {
        Self::Local(error.to_string())
    }
}

/// What was moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Records.
    pub records: u64,
    /// Bytes, of blobs and records.
    pub bytes: u64,
}

/// The two ends, and what is known of the far one.
#[derive(Debug)]
pub(super) struct Transfer {
    pub store: Store,
    pub place: Place,
    pub trusted: Vec<PublicKey>,
    pub signer: Option<Signer>,
    /// Names that the remote has for sure.
    pub there: Mutex<HashSet<String>>,
    /// Names under which it had something wrong: they are written anew.
    pub spoiled: Mutex<HashSet<String>>,
}

pub(super) fn record_name(key: &Digest) -> String {
    format!("records/{}/{key}", key.shard())
}

fn blob_name(digest: &Digest) -> String {
    format!("objects/{}/{digest}", digest.shard())
}

impl Transfer {
    /// Takes the record of a key; none where the remote has none.
    pub async fn take(&self, key: &Digest) -> Result<Option<Moved>, Why> {
        let name = record_name(key);
        let taken = self.take_named(key, &name).await;
        if matches!(taken, Err(Why::Refused(_))) {
            // All that belongs to it is sent anew once it is computed here.
            self.mark(&self.spoiled, &name);
        }
        taken
    }

    async fn take_named(&self, key: &Digest, name: &str) -> Result<Option<Moved>, Why> {
        let refused = |what: String| Why::Refused(format!("{name}: {what}"));
        let bytes = match self.place.get(name, LARGEST_PACK).await? {
            Fetched::Found(bytes) => bytes,
            Fetched::Absent => return Ok(None),
            Fetched::Refused(what) => return Err(refused(what)),
        };
        let Pack { record, tree, blobs } =
            pack::read(&bytes, key, &self.trusted).map_err(refused)?;
        let mut moved = Moved { records: 1, bytes: bytes.len() as u64 };
        for (digest, blob) in &blobs {
            block_in_place(|| {
                self.store.put_stream(digest, &mut &blob[..], Durable::Later, PUBLIC)
            })?;
        }
        let mut missing: Vec<(Digest, Option<u64>)> = tree
            .files
            .values()
            .filter(|entry| !self.store.has(&entry.digest, entry.size))
            .map(|entry| (entry.digest.clone(), Some(entry.size)))
            .collect();
        missing.sort();
        missing.dedup();
        let of_another_size = missing.windows(2).find(|two| two[0].0 == two[1].0);
        if let Some([(digest, _), _]) = of_another_size {
            let what = format!("its manifest gives blob {} two sizes", digest.short());
            return Err(refused(what));
        }
        if !missing.iter().any(|(digest, _)| *digest == record.log)
            && !self.store.object(&record.log).exists()
        {
            missing.push((record.log.clone(), None));
        }
        let blobs: Vec<_> =
            missing.iter().map(|(digest, size)| self.take_blob(digest, *size)).collect();
        let taken = stream::iter(blobs).buffer_unordered(BLOBS).try_collect::<Vec<u64>>().await?;
        moved.bytes += taken.iter().sum::<u64>();
        self.take_code(&record.description.code).await?;
        let adopted = block_in_place(|| self.store.adopt(&record, &tree));
        adopted.map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => refused(error.to_string()),
            _ => error.into(),
        })?;
        self.mark(&self.there, name);
        Ok(Some(moved))
    }

    /// Takes one blob, going on where an earlier attempt stopped. Returns its size.
    async fn take_blob(&self, digest: &Digest, size: Option<u64>) -> Result<u64, Why> {
        let name = blob_name(digest);
        let folder = self.store.root().join("tmp").join("taken");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(digest.as_str());
        let mut file = File::options().create(true).append(true).read(true).open(&path)?;
        // Another run may be taking the same blob: it is left alone, and this one gets its own file.
        if file.try_lock().is_err() {
            file = tempfile::tempfile_in(&folder)?;
        }
        let begun = file.metadata()?.len();
        if size.is_none_or(|size| begun >= size) {
            file.set_len(0)?;
        }
        let went_on = file.metadata()?.len() > 0;
        let mut filled = self.fill(&mut file, digest, size, &name).await;
        if went_on && matches!(filled, Err(Why::Refused(_))) {
            // What the earlier attempt left may be what is damaged.
            file.set_len(0)?;
            filled = self.fill(&mut file, digest, size, &name).await;
        }
        if !matches!(filled, Err(Why::Trouble(_))) {
            let _ = std::fs::remove_file(&path);
        }
        if matches!(filled, Err(Why::Refused(_))) {
            self.mark(&self.spoiled, &name);
        }
        filled
    }

    /// Adds what is missing to a file that holds the beginning of a blob, and keeps the blob. An object of
    /// another size than the manifest says is refused: no byte beyond that size is written.
    async fn fill(
        &self,
        file: &mut File,
        digest: &Digest,
        size: Option<u64>,
        name: &str,
    ) -> Result<u64, Why> {
        let refused = |what: &str| Why::Refused(format!("{name}: {what}"));
        let mut length = file.metadata()?.len();
        let mut pieces = match self.place.stream(name, length).await? {
            Fetched::Found(pieces) => pieces,
            Fetched::Absent => return Err(refused("it is not there")),
            Fetched::Refused(what) => return Err(refused(&what)),
        };
        let most = size.unwrap_or(LARGEST_LOG);
        if size.map_or(pieces.size > most, |size| pieces.size != size) {
            let what = match size {
                Some(size) => format!("it has {} bytes, and its manifest says {size}", pieces.size),
                None => format!("it has {} bytes, and no log has more than {most}", pieces.size),
            };
            return Err(refused(&what));
        }
        while let Some(piece) = pieces.next().await? {
            length += piece.len() as u64;
            if length > most {
                return Err(refused(&format!("it sends more than the {most} bytes that it has")));
            }
            file.write_all(&piece)?;
        }
        file.seek(SeekFrom::Start(0))?;
        let kept = block_in_place(|| self.store.put_stream(digest, file, Durable::Now, PUBLIC));
        kept.map(|_| length).map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => refused("its bytes are not what its name says"),
            _ => error.into(),
        })
    }

    /// Takes a code manifest, for `why`. It is only looked at: without it a change of code is named
    /// by its digest.
    async fn take_code(&self, code: &Digest) -> Result<(), Why> {
        let name = format!("code/{code}.json");
        if self.store.has_code(code) {
            return Ok(());
        }
        let good = match self.place.get(&name, LARGEST_PACK).await? {
            Fetched::Found(bytes) => self.store.put_code(code, &bytes, &name).is_ok(),
            Fetched::Absent => true,
            Fetched::Refused(_) => false,
        };
        if !good {
            self.mark(&self.spoiled, &name);
        }
        Ok(())
    }

    /// Sends a record and all that belongs to it; nothing where the remote has it. One that is `new` is
    /// not asked for first.
    pub async fn send(&self, record: &Record, new: bool) -> Result<Moved, Why> {
        let name = record_name(&record.key);
        if !new && !self.is_spoiled(&name) && self.is_there(&name, None).await? {
            return Ok(Moved::default());
        }
        let local = |what: &str| Why::Local(format!("{}: {what}", record.task));
        let tree =
            self.store.whole(&record.artifact).ok_or_else(|| local("its artifact is not whole"))?;
        let mut needed: Vec<(Digest, u64)> =
            tree.files.values().map(|entry| (entry.digest.clone(), entry.size)).collect();
        let log = std::fs::metadata(self.store.object(&record.log)).map_or(0, |m| m.len());
        needed.push((record.log.clone(), log));
        // The smallest first: as many as possible travel with the record.
        needed.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        needed.dedup();
        let (mut inline, mut large, mut room) = (Vec::new(), Vec::new(), INLINE_ALL);
        for (digest, size) in needed {
            if size <= INLINE.min(room) {
                let bytes = std::fs::read(self.store.object(&digest))?;
                if Digest::of(&bytes) != digest {
                    return Err(local(
                        "a file of it is damaged: `dissim cache verify` puts it aside",
                    ));
                }
                room -= size;
                inline.push((digest, bytes));
            } else {
                large.push((digest, size));
            }
        }
        let sent: Vec<_> =
            large.iter().map(|(digest, size)| self.send_blob(digest, *size)).collect();
        let sent: Vec<u64> = stream::iter(sent).buffer_unordered(BLOBS).try_collect().await?;
        self.send_code(&record.description.code).await?;
        let pack = pack::write(record, &tree, &inline, self.signer.as_ref());
        let bytes = pack.len() as u64 + sent.iter().sum::<u64>();
        self.place.put(&name, pack).await?;
        self.is_good(&name);
        Ok(Moved { records: 1, bytes })
    }

    /// Sends one blob; the bytes that it took.
    async fn send_blob(&self, digest: &Digest, size: u64) -> Result<u64, Why> {
        let name = blob_name(digest);
        if !self.is_spoiled(&name) && self.is_there(&name, Some(size)).await? {
            return Ok(0);
        }
        let path = self.store.object(digest);
        let damaged = || format!("{}: its bytes are not what its name says", path.display());
        if size <= PART as u64 {
            let bytes = std::fs::read(&path)?;
            if Digest::of(&bytes) != *digest {
                return Err(Why::Local(damaged()));
            }
            self.place.put(&name, bytes).await?;
        } else {
            self.send_parts(&name, &path, digest, &damaged).await?;
        }
        self.is_good(&name);
        Ok(size)
    }

    async fn send_parts(
        &self,
        name: &str,
        path: &Path,
        digest: &Digest,
        damaged: &(dyn Fn() -> String + Sync),
    ) -> Result<(), Why> {
        let mut file = File::open(path)?;
        let mut hasher = blake3::Hasher::new();
        let mut wrong = false;
        let pieces = || {
            let mut piece = Vec::new();
            (&mut file).take(PART as u64).read_to_end(&mut piece)?;
            hasher.update(&piece);
            if piece.is_empty() && Digest::from(hasher.finalize()) != *digest {
                wrong = true;
                return Err(Trouble(String::new()));
            }
            Ok((!piece.is_empty()).then(|| Bytes::from(piece)))
        };
        let sent = self.place.put_parts(name, pieces).await;
        if wrong { Err(Why::Local(damaged())) } else { Ok(sent?) }
    }

    async fn send_code(&self, code: &Digest) -> Result<(), Why> {
        let name = format!("code/{code}.json");
        if !self.is_spoiled(&name) && self.is_there(&name, None).await? {
            return Ok(());
        }
        if let Some(code) = self.store.code(code) {
            self.place.put(&name, serde_json::to_vec(&code).unwrap_or_default()).await?;
            self.is_good(&name);
        }
        Ok(())
    }

    /// Whether the remote has a name, with a size if one is given; asks once.
    async fn is_there(&self, name: &str, size: Option<u64>) -> Result<bool, Trouble> {
        if locked(&self.there).contains(name) {
            return Ok(true);
        }
        let found = self.place.size(name).await?;
        let there = found.is_some_and(|found| size.is_none_or(|size| size == found));
        if there {
            self.mark(&self.there, name);
        }
        Ok(there)
    }

    fn is_spoiled(&self, name: &str) -> bool {
        locked(&self.spoiled).contains(name)
    }

    /// The remote has the right thing under this name now.
    fn is_good(&self, name: &str) {
        self.mark(&self.there, name);
        locked(&self.spoiled).remove(name);
    }

    fn mark(&self, names: &Mutex<HashSet<String>>, name: &str) {
        locked(names).insert(name.to_owned());
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
