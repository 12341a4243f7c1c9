//! The `evaluate` stage: what a trained network does on every split of its data set.
//!
//! Writes five Parquet tables, all fractions in 0..=1:
//!
//! | file | a row is |
//! |---|---|
//! | `metrics.parquet` | the run: its facts, then its metrics |
//! | `per_class.parquet` | a split and class: n, correct, accuracy |
//! | `confusion.parquet` | a split, true class and predicted class: count |
//! | `embeddings.parquet` | an image of one of the two tests, on two principal axes |
//! | `epochs.parquet` | an epoch of its training, with its accuracy on the OOD test |

mod linear;
mod predictions;
mod probes;
mod selection;
mod tables;

use std::fs;
use std::path::Path;

use dissim_api::formats::{Dataset, EpochLog, RunInfo, SplitName, epoch_weights, read_json};
use dissim_api::{Code, Context, Input, IoContext, ParamError, Params, Stage, StageError, Traits};
use dissim_model::{Architecture, Backend, Engine, engine, weights};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use predictions::{BATCH, Images, Predictions};
use probes::{Embedded, Probes};
use selection::{Selected, Selector};

/// Below this ID test accuracy a run is dead.
pub const DEAD_BELOW: f64 = 0.20;

/// `with:` of an `evaluate` stage: nothing to choose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluateParams {}

/// The `evaluate` stage.
#[derive(Debug, Clone, Copy)]
pub struct Evaluate;

impl Stage for Evaluate {
    fn kind(&self) -> &'static str {
        "evaluate"
    }

    fn summary(&self) -> &'static str {
        "Measures a trained network on every split of its data set."
    }

    fn code(&self) -> Code {
        dissim_api::code!()
    }

    fn inputs(&self) -> &'static [Input] {
        const { &[Input::one("model"), Input::one("data")] }
    }

    fn traits(&self) -> Traits {
        Traits { backend: true, ..Traits::default() }
    }

    fn schema(&self) -> Value {
        dissim_api::schema::<EvaluateParams>()
    }

    fn resolve(&self, given: &Params) -> Result<Params, Vec<ParamError>> {
        Ok(dissim_api::resolve::<EvaluateParams>(given)?.1)
    }

    fn run(&self, context: &mut Context) -> Result<(), StageError> {
        let model = context.input("model")?.to_path_buf();
        let dataset = Dataset::read(context.input("data")?)?;
        let run: RunInfo = read_json(&model.join("run.json"))?;
        if run.dataset != dataset.info {
            return Err(StageError::new("the model was trained on another data set")
                .at(&model)
                .help("let `needs: { model: .., data: .. }` share the axes of the data set"));
        }
        let epochs = read_epochs(&model.join("epochs.jsonl"))?;
        let architecture = Architecture::of(&run.params)?;
        let weights = weights::read(&model.join("model.safetensors"), &architecture)?;
        let backend = Backend::open(context.backend(), context.device())?;
        let mut network = engine::best(architecture, &weights, BATCH, &backend);
        let names = SplitName::ALL.into_iter().filter(|n| *n != SplitName::Train);
        let total = names.clone().count() as u64;
        let mut splits = Vec::new();
        for (done, name) in (1..).zip(names) {
            splits.push(Predictions::of(&mut *network, &dataset, name));
            context.progress(done, total, "split", name.as_str());
        }
        let tests = Tests::new(&dataset);
        let (curve, selected) = tests.select(&model, architecture, &backend, &epochs)?;
        let [id, ood] = [SplitName::IdTest, SplitName::OodTest].map(|name| {
            let predictions = splits.iter().find(|s| s.name == name).expect("all splits are there");
            Embedded::new(dataset.split(name), predictions)
        });
        let metrics = tables::Metrics::of(&splits, &selected, Probes::of(id, ood));
        for (name, value) in metrics.numbers() {
            if let Some(value) = value {
                context.metric(name, value);
            }
        }
        let output = context.output();
        tables::write(tables::metrics(&run, &epochs, &metrics), output, "metrics.parquet")?;
        tables::write(tables::per_class(&splits), output, "per_class.parquet")?;
        tables::write(probes::plane(id, ood), output, "embeddings.parquet")?;
        tables::write(tables::confusion(&splits), output, "confusion.parquet")?;
        tables::write(tables::epochs(&epochs, &curve), output, "epochs.parquet")
    }
}

/// The two tests, in memory: what the networks of earlier epochs are measured on.
struct Tests {
    id: Images,
    ood: Images,
}

impl Tests {
    fn new(dataset: &Dataset) -> Self {
        let [id, ood] = [SplitName::IdTest, SplitName::OodTest].map(|n| Images::of(dataset, n));
        Self { id, ood }
    }

    /// The accuracy of every epoch on the OOD test, and what each selector picks. The ID test sees
    /// picked epochs alone: a pass over ten thousand images costs half a per cent of a training.
    fn select(
        &self,
        model: &Path,
        architecture: Architecture,
        backend: &Backend,
        epochs: &[EpochLog],
    ) -> Result<(Vec<Option<f64>>, Vec<Selected>), StageError> {
        let network = |epoch: usize| -> Result<Box<dyn Engine>, StageError> {
            let path = model.join(epoch_weights(epoch as u32 + 1));
            let weights = weights::read(&path, &architecture)?;
            Ok(engine::best(architecture, &weights, BATCH, backend))
        };
        let mut curve = Vec::new();
        for epoch in 0..epochs.len() {
            curve.push(self.ood.accuracy(&mut *network(epoch)?));
        }
        let mut id_acc = vec![None; epochs.len()];
        let mut selected = Vec::new();
        for selector in Selector::ALL {
            let pick = selector.pick(epochs, &curve);
            if let Some(epoch) = pick
                && id_acc[epoch].is_none()
            {
                id_acc[epoch] = self.id.accuracy(&mut *network(epoch)?);
            }
            selected.push(Selected {
                selector,
                epoch: pick.map(|epoch| epoch as f64 + 1.0),
                id_acc: pick.and_then(|epoch| id_acc[epoch]),
                ood_acc: pick.and_then(|epoch| curve[epoch]),
            });
        }
        Ok((curve, selected))
    }
}

fn read_epochs(path: &Path) -> Result<Vec<EpochLog>, StageError> {
    let text = fs::read_to_string(path).or_fail("cannot read", path)?;
    let parse = |line: &str| serde_json::from_str(line).or_fail("cannot parse JSON", path);
    text.lines().map(parse).collect()
}

#[cfg(test)]
mod tests;
