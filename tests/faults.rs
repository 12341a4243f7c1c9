//! Whatever happens while a study runs, what is in its store is right, and the next run ends as if
//! nothing had happened: calls to the file system that fail or are killed, one after the other, and
//! processes that are killed at random instants.
//!
//! The short forms run always. The long ones take minutes:
//! `cargo test --release --test faults -- --ignored --nocapture`; docs/reliability.md has their counts.

#![cfg(target_os = "linux")]

#[path = "faults/damage.rs"]
mod damage;
#[path = "faults/fuzz.rs"]
mod fuzz;
#[path = "faults/hostile.rs"]
mod hostile;
#[path = "faults/load.rs"]
mod load;
#[path = "faults/study.rs"]
mod study;
mod support;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use study::{Fault, Study};

/// Every way a call can go wrong, and whether every call after it does too.
const WAYS: [(&str, bool); 9] = [
    ("kill", false),
    ("kill_after", false),
    ("enospc", false),
    ("enospc", true),
    ("eio", false),
    ("erofs", false),
    ("erofs", true),
    ("eintr", false),
    ("short", false),
];

/// How many calls the long forms pass over: none, or as DISSIM_FAULT_STRIDE says.
fn stride() -> usize {
    let given = std::env::var("DISSIM_FAULT_STRIDE").ok().and_then(|text| text.parse().ok());
    given.unwrap_or(1)
}

/// Injects a fault at every `stride`-th call of each way. Returns how many.
fn at_calls(study: &Study, stride: usize) -> usize {
    let calls = study.count_calls();
    assert!(calls > 50, "the shim counts: {calls}");
    let mut faults = 0;
    for (way, &(kind, sticky)) in WAYS.iter().enumerate() {
        // Every way begins elsewhere, so that together they meet every call.
        for at in (1 + way % stride..=calls).step_by(stride) {
            let fault = Fault { kind, at, sticky };
            study.fresh();
            let code = study.run_with(fault);
            let told = study.told();
            let fine = match kind {
                // Nothing that a program sees: it tries again, or writes the rest.
                "short" => code == Some(0),
                "kill" | "kill_after" => code.is_none_or(|code| code <= 2),
                _ => code.is_some_and(|code| code <= 2),
            };
            assert!(fine && !told.contains("panicked"), "{fault:?}: {code:?}\n{told}");
            let words = match kind {
                "enospc" => "No space left on device",
                "eio" => "Input/output error",
                "erofs" => "Read-only file system",
                "eintr" => "Interrupted system call",
                _ => "",
            };
            assert!(code == Some(0) || told.contains(words), "{fault:?} is not said:\n{told}");
            study.is_sound(&format!("{fault:?}"));
            study.completes(&format!("{fault:?}"));
            faults += 1;
        }
        println!("{kind}, sticky {sticky}: {faults} faults so far");
    }
    faults
}

#[test]
fn a_fault_at_any_call_costs_a_run_and_nothing_else() {
    let study = Study::small();
    let faults = at_calls(&study, 61);
    assert!(faults > 15, "{faults}");
}

#[test]
#[ignore = "some minutes: a fault at every call of a small study"]
fn a_fault_at_every_call_of_a_small_study() {
    let study = Study::small();
    println!("{} faults at {} calls", at_calls(&study, stride()), study.count_calls());
}

#[test]
#[ignore = "some minutes: faults all over a study with training"]
fn a_fault_at_calls_of_a_real_study() {
    let study = Study::real();
    println!("{} faults at {} calls", at_calls(&study, stride()), study.count_calls());
}

/// Kills the runner or one of its tasks at random instants until so many were killed, and every
/// study in between completes.
fn kill_at_random(study: &Study, kills: usize) -> (usize, usize) {
    // A fixed sequence: what it meets differs all the same, with the machine.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    study.fresh();
    let whole = study.takes();
    let (mut killed, mut completed) = (0, 0);
    study.fresh();
    while killed < kills {
        let mut run = study.start();
        std::thread::sleep(Duration::from_millis(random(whole.as_millis() as u64 / 2 + 1)));
        let tasks = study::tasks_of(run.id());
        let victim = match random(3) {
            0 | 1 if !tasks.is_empty() => tasks[random(tasks.len() as u64) as usize],
            _ => run.id(),
        };
        killed += usize::from(study::kill(victim));
        let code = study::wait(&mut run);
        assert!(code.is_none_or(|code| code <= 1), "{}", study.told());
        study.is_sound(&format!("after {killed} kills"));
        if code == Some(0) {
            study.completes(&format!("after {killed} kills"));
            completed += 1;
            study.fresh();
        }
    }
    study.completes(&format!("after {killed} kills"));
    (killed, completed + 1)
}

#[test]
fn killed_at_random_instants_a_study_completes_with_the_same_bytes() {
    let (killed, _) = kill_at_random(&Study::real(), 5);
    assert!(killed >= 5);
}

#[test]
#[ignore = "some minutes: hundreds of kills"]
fn killed_hundreds_of_times_a_study_completes_with_the_same_bytes() {
    let (killed, completed) = kill_at_random(&Study::real(), 400);
    println!("{killed} kills, {completed} studies completed");
}

#[test]
fn training_killed_in_mid_epoch_goes_on_and_ends_in_the_same_bytes() {
    let study = Study::training();
    let checkpoint = |study: &Study| {
        let scratch = study.path().join("cache/tmp/scratch");
        let keys = fs::read_dir(scratch).into_iter().flatten().flatten();
        keys.map(|key| key.path().join("checkpoint.json")).any(|path| path.exists())
    };
    // On a busy machine a training may end before the kill comes: then it is tried again.
    let kill_in_mid_epoch = |victim: &str| {
        study.fresh();
        let mut run = study.start();
        let start = Instant::now();
        while !checkpoint(&study) {
            assert!(start.elapsed() < Duration::from_secs(100), "no checkpoint");
            std::thread::sleep(Duration::from_millis(5));
        }
        // Into the next epoch.
        std::thread::sleep(Duration::from_millis(30));
        let tasks = study::tasks_of(run.id());
        let pid = if victim == "runner" { Some(run.id()) } else { tasks.first().copied() };
        pid.map(study::kill);
        study::wait(&mut run) != Some(0)
    };
    for victim in ["runner", "task"] {
        assert!((0..10).any(|_| kill_in_mid_epoch(victim)), "it always ends before the kill");
        study.completes(victim);
        let log = study.dissim(&["log", "train"]).stdout(Stdio::piped()).output().unwrap();
        let log = String::from_utf8_lossy(&log.stdout).into_owned();
        assert!(log.contains("going on after epoch"), "{log}");
    }
}
