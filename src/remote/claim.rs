//! Claims: who is computing a key, so that a group computes nothing twice.
//!
//! A claim is an object `claims/<key>/<n>` that can be created only once; the largest n is the one
//! that counts. Its holder writes it anew while it computes: a beat. One whose beat stood still for
//! a lease, by the clock of who looks, is dead, and whoever creates n + 1 takes its place. So no two
//! clocks have to agree, and of several takers exactly one wins. A claim only saves work: who loses
//! one computes the same bytes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::place::{Place, Trouble};
use crate::digest::Digest;

/// No claim is larger.
const LARGEST: u64 = 1 << 16;
/// Beats in a lease.
const BEATS: u32 = 4;

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
    /// This kind of store has no claims.
    Unsupported,
}

/// A claim that this run holds.
#[derive(Debug)]
pub(super) struct Held {
    name: String,
    claim: Claim,
}

/// What was seen of others' claims: the name, the beat, and since when it stands still.
#[derive(Debug, Default)]
pub(super) struct Watched(Mutex<HashMap<Digest, (String, u64, Instant)>>);

fn folder(key: &Digest) -> String {
    format!("claims/{key}")
}

fn name(key: &Digest, number: u64) -> String {
    format!("{}/{number}", folder(key))
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
    let first = name(key, 0);
    match place.create(&first, text(&claim)).await? {
        Some(true) => return Ok(Attempt::Ours(Held { name: first, claim })),
        Some(false) => {}
        None => return Ok(Attempt::Unsupported),
    }
    let numbers = place.list(&folder(key)).await?;
    let Some(last) = numbers.iter().filter_map(|n| n.parse::<u64>().ok()).max() else {
        // It went between the two questions: the next attempt finds what its holder made.
        return Ok(Attempt::Theirs(Claim { by: "somebody".to_owned(), ..claim }));
    };
    let current = name(key, last);
    let bytes = place.get(&current, LARGEST).await?;
    // One that cannot be read stands still like any other.
    let theirs = bytes
        .and_then(|bytes| serde_json::from_slice::<Claim>(&bytes).ok())
        .unwrap_or_else(|| Claim { by: "somebody".to_owned(), beat: 0, ..claim.clone() });
    if !watched.stands_still(key, &current, theirs.beat, lease, Instant::now()) {
        return Ok(Attempt::Theirs(theirs));
    }
    let next = name(key, last + 1);
    if place.create(&next, text(&claim)).await? == Some(true) {
        return Ok(Attempt::Ours(Held { name: next, claim }));
    }
    Ok(Attempt::Theirs(theirs))
}

impl Watched {
    /// Whether a claim showed no sign of life for a lease.
    fn stands_still(
        &self,
        key: &Digest,
        name: &str,
        beat: u64,
        lease: Duration,
        now: Instant,
    ) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.get(key) {
            Some((known, last, since)) if known == name && *last == beat => {
                now.duration_since(*since) >= lease
            }
            _ => {
                seen.insert(key.clone(), (name.to_owned(), beat, now));
                false
            }
        }
    }
}

impl Held {
    /// Shows signs of life until it is dropped.
    pub async fn keep_alive(mut self, place: &Place, lease: Duration) {
        loop {
            tokio::time::sleep(lease / BEATS).await;
            self.claim.beat += 1;
            // Missed beats cost at most that another computes the same.
            let _ = place.put(&self.name, text(&self.claim)).await;
        }
    }

