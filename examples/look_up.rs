//! What a study would do, asked from Rust: which tasks are hits, and how long the rest will take.
//!
//! `cargo run --release --example look_up -- path/to/pipeline.yaml`

use std::error::Error;
use std::path::PathBuf;

use dissim::parse::{self, LoadOptions};
use dissim::past;
use dissim::plan::{Planner, State};
use dissim::registry::Registry;
use dissim::store::Store;

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).map_or_else(|| "pipeline.yaml".into(), PathBuf::from);
    let study = parse::load(&file, &LoadOptions::default(), &Registry::builtin())?;
    let store = Store::open(&study.root.join("cache"))?;
    let states = Planner::new(&study, &store).plan();
    let estimates = past::estimates(&study, &store, &states)?;
    for (task, state) in states.iter().enumerate() {
        let word = match state {
            State::Hit(_) => "hit",
            State::Miss(_) => "miss",
            State::Waiting => "waiting",
            State::Broken(_) => "broken",
        };
        println!("{word:8} {:6.1} s  {}", estimates[task].seconds, study.tasks[task].name);
    }
    Ok(())
}
