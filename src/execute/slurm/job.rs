//! The node's side of a job: runs one task from its folder, as this machine's executor would, and
//! leaves how it ended where the runner looks.
//!
//! ```text
//! cache/jobs/<key>/job.json      how to run it
//! cache/jobs/<key>/spec.json     what to run
//! cache/jobs/<key>/sent.json     the job array it goes out in, and its place there
//! cache/jobs/<key>/log           what the task said
//! cache/jobs/<key>/ended.json    how it ended: written last
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dissim_api::files;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::super::process::{self, Cancel, End, Ended};
use super::super::worker::Finished;
use super::array::Array;
use crate::history::host;
use crate::policy::{Policy, Resources};
use crate::store::{Store, at, temporary_in};

const VERSION: u32 = 3;
/// A signal that Slurm sends to a job has reached all of its processes by then.
const TOLD_WITHIN: Duration = Duration::from_millis(500);
const JOB: &str = "job.json";
const SENT: &str = "sent.json";
const ENDED: &str = "ended.json";
const LOG: &str = "log";
const LOCK: &str = "lock";

/// How a task is to be run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Orders {
    version: u32,
    timeout_s: Option<f64>,
    grace_s: f64,
    cpus: u32,
    memory: u64,
}

/// The job array that a task goes out in.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    version: u32,
    array: String,
    index: u32,
}

/// How a task ended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    version: u32,
    /// None where it is done.
    failed: Option<String>,
    peak_memory_bytes: u64,
    started: u64,
    duration_s: f64,
    host: String,
    metrics: BTreeMap<String, Option<f64>>,
}

fn temporary<T: Serialize>(folder: &Path, value: &T) -> io::Result<NamedTempFile> {
    let mut file = temporary_in(folder, "", "")?;
    file.write_all(&serde_json::to_vec_pretty(value)?)?;
    Ok(file)
}

/// Writes a file as a whole or not at all; another machine may be reading. Not synced: what is lost
/// with the power is a job that is submitted again.
fn write<T: Serialize>(folder: &Path, name: &str, value: &T) -> io::Result<()> {
    temporary(folder, value)?.persist(folder.join(name)).map_err(|e| at(e.error, folder))?;
    Ok(())
}

fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> Option<T> {
    serde_json::from_slice(&fs::read(folder.join(name)).ok()?).ok()
}

/// Leaves word of how a task is to be run.
pub(super) fn order(folder: &Path, policy: &Policy, cpus: u32) -> io::Result<()> {
    let orders = Orders {
        version: VERSION,
        timeout_s: policy.timeout.map(|t| t.as_secs_f64()),
        grace_s: policy.grace.as_secs_f64(),
        cpus,
        memory: policy.resources.memory,
    };
    write(folder, JOB, &orders)
}

/// Leaves word of the array that the task is about to go out in.
pub(super) fn note_array(folder: &Path, array: &Array, index: u32) -> io::Result<()> {
    write(folder, SENT, &Sent { version: VERSION, array: array.name(), index })
}

/// The array that the task went out in, and its place there, if that was noted.
pub(super) fn array_of(store: &Store, folder: &Path) -> Option<(Array, u32)> {
    let Sent { version, array, index } = read(folder, SENT)?;
    (version == VERSION).then(|| (Array::named(store, &array), index))
}

/// Whether the task left word of how it ended.
pub(super) fn has_ended(folder: &Path) -> bool {
    folder.join(ENDED).exists()
}

/// How the task ended, if it did.
pub(super) fn ended(folder: &Path) -> Option<Finished> {
    let report: Report = read(folder, ENDED).filter(|r: &Report| r.version == VERSION)?;
    Some(Finished {
        end: report.failed.map_or(End::Done, End::Failed),
        peak_memory_bytes: report.peak_memory_bytes,
        started: report.started,
        duration_s: report.duration_s,
        host: report.host,
        metrics: report.metrics,
        log: folder.join(LOG),
    })
}

/// The file with what the task printed so far; `output`, what its job printed beside, is added to it.
pub(super) fn log(folder: &Path, output: &[u8]) -> PathBuf {
    let log = folder.join(LOG);
    let file = File::options().append(true).create(true).open(&log);
    // Only a log: what cannot be added is left out.
    let _ = file.and_then(|mut file| file.write_all(output));
    log
}

/// `dissim job FOLDER`: runs the task that is laid out there. True unless it was told to stop: then
/// it leaves no word, and the runner asks Slurm why.
///
/// # Errors
/// When the folder is none of a job, or cannot be written.
pub fn serve_job(folder: &Path, program: &Path, cancel: &Cancel) -> io::Result<bool> {
    // A job that was sent twice, or is requeued while its first run is still dying: one of them runs.
    let path = folder.join(LOCK);
    let lock = File::create(&path).map_err(|e| at(e, &path))?;
    lock.lock().map_err(|e| at(e, &path))?;
    if folder.join(ENDED).exists() {
        return Ok(true);
    }
    let orders: Orders =
        read(folder, JOB).filter(|o: &Orders| o.version == VERSION).ok_or_else(|| {
            let what = format!("{}: no job of this version of dissim", folder.display());
            io::Error::new(io::ErrorKind::InvalidData, what)
        })?;
    let policy = Policy {
        timeout: orders.timeout_s.map(Duration::from_secs_f64),
        grace: Duration::from_secs_f64(orders.grace_s),
        resources: Resources { cpus: orders.cpus, memory: orders.memory },
        ..Policy::default()
    };
    // What an earlier run of the job left half-made.
    let output = folder.join("output");
    files::remove_tree(&output).map_err(|e| at(e, &output))?;
    fs::create_dir_all(&output).map_err(|e| at(e, &output))?;
    let (started, clock, mut metrics) = (SystemTime::now(), Instant::now(), BTreeMap::new());
    let ended = process::run(program, folder, &folder.join(LOG), &policy, cancel, |event| {
        if let dissim_api::Event::Metric { name, value } = event {
            metrics.insert(name, value);
        }
    })?;
    let Ended { end, peak_memory_bytes } = ended;
    if matches!(end, End::Failed(_)) {
        // Slurm ends all processes of a job at once, and the task may go before this one is told.
        let due = Instant::now() + TOLD_WITHIN;
        while !cancel.requested() && Instant::now() < due {
            std::thread::sleep(Duration::from_millis(20));
        }
        if cancel.requested() {
            return Ok(false);
        }
    }
    let failed = match end {
        End::Cancelled => return Ok(false),
        End::Done => None,
        End::Failed(why) => Some(why),
    };
    File::open(folder.join(LOG))?.sync_all()?;
    let report = Report {
        version: VERSION,
        failed,
        peak_memory_bytes,
        started: started.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        duration_s: clock.elapsed().as_secs_f64(),
        host: host(),
        metrics,
    };
    // Work is behind this one.
    let file = temporary(folder, &report)?;
    file.as_file().sync_all()?;
    file.persist(folder.join(ENDED)).map_err(|e| at(e.error, folder))?;
    Ok(true)
}
