//! Claims: who is computing a key, so that a group computes nothing twice.
//!
//! A claim is an object of its own, `claims/ab/<key>/<run>-<n>`. Who wants a key writes one and then
//! lists the folder. Who is alone there holds the key; who is not takes its claim away again and
//! waits, except for the first by name, which waits for the others to do that. Of two that wrote, the
//! one that listed later saw both: so never do two hold a key. That needs of a store only that what
//! was written is listed. Objects that can be created only once would do with fewer requests, but
//! many servers that speak S3 ignore that condition, or check it before they write.
//!
//! A run that holds claims shows signs of life: it writes `beats/<run>` anew, for all of them. A run
//! whose beat stood still for a lease, by the clock of who looks, is dead, and its claims are removed:
//! no two clocks have to agree. A claim only saves work: who loses one computes the same bytes.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::place::{Fetched, Place, Trouble};
use crate::digest::Digest;

/// No claim and no beat is larger.
const LARGEST: u64 = 1 << 16;
/// Beats in a lease.
const BEATS: u32 = 4;
/// How often the first of several looks whether the others went,
const LOOKS: u32 = 8;
/// and for how long it waits in between; longer each time.
const PAUSE: Duration = Duration::from_millis(50);

/// What a claim says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The task's name.
    pub task: String,
    /// Who computes it: user, machine, process.
    pub by: String,
    /// Since when, in seconds since 1970, by the holder's clock.
    pub since: u64,
}

/// A sign of life of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Beat {
    by: String,
    beat: u64,
}

/// What came of an attempt to claim.
#[derive(Debug)]
pub(super) enum Attempt {
    /// The key is this run's to compute.
    Ours(Held),
    /// Another computes it: who.
    Theirs(String),
}

/// A claim that this run holds.
#[derive(Debug)]
pub(super) struct Held {
    name: String,
}

/// This run, among the others that use the store.
#[derive(Debug)]
pub(super) struct Run {
    id: String,
    by: String,
    lease: Duration,
    claims: AtomicU64,
    beats: AtomicU64,
    /// Whether other runs were alive at the last beat.
    crowd: AtomicBool,
    others: Mutex<HashMap<String, Seen>>,
}

/// What was seen of another run.
#[derive(Debug, Clone)]
struct Seen {
    beat: Option<Beat>,
    /// Since when its beat stands still.
    since: Instant,
    asked: Instant,
}

fn folder(key: &Digest) -> String {
    format!("claims/{}/{key}", key.shard())
}

fn text(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("it serialises")
}

impl Run {
    pub fn new(by: String, lease: Duration) -> Self {
        // The keys of std's hash maps are random.
        let id = format!("{:016x}", RandomState::new().hash_one(&by));
        Self {
            id,
            by,
            lease,
            claims: AtomicU64::new(0),
            beats: AtomicU64::new(0),
            crowd: AtomicBool::new(true),
            others: Mutex::default(),
        }
    }

    /// How long until the next sign of life is due.
    pub fn pause(&self) -> Duration {
        self.lease / BEATS
    }

    /// Shows a sign of life, looks who else does, and removes what the dead left. Due before the first
    /// claim.
    pub async fn beat(&self, place: &Place) -> Result<(), Trouble> {
        let beat = self.beats.fetch_add(1, Ordering::SeqCst);
        let ours = Beat { by: self.by.clone(), beat };
        place.put(&format!("beats/{}", self.id), text(&ours)).await?;
        let mut crowd = false;
        for other in place.list_folder("beats").await? {
            if other != self.id {
                match self.who_lives(place, &other).await? {
                    Some(_) => crowd = true,
                    None => place.delete(&format!("beats/{other}")).await?,
                }
            }
        }
        self.crowd.store(crowd, Ordering::SeqCst);
        Ok(())
    }

    /// The run holds nothing any more.
    pub async fn end(&self, place: &Place) -> Result<(), Trouble> {
        place.delete(&format!("beats/{}", self.id)).await
    }

    /// Who another run is, if it lives.
    async fn who_lives(&self, place: &Place, other: &str) -> Result<Option<String>, Trouble> {
        let others = || self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let known = others().get(other).cloned();
        let seen = match known {
            Some(seen) if seen.asked.elapsed() < self.pause() / 2 => seen,
            known => {
                let fetched = place.get(&format!("beats/{other}"), LARGEST).await?;
                // A beat that is gone or is not understood stands still like any other.
                let beat = match fetched {
                    Fetched::Found(bytes) => serde_json::from_slice::<Beat>(&bytes).ok(),
                    Fetched::Absent | Fetched::Refused(_) => None,
                };
                let now = Instant::now();
                let seen = match known {
                    Some(seen) if beat.is_none() || beat == seen.beat => {
                        Seen { asked: now, ..seen }
                    }
                    _ => Seen { beat, since: now, asked: now },
                };
                others().insert(other.to_owned(), seen.clone());
                seen
            }
        };
        let alive = seen.since.elapsed() < self.lease;
        Ok(alive.then(|| seen.beat.map_or_else(|| "somebody".to_owned(), |beat| beat.by)))
    }

    /// Tries to claim a key.
    pub async fn claim(
        &self,
        place: &Place,
        key: &Digest,
        claim: &Claim,
    ) -> Result<Attempt, Trouble> {
        // Most keys that another computes are seen to be before anything is written.
        if self.crowd.load(Ordering::SeqCst)
            && let Some((_, theirs)) = self.rivals(place, key).await?.pop()
        {
            return Ok(Attempt::Theirs(theirs));
        }
        let number = self.claims.fetch_add(1, Ordering::SeqCst);
        let held = Held { name: format!("{}/{}-{number}", folder(key), self.id) };
        place.put(&held.name, text(claim)).await?;
        match self.wins(place, key).await {
            Ok(None) => Ok(Attempt::Ours(held)),
            Ok(Some(theirs)) => held.let_go(place).await.map(|()| Attempt::Theirs(theirs)),
            Err(trouble) => {
                // What is left dies with this run.
                let _ = held.let_go(place).await;
                Err(trouble)
            }
        }
    }

