//! A store that a group shares, behind an address: results are taken from it and sent to it.
//!
//! ```text
//! records/ab/<key>       a record with its manifest and small blobs (`pack`)
//! objects/ab/<digest>    larger blobs
//! code/<digest>.json     code manifests, for `why`
//! claims/ab/<key>/<run>-<n>   who is computing a key (`claim`)
//! beats/<run>            which runs that hold claims are alive
//! ```
//!
//! The remote is a convenience: when it is down, slow or holds nonsense, a run warns and computes
//! for itself. The rest of the program is not asynchronous; this module owns the one small runtime.

mod claim;
mod folder;
mod health;
mod pack;
mod place;
mod settings;
mod sign;
mod transfer;
mod webdav;

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use crate::digest::Digest;
use crate::history::whoami;
use crate::store::{self, Record, Store};
pub use claim::Claim;
use claim::{Attempt, Held, Run};
use health::Health;
use place::{PART_PATIENCE, PARTS, Place, Trouble};
pub use settings::{Mode, SCHEMES, Settings};
pub use sign::{PublicKey, Signer, VARIABLE, new_pair};
pub use transfer::Moved;
use transfer::{Transfer, Why};

/// Records that are moved at once.
const AT_ONCE: usize = 32;
/// How long an interrupted run still sends, and lets go of its claims.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long a run waits for a transfer that gets nowhere: longer than any request may take.
const LONGEST_SILENCE: Duration =
    PART_PATIENCE.saturating_mul(PARTS as u32).saturating_add(Duration::from_secs(60));
/// So many refused records are named one by one.
const NAMED: usize = 10;

/// A remote store.
pub struct Remote {
    inner: Arc<Inner>,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Drop for Remote {
    fn drop(&mut self) {
        // A thread may hang in the file system for ever. It is left behind: the process must end.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Inner {
    settings: Settings,
    /// What a warning adds to trouble: how things go on.
    consequence: &'static str,
    transfer: Result<Transfer, String>,
    /// Whether a person was told that it does not answer.
    told: AtomicBool,
    reading: Health,
    writing: Health,
    room: Semaphore,
    /// This run among the others,
    run: Run,
    /// and what shows that it lives, while it holds claims.
    beating: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    /// Sends under way, and claims being let go of.
    sending: AtomicUsize,
    unsent: AtomicUsize,
    /// What was refused, each said once: a record may be asked for more than once.
    refused: Mutex<HashSet<String>>,
    bytes: AtomicU64,
}

/// How a request for a record ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is in the local store now.
    Here(Moved),
    /// The remote has none.
    Absent,
    /// The remote has none that can be believed, or does not answer.
    Failed,
}

/// What came of a claim on a key.
#[derive(Debug)]
pub enum Claimed {
    /// The key is this run's to compute.
    Ours(Claiming),
    /// Another computes it: who.
    Theirs(String),
    /// Another computed it meanwhile: it is here now.
    Here,
    /// The remote has no claims, or does not answer: the work may be done twice.
    Unknown,
}

/// A claim that is held: let go of when it is dropped.
pub struct Claiming {
    inner: Arc<Inner>,
    /// Dropped to let go of it.
    _over: oneshot::Sender<()>,
}

impl std::fmt::Debug for Claiming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Claiming")
    }
}

impl Drop for Claiming {
    fn drop(&mut self) {
        self.inner.sending.fetch_add(1, Ordering::SeqCst);
    }
}