    /// Its name, to let go of it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Lets go of a claim, and of the dead ones before it.
pub(super) async fn let_go(place: &Place, held: &str) -> Result<(), Trouble> {
    let (folder, number) = held.rsplit_once('/').unwrap_or((held, "0"));
    // The first goes last: a claim begins with its creation, and until then that fails.
    for number in (0..=number.parse::<u64>().unwrap_or(0)).rev() {
        place.delete(&format!("{folder}/{number}")).await?;
    }
    Ok(())
}

/// Every claim there is, with its key.
pub(super) async fn all(place: &Place) -> Result<Vec<(Digest, Claim)>, Trouble> {
    let mut last: HashMap<Digest, u64> = HashMap::new();
    for name in place.list("claims").await? {
        let Some((key, number)) = name.split_once('/') else { continue };
        if let (Ok(key), Ok(number)) = (Digest::try_from(key.to_owned()), number.parse::<u64>()) {
            let known = last.entry(key).or_default();
            *known = number.max(*known);
        }
    }
    let mut claims = Vec::new();
    for (key, number) in last {
        if let Some(bytes) = place.get(&name(&key, number), LARGEST).await?
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

    use object_store::memory::InMemory;

    use super::*;

    const LEASE: Duration = Duration::from_millis(200);

    fn claim(by: &str) -> Claim {
        Claim { task: "t".to_owned(), by: by.to_owned(), since: 1, beat: 0 }
    }

    fn now<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(future)
    }

    /// Who holds the key after an attempt, and the claim's name where it is ours.
    async fn tried(place: &Place, seen: &Watched, by: &str) -> Result<Held, String> {
        let key = Digest::of(b"key");
        match attempt(place, seen, &key, claim(by), LEASE).await.unwrap() {
            Attempt::Ours(held) => Ok(held),
            Attempt::Theirs(theirs) => Err(theirs.by),
            Attempt::Unsupported => panic!("memory has claims"),
        }
    }

    #[test]
    fn one_claims_and_a_dead_one_is_followed_by_one() {
        let place = Place::of(Arc::new(InMemory::new()), "x");
        let (second, third) = (Watched::default(), Watched::default());
        now(async {
            let first = tried(&place, &Watched::default(), "first").await.unwrap();
            assert_eq!(tried(&place, &second, "second").await.unwrap_err(), "first");
            assert_eq!(tried(&place, &third, "third").await.unwrap_err(), "first");
            // It lives: its beat changes.
            let beating =
                async { tokio::time::timeout(LEASE * 2, first.keep_alive(&place, LEASE)).await };
            let watching = async {
                for _ in 0..4 {
                    tokio::time::sleep(LEASE / 2).await;
                    assert_eq!(tried(&place, &second, "second").await.unwrap_err(), "first");
                }
            };
            let _ = futures::join!(beating, watching);
            // It is dead: after a lease without a beat exactly one takes its place.
            let _ = tried(&place, &second, "second").await;
            let _ = tried(&place, &third, "third").await;
            tokio::time::sleep(LEASE * 2).await;
            let taken = tried(&place, &second, "second").await.unwrap();
            assert!(taken.name().ends_with("/1"));
            assert_eq!(tried(&place, &third, "third").await.unwrap_err(), "second");
            assert_eq!(all(&place).await.unwrap()[0].1.by, "second");
            // Let go: the key is free, and nothing is left of the dead one.
            let_go(&place, taken.name()).await.unwrap();
            assert!(all(&place).await.unwrap().is_empty());
            assert!(tried(&place, &third, "third").await.unwrap().name().ends_with("/0"));
        });
    }

    #[test]
    fn of_many_that_try_at_once_one_wins() {
        let place = Place::of(Arc::new(InMemory::new()), "");
        let all: Vec<Watched> = (0..20).map(|_| Watched::default()).collect();
        now(async {
            for round in 0..2 {
                let tries = all.iter().map(|seen| tried(&place, seen, "one of them"));
                let won = futures::future::join_all(tries).await.into_iter().filter(Result::is_ok);
                assert_eq!(won.count(), 1, "{round}");
                // Nobody shows a sign of life, and all of them saw that.
                let tries = all.iter().map(|seen| tried(&place, seen, "one of them"));
                assert!(futures::future::join_all(tries).await.iter().all(Result::is_err));
                tokio::time::sleep(LEASE * 2).await;
            }
        });
    }
}