    /// Other runs that live and have a claim on a key, and who they are; claims of the dead are removed.
    async fn rivals(&self, place: &Place, key: &Digest) -> Result<Vec<(String, String)>, Trouble> {
        let folder = folder(key);
        let mut alive = Vec::new();
        for file in place.list_folder(&folder).await? {
            let run = file.split('-').next().unwrap_or_default();
            if run == self.id {
                continue;
            }
            match self.who_lives(place, run).await? {
                Some(who) => alive.push((run.to_owned(), who)),
                None => place.delete(&format!("{folder}/{file}")).await?,
            }
        }
        Ok(alive)
    }

    /// After a claim was written: none where it holds the key, or who stands against it.
    async fn wins(&self, place: &Place, key: &Digest) -> Result<Option<String>, Trouble> {
        let mut look = 1;
        loop {
            let mut rivals = self.rivals(place, key).await?;
            let first = rivals.iter().all(|(run, _)| self.id < *run);
            let Some((_, theirs)) = rivals.pop() else { return Ok(None) };
            if !first || look > LOOKS {
                return Ok(Some(theirs));
            }
            tokio::time::sleep(PAUSE * look).await;
            look += 1;
        }
    }
}

impl Held {
    /// Lets go of the key.
    pub async fn let_go(&self, place: &Place) -> Result<(), Trouble> {
        place.delete(&self.name).await
    }
}

/// Every claim there is, with its key.
pub(super) async fn all(place: &Place) -> Result<Vec<(Digest, Claim)>, Trouble> {
    let mut claims = Vec::new();
    for name in place.list("claims").await? {
        let Some(key) = name.split('/').nth(1) else { continue };
        let Ok(key) = Digest::try_from(key.to_owned()) else { continue };
        if let Fetched::Found(bytes) = place.get(&format!("claims/{name}"), LARGEST).await?
            && let Ok(claim) = serde_json::from_slice(&bytes)
        {
            claims.push((key, claim));
        }
    }
    claims.sort_by(|a: &(Digest, Claim), b| (&a.1.task, &a.0).cmp(&(&b.1.task, &b.0)));
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use futures::future::join_all;
    use object_store::memory::InMemory;

    use super::*;

    const LEASE: Duration = Duration::from_millis(400);

    fn now<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(future)
    }

    fn run(by: &str) -> Run {
        Run::new(by.to_owned(), LEASE)
    }

    /// The claim where the key is this run's after an attempt, and otherwise who holds it.
    async fn tried(place: &Place, run: &Run) -> Result<Held, String> {
        let claim = Claim { task: "t".to_owned(), by: run.by.clone(), since: 1 };
        match run.claim(place, &Digest::of(b"key"), &claim).await.unwrap() {
            Attempt::Ours(held) => Ok(held),
            Attempt::Theirs(theirs) => Err(theirs),
        }
    }

    #[test]
    fn who_lives_is_waited_for_and_who_died_is_followed() {
        let place = Place::of(Arc::new(InMemory::new()), "x");
        let (first, second, third) = (run("first"), run("second"), run("third"));
        now(async {
            first.beat(&place).await.unwrap();
            let _held = tried(&place, &first).await.unwrap();
            assert_eq!(tried(&place, &second).await.unwrap_err(), "first");
            // It lives for two leases: its beat changes.
            for _ in 0..8 {
                tokio::time::sleep(LEASE / 4).await;
                first.beat(&place).await.unwrap();
                assert_eq!(tried(&place, &second).await.unwrap_err(), "first");
            }
            // It is dead: after a lease without a beat another takes its place.
            tokio::time::sleep(LEASE).await;
            second.beat(&place).await.unwrap();
            let taken = tried(&place, &second).await.unwrap();
            assert_eq!(tried(&place, &third).await.unwrap_err(), "second");
            let by: Vec<_> = all(&place).await.unwrap().into_iter().map(|c| c.1.by).collect();
            assert_eq!(by, ["second"]);
            // Let go: the key is free, and nothing is left of the dead one.
            taken.let_go(&place).await.unwrap();
            second.end(&place).await.unwrap();
            assert!(all(&place).await.unwrap().is_empty());
            assert!(place.list("beats").await.unwrap().is_empty());
            tried(&place, &third).await.unwrap();
        });
    }

    #[test]
    fn no_two_hold_a_key_however_their_requests_fall() {
        // Every request takes a time of its own, so that those of several runs mix in many ways.
        let round = async |round: u64| {
            let place = Place::slow(Arc::new(InMemory::new()), round);
            let (holding, held) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let one = async |_| {
                // Nobody is taken for dead here.
                let run = Run::new("one of them".to_owned(), Duration::from_secs(600));
                // At first each believes to be alone.
                run.crowd.store(false, Ordering::SeqCst);
                loop {
                    let Ok(claim) = tried(&place, &run).await else {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    };
                    assert_eq!(holding.fetch_add(1, Ordering::SeqCst), 0, "two hold the key");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    holding.fetch_sub(1, Ordering::SeqCst);
                    held.fetch_add(1, Ordering::SeqCst);
                    return claim.let_go(&place).await.unwrap();
                }
            };
            join_all((0..5).map(one)).await;
            assert_eq!(held.into_inner(), 5);
        };
        now(join_all((0..20).map(round)));
    }
}
