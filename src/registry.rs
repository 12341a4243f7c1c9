//! The one place where the runner meets the stages: a kind a line.

use std::collections::BTreeMap;
use std::sync::Arc;

use dissim_api::{ParamError, Params, Stage};
use dissim_train::backend;
use serde_json::Value;

pub use dissim_claims::{Columns as ResultColumns, Judgement, Mcnemar, Verdict};
pub use dissim_query::{Answer, QueryError, Tables, Unknown, Values};
pub use dissim_report::PROVENANCE_SLOT;

/// The stage kinds that pipeline.yaml may name.
#[derive(Clone)]
pub struct Registry {
    stages: BTreeMap<&'static str, Arc<dyn Stage>>,
}

impl Registry {
    /// The kinds this build has.
    #[must_use]
    pub fn builtin() -> Self {
        Self::new([
            Arc::new(dissim_fetch::Fetch) as Arc<dyn Stage>,
            Arc::new(dissim_dataset::DatasetStage),
            Arc::new(dissim_train::Train),
            Arc::new(dissim_evaluate::Evaluate),
            Arc::new(dissim_aggregate::Aggregate),
            Arc::new(dissim_report::Report),
            Arc::new(dissim_command::Command),
        ])
    }

    /// A registry of these stages; of two with one kind, the later counts.
    #[must_use]
    pub fn new(stages: impl IntoIterator<Item = Arc<dyn Stage>>) -> Self {
        Self { stages: stages.into_iter().map(|s| (s.kind(), s)).collect() }
    }

    /// The same with one more kind, or with another stage for a kind it has.
    #[must_use]
    pub fn with(mut self, stage: Arc<dyn Stage>) -> Self {
        self.stages.insert(stage.kind(), stage);
        self
    }

    /// The stage of that kind.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<&Arc<dyn Stage>> {
        self.stages.get(kind)
    }

    /// The columns that runs may have, for what claims and tables name.
    #[must_use]
    pub fn result_columns(&self) -> ResultColumns {
        let properties = self.stages.values().flat_map(|stage| {
            let schema = stage.schema();
            let names = schema.get("properties").and_then(Value::as_object);
            names.map(|p| p.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()
        });
        ResultColumns {
            metrics: dissim_aggregate::METRICS.map(str::to_owned).into(),
            facts: properties
                .chain(
                    ["backend", "data_seed", "lambda_target", "told", "variant"].map(str::to_owned),
                )
                .collect(),
        }
    }

    /// All kinds, sorted.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.stages.keys().copied()
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.kinds()).finish()
    }
}

/// The compute backends that pipeline.yaml may name; the first is the default.
pub const BACKENDS: [&str; 2] = ["flex", "tch"];

/// Those of them that this build has.
pub const BUILT_BACKENDS: &[&str] = backend::BACKENDS;

/// How to build dissim with the others.
pub const HOW_TO_BUILD_BACKENDS: &str = backend::HOW_TO_TCH;

/// The library behind a backend with its version, where it is not a crate.
#[must_use]
pub fn backend_library(name: &str) -> Option<String> {
    backend::library(name)
}

/// What is wrong with an entry of `claims:`.
#[must_use]
pub fn check_claim(claim: &Params, columns: &ResultColumns) -> Vec<ParamError> {
    dissim_claims::check(claim, columns)
}

/// What is wrong with an entry of `tables:`.
#[must_use]
pub fn check_table(table: &Params, columns: &ResultColumns) -> Vec<ParamError> {
    dissim_report::check_table(table, columns)
}