impl Remote {
    /// The remote of these settings, for this store. It is not asked anything yet; an address that
    /// cannot be opened is trouble like any other, and is reported when it is first used, with the
    /// `consequence`.
    ///
    /// # Errors
    /// Returns an error if `DISSIM_SIGNING_KEY` names no key, or the system gives no threads.
    pub fn open(settings: Settings, store: &Store, consequence: &'static str) -> io::Result<Self> {
        let signer = Signer::from_environment()
            .map_err(|what| io::Error::new(io::ErrorKind::InvalidInput, what))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("remote")
            .enable_all()
            .build()?;
        // Opening may want the runtime, to refresh credentials.
        let place = {
            let _inside = runtime.enter();
            Place::open(&settings.address).map_err(|trouble| trouble.0)
        };
        let transfer = place.map(|place| Transfer {
            store: store.clone(),
            place,
            trusted: settings.trusted.clone(),
            signer,
            there: Mutex::new(HashSet::new()),
            spoiled: Mutex::new(HashSet::new()),
        });
        let run = Run::new(whoami(), settings.lease);
        let inner = Inner {
            settings,
            consequence,
            transfer,
            told: AtomicBool::new(false),
            reading: Health::default(),
            writing: Health::default(),
            room: Semaphore::new(AT_ONCE),
            run,
            beating: tokio::sync::Mutex::default(),
            sending: AtomicUsize::new(0),
            unsent: AtomicUsize::new(0),
            refused: Mutex::default(),
            bytes: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner), runtime: Some(runtime) })
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is there until the drop")
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.inner.settings.address
    }

    /// Whether results are sent to it.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.inner.settings.mode == Mode::ReadWrite
    }

    /// Asks for the record of a key, and calls `then` from another thread when it is here or is not
    /// to be had.
    pub fn ask(&self, key: Digest, then: impl FnOnce(Taken) + Send + 'static) {
        let inner = Arc::clone(&self.inner);
        self.runtime().spawn(async move { then(inner.take(&key).await) });
    }

    /// Sends a record while the run goes on; its claim is let go of after that.
    pub fn send(&self, record: Record, claim: Option<Claiming>) {
        let inner = Arc::clone(&self.inner);
        inner.sending.fetch_add(1, Ordering::SeqCst);
        self.runtime().spawn(async move {
            inner.send(&record, claim.is_some()).await;
            drop(claim);
            inner.sending.fetch_sub(1, Ordering::SeqCst);
        });
    }

    /// Claims keys, given with the names of their tasks, many at once.
    pub fn claim_all(&self, keys: &[(Digest, String)]) -> Vec<Claimed> {
        let claims = keys.iter().map(|(key, task)| self.inner.claim(key, task));
        self.runtime().block_on(stream::iter(claims).buffered(AT_ONCE).collect())
    }

    /// How long to wait before a key that another computes is asked for again.
    #[must_use]
    pub fn patience(&self) -> Duration {
        (self.inner.settings.lease / 6).min(Duration::from_secs(5))
    }

    /// Who computes what.
    ///
    /// # Errors
    /// When the remote does not answer, in words.
    pub fn claims(&self) -> Result<Vec<(Digest, Claim)>, String> {
        let transfer = self.inner.transfer.as_ref().map_err(Clone::clone)?;
        self.runtime().block_on(claim::all(&transfer.place)).map_err(|trouble| trouble.0)
    }

    /// Waits for what is being sent, until `give_up` says so, and tells what was not.
    pub fn finish(&self, give_up: impl Fn() -> bool) {
        let start = Instant::now();
        let (mut seen, mut moved) = (self.progress(), start);
        while self.inner.sending.load(Ordering::SeqCst) > 0 {
            if seen != self.progress() {
                (seen, moved) = (self.progress(), Instant::now());
            }
            if (give_up() && start.elapsed() > FAREWELL) || moved.elapsed() > LONGEST_SILENCE {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // What is left dies with the lease.
        let end = async { tokio::time::timeout(FAREWELL, self.inner.stop_beating()).await };
        let _ = self.runtime().block_on(end);
        let left = self.inner.sending.load(Ordering::SeqCst);
        let unsent = self.inner.unsent.swap(0, Ordering::SeqCst) + left;
        if unsent > 0 {
            let noun = if unsent == 1 { "result was" } else { "results were" };
            say!(
                "warning: {unsent} {noun} not sent to {}; `dissim cache push` sends what is missing",
                self.address()
            );
        }
    }

    /// Another value after each request and each transfer that came to an end.
    fn progress(&self) -> (u64, u64, usize) {
        let parts = self.inner.transfer.as_ref().map_or(0, |t| t.place.parts());
        (self.cost().0, parts, self.inner.sending.load(Ordering::SeqCst))
    }

    /// Takes the records of these keys, many at once, and says after each how many are done.
    pub fn take_all(&self, keys: &[Digest], mut progress: impl FnMut(usize)) -> Vec<Taken> {
        let taken = keys.iter().map(|key| self.inner.take(key));
        self.runtime().block_on(async {
            let mut all = Vec::new();
            let mut taken = stream::iter(taken).buffered(AT_ONCE);
            while let Some(one) = taken.next().await {
                all.push(one);
                progress(all.len());
            }
            all
        })
    }

    /// Sends records, many at once, and says after each how many are done. None for each that could
    /// not be sent.
    pub fn send_all(
        &self,
        records: &[Record],
        mut progress: impl FnMut(usize),
    ) -> Vec<Option<Moved>> {
        let sent = records.iter().map(|record| self.inner.send(record, false));
        self.runtime().block_on(async {
            let mut all = Vec::new();
            let mut sent = stream::iter(sent).buffered(AT_ONCE);
            while let Some(one) = sent.next().await {
                all.push(one);
                progress(all.len());
            }
            all
        })
    }

    /// Requests made and bytes moved so far.
    #[must_use]
    pub fn cost(&self) -> (u64, u64) {
        let requests = self.inner.transfer.as_ref().map_or(0, |t| t.place.requests());
        (requests, self.inner.bytes.load(Ordering::Relaxed))
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Remote({})", self.address())
    }
}

impl Inner {
    async fn claim(self: &Arc<Self>, key: &Digest, task: &str) -> Claimed {
        let Ok(room) = self.room.acquire().await else { return Claimed::Unknown };
        let (true, Ok(transfer)) = (self.writing.is_fine(Instant::now()), &self.transfer) else {
            return Claimed::Unknown;
        };
        let ours = Claim { task: task.to_owned(), by: whoami(), since: store::now() };
        let attempt = async {
            self.start_beating(&transfer.place).await?;
            self.run.claim(&transfer.place, key, &ours).await
        };
        let held = match attempt.await {
            Ok(Attempt::Ours(held)) => held,
            Ok(Attempt::Theirs(who)) => return Claimed::Theirs(who),
            Err(trouble) => {
                self.tell_trouble(&self.writing, &trouble.0);
                return Claimed::Unknown;
            }
        };
        drop(room);
        let (_over, over) = oneshot::channel();
        tokio::spawn(Arc::clone(self).hold(held, over));
        let claiming = Claiming { inner: Arc::clone(self), _over };
        // Its last holder may have sent it between this run's question and its claim.
        match self.take(key).await {
            Taken::Here(_) => Claimed::Here,
            Taken::Absent | Taken::Failed => Claimed::Ours(claiming),
        }
    }

    /// Holds a claim until it is over, and lets go of it.
    async fn hold(self: Arc<Self>, held: Held, over: oneshot::Receiver<()>) {
        let _ = over.await;
        if let Ok(transfer) = &self.transfer {
            // What is left dies with this run.
            let _ = held.let_go(&transfer.place).await;
        }
        self.sending.fetch_sub(1, Ordering::SeqCst);
    }

    /// From now on this run shows signs of life; the first is given when this returns.
    async fn start_beating(self: &Arc<Self>, place: &Place) -> Result<(), Trouble> {
        let mut beating = self.beating.lock().await;
        if beating.is_none() {
            self.run.beat(place).await?;
            let inner = Arc::clone(self);
            *beating = Some(tokio::spawn(async move {
                loop {
                    tokio::time::sleep(inner.run.pause()).await;
                    if let Ok(transfer) = &inner.transfer {
                        // Missed beats cost at most that another computes the same.
                        let _ = inner.run.beat(&transfer.place).await;
                    }
                }
            }));
        }
        Ok(())
    }

    /// This run holds nothing any more.
    async fn stop_beating(&self) {
        let beating = self.beating.lock().await.take();
        if let (Some(beating), Ok(transfer)) = (beating, &self.transfer) {
            beating.abort();
            let _ = beating.await;
            let _ = self.run.end(&transfer.place).await;
        }
    }

    async fn take(&self, key: &Digest) -> Taken {
        let Ok(_room) = self.room.acquire().await else { return Taken::Failed };
        // Many wait, and few of them are here at a time: memory is taken by those alone.
        Box::pin(self.try_take(key)).await
    }

    async fn try_take(&self, key: &Digest) -> Taken {
        if !self.reading.is_fine(Instant::now()) {
            return Taken::Failed;
        }
        let transfer = match &self.transfer {
            Ok(transfer) => transfer,
            Err(what) => {
                self.tell_trouble(&self.reading, what);
                return Taken::Failed;
            }
        };
        match transfer.take(key).await {
            Ok(found) => {
                self.reading.answered();
                let Some(moved) = found else { return Taken::Absent };
                self.bytes.fetch_add(moved.bytes, Ordering::Relaxed);
                Taken::Here(moved)
            }
            Err(Why::Trouble(what)) => {
                self.tell_trouble(&self.reading, &what);
                Taken::Failed
            }
            Err(Why::Refused(what)) => {
                self.tell_refused(&what);
                Taken::Failed
            }
            Err(Why::Local(what)) => {
                say!("warning: a result from {} could not be kept: {what}", self.settings.address);
                Taken::Failed
            }
        }
    }

    /// Sends a record; none where it could not be sent, which is counted. One that is `new` there is not
    /// asked for first.
    async fn send(&self, record: &Record, new: bool) -> Option<Moved> {
        let sent = match self.room.acquire().await {
            Ok(_room) => Box::pin(self.try_send(record, new)).await,
            Err(_) => None,
        };
        match sent {
            Some(moved) => drop(self.bytes.fetch_add(moved.bytes, Ordering::Relaxed)),
            None => drop(self.unsent.fetch_add(1, Ordering::SeqCst)),
        }
        sent
    }

    async fn try_send(&self, record: &Record, new: bool) -> Option<Moved> {
        if !self.writing.is_fine(Instant::now()) {
            return None;
        }
        let transfer = match &self.transfer {
            Ok(transfer) => transfer,
            Err(what) => {
                self.tell_trouble(&self.writing, what);
                return None;
            }
        };
        match transfer.send(record, new).await {
            Ok(moved) => {
                self.writing.answered();
                Some(moved)
            }
            Err(Why::Trouble(what) | Why::Refused(what)) => {
                self.tell_trouble(&self.writing, &what);
                None
            }
            Err(Why::Local(what)) => {
                say!("warning: a result could not be sent to {}: {what}", self.settings.address);
                None
            }
        }
    }

    fn tell_trouble(&self, health: &Health, what: &str) {
        health.trouble(Instant::now());
        if std::ptr::eq(health, &self.reading) {
            // Who does not answer a question takes nothing either; the other way round it may only be
            // closed for writing.
            self.writing.trouble(Instant::now());
        }
        if !self.told.swap(true, Ordering::SeqCst) {
            say!(
                "warning: remote store {} is unavailable{}: {what}",
                self.settings.address,
                self.consequence
            );
        }
    }

    fn tell_refused(&self, what: &str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let before = refused.len();
        if !refused.insert(what.to_owned()) {
            return;
        }
        if before < NAMED {
            say!("warning: refused from {}, and computed here: {what}", self.settings.address);
        } else if before == NAMED {
            say!("warning: more results of {} are refused", self.settings.address);
        }
    }
}
