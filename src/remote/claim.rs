//! Claims: who is computing a key, so that a group computes nothing twice.
//!
//! A claim is an object of its own, `claims/ab/<key>/<random>`. Who wants a key writes one and then
//! lists the folder. Who is alone there holds the key; who is not takes its claim away again and
//! waits, except for the first by name, which waits for the others to do that. Of two that wrote, the
//! one that listed later saw both: so never do two hold a key. That needs of a store only that what
//! was written is listed. Objects that can be created only once would do with fewer requests, but
//! many servers that speak S3 ignore that condition, or check it before they write.
//!
//! A holder writes its claim anew while it computes: a beat. A claim whose beat stood still for a
//! lease, by the clock of who looks, is dead and is removed: no two clocks have to agree. A claim only
//! saves work: who loses one computes the same bytes.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::place::{Place, Trouble};
use crate::digest::Digest;

/// No claim is larger.
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
    /// Signs of life so far.
    pub beat: u64,
}

/// What came of an attempt to claim.
#[derive(Debug)]
pub(super) enum Attempt {
    /// The key is this run's to compute.
    Ours(Held),
    /// Another computes it.
    Theirs(Claim),
}

/// A claim that this run holds.
#[derive(Debug)]
pub(super) struct Held {
    name: String,
    claim: Claim,
}

/// What was seen of others' claims, by name: the beat, and since when it stands still.
#[derive(Debug, Default)]
pub(super) struct Watched(Mutex<HashMap<String, (u64, Instant)>>);

fn folder(key: &Digest) -> String {
    format!("claims/{}/{key}", key.shard())
}

fn text(claim: &Claim) -> Vec<u8> {
    serde_json::to_vec(claim).expect("a claim serialises")
}

/// Tries to claim a key.
pub(super) async fn attempt(
    place: &Place,
    watched: &Watched,
    key: &Digest,
    claim: Claim,
    lease: Duration,
) -> Result<Attempt, Trouble> {
    // Most keys that another computes are seen to be before anything is written.
    if let Some((_, theirs)) = others(place, watched, key, &claim, "", lease).await?.pop() {
        return Ok(Attempt::Theirs(theirs));
    }
    // Keys of std's hash maps are random.
    let random = RandomState::new().hash_one(&claim.by);
    let name = format!("{}/{random:016x}", folder(key));
    let held = Held { name, claim };
    place.put(&held.name, text(&held.claim)).await?;
    let won = held.wins(place, watched, key, lease).await;
    match won {
        Ok(None) => return Ok(Attempt::Ours(held)),
        Ok(Some(theirs)) => held.let_go(place).await.map(|()| Attempt::Theirs(theirs)),
        Err(trouble) => {
            // What is left dies with its lease.
            let _ = held.let_go(place).await;
            Err(trouble)
        }
    }
}

/// The claims of others on a key that show signs of life, with their names; dead ones are removed.
async fn others(
    place: &Place,
    watched: &Watched,
    key: &Digest,
    ours: &Claim,
    mine: &str,
    lease: Duration,
) -> Result<Vec<(String, Claim)>, Trouble> {
    let folder = folder(key);
    let mut alive = Vec::new();
    for file in place.list_folder(&folder).await? {
        let name = format!("{folder}/{file}");
        if name == mine {
            continue;
        }
        let Some(bytes) = place.get(&name, LARGEST).await? else { continue };
        // One that cannot be read stands still like any other.
        let unknown = || Claim { by: "somebody".to_owned(), beat: 0, ..ours.clone() };
        let theirs = serde_json::from_slice::<Claim>(&bytes).unwrap_or_else(|_| unknown());
        if watched.stands_still(&name, theirs.beat, lease, Instant::now()) {
            place.delete(&name).await?;
        } else {
            alive.push((name, theirs));
        }
    }
    Ok(alive)
}

