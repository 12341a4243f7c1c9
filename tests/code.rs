//! The code is an input: an edit of one stage's source reruns that stage, and nothing else.

mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use dissim::execute::{self, Cancel, Logs, OnFailure, RunOptions, Several, Summary};
use dissim::graph::Study;
use dissim::parse::{LoadOptions, load};
use dissim::plan::{Planner, State};
use dissim::policy::Resources;
use dissim::registry::Registry;
use dissim::store::Store;
use dissim_api::{Code, Context, Input, ParamError, Params, Stage, StageError, Traits};
use dissim_evaluate::Evaluate;
use serde_json::Value;
use support::Project;

/// `evaluate` as it would be compiled after an edit of a comment: another fingerprint of one of its
/// files, the same work. That a comment changes the fingerprint is a test of `stages/fingerprint`.
struct Edited;

const FILE: &str = "stages/evaluate/src/lib.rs";

impl Stage for Edited {
    fn kind(&self) -> &'static str {
        Evaluate.kind()
    }

    fn summary(&self) -> &'static str {
        Evaluate.summary()
    }

    fn code(&self) -> Code {
        let Code(mut manifest) = Evaluate.code();
        let before = manifest.insert(FILE.to_owned(), "another digest".to_owned());
        assert!(before.is_some(), "the manifest names {FILE}");
        Code(manifest)
    }

    fn inputs(&self) -> &'static [Input] {
        Evaluate.inputs()
    }

    fn traits(&self) -> Traits {
        Evaluate.traits()
    }

    fn schema(&self) -> Value {
        Evaluate.schema()
    }

    fn resolve(&self, given: &Params) -> Result<Params, Vec<ParamError>> {
        Evaluate.resolve(given)
    }

    fn files(&self, params: &Params) -> Vec<PathBuf> {
        Evaluate.files(params)
    }

    fn run(&self, context: &mut Context) -> Result<(), StageError> {
        Evaluate.run(context)
    }
}

/// The stages whose tasks are in the given state, a name a task.
fn stages_of(study: &Study, states: &[State], wanted: impl Fn(&State) -> bool) -> Vec<String> {
    let ids = (0..states.len()).filter(|&t| wanted(&states[t]));
    ids.map(|t| study.stage_of(t).name.clone()).collect()
}

fn run(study: &Study, store: &Store) -> Summary {
    let options = RunOptions {
        targets: (0..study.tasks.len()).collect::<BTreeSet<_>>(),
        machine: Resources { cpus: 2, memory: u64::MAX },
        on_failure: OnFailure::Stop,
        logs: Logs::OfFailures,
        remote: None,
        cluster: None,
        program: PathBuf::from(env!("CARGO_BIN_EXE_dissim")),
    };
    execute::run(study, store, &options, &Cancel::default(), &mut Several(Vec::new())).unwrap()
}

#[test]
fn a_comment_in_evaluate_reruns_the_evaluations_alone() {
    let project = Project::new();
    project.succeed("run");
    let builtin = Registry::builtin();
    let kinds = builtin.kinds().filter_map(|kind| builtin.get(kind)).cloned();
    let edited = Registry::new(kinds.chain([Arc::new(Edited) as Arc<dyn Stage>]));
    let file = project.path().join("pipeline.yaml");
    let study = load(&file, &LoadOptions::default(), &edited).unwrap();
    let store = Store::open(&project.path().join("cache")).unwrap();

    let states = Planner::new(&study, &store).plan();
    let misses = stages_of(&study, &states, |s| matches!(s, State::Miss(_)));
    assert_eq!(misses, ["evaluate", "evaluate", "evaluate"]);
    let waiting = stages_of(&study, &states, |s| matches!(s, State::Waiting));
    assert_eq!(waiting, ["results", "report"]);

    // The comment changed no result: after the evaluations, all that depends on them is a hit.
    let summary = run(&study, &store);
    assert_eq!((summary.ran, summary.cached, summary.failed.len()), (3, 8, 0));
}