impl Watched {
    /// Whether a claim showed no sign of life for a lease.
    fn stands_still(&self, name: &str, beat: u64, lease: Duration, now: Instant) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.get(name) {
            Some((last, since)) if *last == beat => now.duration_since(*since) >= lease,
            _ => {
                seen.insert(name.to_owned(), (beat, now));
                false
            }
        }
    }
}

impl Held {
    /// After the claim was written: none where it holds the key, or the claim that stands against it.
    async fn wins(
        &self,
        place: &Place,
        watched: &Watched,
        key: &Digest,
        lease: Duration,
    ) -> Result<Option<Claim>, Trouble> {
        let mut look = 1;
        loop {
            let mut rivals = others(place, watched, key, &self.claim, &self.name, lease).await?;
            let first = rivals.iter().all(|(name, _)| self.name < *name);
            let Some((_, theirs)) = rivals.pop() else { return Ok(None) };
            if !first || look > LOOKS {
                return Ok(Some(theirs));
            }
            tokio::time::sleep(PAUSE * look).await;
            look += 1;
        }
    }

    /// How long until the next sign of life is due.
    pub fn pause(lease: Duration) -> Duration {
        lease / BEATS
    }

    /// Shows a sign of life. Missed ones cost at most that another computes the same.
    pub async fn beat(&mut self, place: &Place) {
        self.claim.beat += 1;
        let _ = place.put(&self.name, text(&self.claim)).await;
    }

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
        if let Some(bytes) = place.get(&format!("claims/{name}"), LARGEST).await?
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;
    use object_store::memory::InMemory;

    use super::*;

    const LEASE: Duration = Duration::from_millis(400);

    fn claim(by: &str) -> Claim {
        Claim { task: "t".to_owned(), by: by.to_owned(), since: 1, beat: 0 }
    }

    fn now<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(future)
    }

    /// The claim where the key is ours after an attempt, and otherwise who holds it.
    async fn tried(place: &Place, seen: &Watched, by: &str) -> Result<Held, String> {
        let key = Digest::of(b"key");
        match attempt(place, seen, &key, claim(by), LEASE).await.unwrap() {
            Attempt::Ours(held) => Ok(held),
            Attempt::Theirs(theirs) => Err(theirs.by),
        }
    }

    #[test]
    fn who_lives_is_waited_for_and_who_died_is_followed() {
        let place = Place::of(Arc::new(InMemory::new()), "x");
        let (second, third) = (Watched::default(), Watched::default());
        now(async {
            let mut first = tried(&place, &Watched::default(), "first").await.unwrap();
            assert_eq!(tried(&place, &second, "second").await.unwrap_err(), "first");
            // It lives for two leases: its beat changes.
            for _ in 0..8 {
                tokio::time::sleep(LEASE / 4).await;
                first.beat(&place).await;
                assert_eq!(tried(&place, &second, "second").await.unwrap_err(), "first");
            }
            // It is dead: after a lease without a beat another takes its place.
            assert_eq!(tried(&place, &third, "third").await.unwrap_err(), "first");
            tokio::time::sleep(LEASE).await;
            let taken = tried(&place, &second, "second").await.unwrap();
            assert_eq!(tried(&place, &third, "third").await.unwrap_err(), "second");
            let by: Vec<_> = all(&place).await.unwrap().into_iter().map(|c| c.1.by).collect();
            assert_eq!(by, ["second"]);
            // Let go: the key is free, and nothing is left of the dead one.
            taken.let_go(&place).await.unwrap();
            assert!(all(&place).await.unwrap().is_empty());
            tried(&place, &third, "third").await.unwrap();
        });
    }

    #[test]
    fn no_two_hold_a_key_however_their_requests_fall() {
        // Every request takes a time of its own, so that those of several runs mix in many ways.
        for round in 0..20 {
            let place = Place::slow(Arc::new(InMemory::new()), round);
            let (holding, held) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let one = async |_| {
                let seen = Watched::default();
                loop {
                    let Ok(claim) = tried(&place, &seen, "one of them").await else {
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
            now(join_all((0..6).map(one)));
            assert_eq!(held.into_inner(), 6);
        }
    }
}
