//! The training loop.

use std::fs;

use dissim_api::formats::{Dataset, EpochLog, PIXELS, RunInfo, SplitName, write_json};
use dissim_api::{Context, IoContext, StageError};
use dissim_kernel::{Adam, Batch, Embedding, Penalty, StepStats, layout};
use dissim_model::weights;

use crate::batches;
use crate::checkpoint::{Checkpoint, Store};
use crate::engine::{Engine, Fused, State};
use crate::initial;
use crate::params::{Embed, EngineKind, Method, TrainParams};
use crate::plain::Plain;

/// eps of the smooth norm: below any embedding that is not 0, above f32's smallest square.
const EPSILON: f32 = 1e-12;

/// A split in memory, composed: u8 images and what the loop needs of their rows.
struct Samples {
    images: Vec<u8>,
    labels: Vec<u8>,
}

impl Samples {
    fn compose(dataset: &Dataset, name: SplitName) -> Self {
        Self { images: dataset.compose(name), labels: dataset.split(name).label.clone() }
    }

    /// The share of samples that `engine` classifies right; none of none.
    fn accuracy(&self, engine: &mut dyn Engine, batch_size: usize) -> Option<f64> {
        let rows: Vec<u32> = (0..self.labels.len() as u32).collect();
        let mut correct = 0;
        for (rows, labels) in rows.chunks(batch_size).zip(self.labels.chunks(batch_size)) {
            let logits = engine.logits(&self.images, rows);
            correct += logits.iter().zip(labels).filter(|(l, y)| argmax(*l) == **y).count();
        }
        (!rows.is_empty()).then(|| correct as f64 / rows.len() as f64)
    }
}

/// The class with the largest logit; of equals the first.
pub(crate) fn argmax(logits: &[f32]) -> u8 {
    let best = (1..logits.len()).fold(0, |best, c| if logits[c] > logits[best] { c } else { best });
    best as u8
}

/// Trains as the context says, and writes `model.safetensors`, `epochs/`, `epochs.jsonl` and
/// `run.json`.
pub(crate) fn run(context: &mut Context) -> Result<(), StageError> {
    let params: TrainParams = context.params()?;
    let dataset = Dataset::read(context.input("data")?)?;
    if dataset.split(SplitName::Train).is_empty() {
        return Err(StageError::new("the data set has no training images"));
    }
    let run = RunInfo {
        params: context.raw_params().clone(),
        dataset: dataset.info.clone(),
        backend: context.backend().to_owned(),
        weights: layout::WEIGHTS,
    };
    let store = Store::new(context.scratch());
    let Checkpoint { state, mut epochs } = start(context, &store, &run, &params);
    let penalty = (params.method == Method::Dissimilarity).then(|| Penalty {
        lambda: params.lambda.unwrap_or_default() as f32,
        embedding: match params.embed.unwrap_or_default() {
            Embed::Post => Embedding::Post,
            Embed::Pre => Embedding::Pre,
        },
        epsilon: EPSILON,
    });
    let batch_size = params.batch_size as usize;
    let mut engine: Box<dyn Engine> = match params.engine {
        EngineKind::Fused => Box::new(Fused::new(&state, batch_size, penalty)),
        EngineKind::Plain => Box::new(Plain::new(&state, penalty)),
    };
    let mut train = Samples::compose(&dataset, SplitName::Train);
    let id_val = Samples::compose(&dataset, SplitName::IdVal);
    let bg_val = Samples::compose(&dataset, SplitName::BgVal);
    let mut backgrounds = dataset.split(SplitName::Train).background.clone();
    for epoch in epochs.len() as u32 + 1..=params.epochs {
        if dataset.info.params.get("resample_each_epoch").is_some_and(|v| v == true) {
            backgrounds = batches::resampled_backgrounds(&dataset, params.seed, epoch);
            recompose(&dataset, &backgrounds, &mut train.images);
        }
        let groups = batches::groups(&train.labels, &backgrounds);
        let mut log = Means::default();
        let order = batches::order(train.labels.len(), params.seed, epoch);
        for rows in order.chunks(batch_size) {
            let labels: Vec<u8> = rows.iter().map(|&r| train.labels[r as usize]).collect();
            let groups: Vec<u32> = rows.iter().map(|&r| groups[r as usize]).collect();
            let batch = Batch { images: &train.images, rows, labels: &labels, groups: &groups };
            log.add(engine.step(batch), rows.len());
        }
        let mut log = log.finish(epoch, params.lambda.unwrap_or(0.0));
        log.id_val_acc = id_val.accuracy(&mut *engine, batch_size);
        log.bg_val_acc = bg_val.accuracy(&mut *engine, batch_size);
        let note = format!("loss {:.3}, train {:.1} %", log.cross_entropy, 100.0 * log.train_acc);
        context.log(format!("epoch {epoch}/{}: {note}", params.epochs));
        epochs.push(log);
        let checkpoint = Checkpoint { state: engine.state(), epochs };
        store.save(&run, &checkpoint)?;
        epochs = checkpoint.epochs;
        context.progress(epoch.into(), params.epochs.into(), "epoch", note);
    }
    store.publish(epochs.len(), context.output())?;
    finish(context, &run, &engine.state(), &epochs)
}

/// The state to go on from: a checkpoint's, or the first.
fn start(context: &Context, store: &Store, run: &RunInfo, params: &TrainParams) -> Checkpoint {
    match store.load(run) {
        Ok(Some(checkpoint)) => {
            context.log(format!("going on after epoch {}", checkpoint.epochs.len()));
            return checkpoint;
        }
        Ok(None) => {}
        Err(why) => context.log(format!("the checkpoint is not used: {why}")),
    }
    let state = State { weights: initial::weights(params.seed), adam: Adam::new(params.lr) };
    Checkpoint { state, epochs: Vec::new() }
}

/// Composes the training images again, on other backgrounds.
fn recompose(dataset: &Dataset, backgrounds: &[u32], images: &mut [u8]) {
    let split = dataset.split(SplitName::Train);
    let rows = split.glyph.iter().zip(&split.offset).zip(backgrounds);
    for (image, ((&glyph, &offset), &background)) in
        images.as_chunks_mut::<PIXELS>().0.iter_mut().zip(rows)
    {
        dataset.compose_layers(SplitName::Train, glyph, background, offset, image);
    }
}

fn finish(
    context: &mut Context,
    run: &RunInfo,
    state: &State,
    epochs: &[EpochLog],
) -> Result<(), StageError> {
    let output = context.output().to_path_buf();
    weights::write(&output.join("model.safetensors"), &state.weights)?;
    let path = output.join("epochs.jsonl");
    let lines = epochs.iter().map(|e| serde_json::to_string(e).map(|line| line + "\n"));
    let text: String = lines.collect::<Result<_, _>>().or_fail("cannot write JSON", &path)?;
    fs::write(&path, text).or_fail("cannot write", &path)?;
    write_json(&output.join("run.json"), run)?;
    if let Some(last) = epochs.last() {
        context.metric("cross_entropy", last.cross_entropy);
        context.metric("penalty", last.penalty);
        context.metric("train_acc", last.train_acc);
        if let Some(accuracy) = last.bg_val_acc {
            context.metric("bg_val_acc", accuracy);
        }
    }
    Ok(())
}

/// Means over an epoch: of samples for what a sample has, of batches for what a batch has.
#[derive(Default)]
struct Means {
    batches: f64,
    samples: f64,
    correct: usize,
    sum: StepStats,
}

impl Means {
    fn add(&mut self, step: StepStats, samples: usize) {
        let n = samples as f64;
        self.batches += 1.0;
        self.samples += n;
        self.correct += step.correct;
        self.sum.cross_entropy += step.cross_entropy * n;
        self.sum.embedding_norm += step.embedding_norm * n;
        self.sum.zero_norm += step.zero_norm * n;
        self.sum.active += step.active * n;
        self.sum.similarity += step.similarity;
        self.sum.pairs += step.pairs;
    }

    fn finish(self, epoch: u32, lambda: f64) -> EpochLog {
        let Self { batches, samples, correct, sum } = self;
        EpochLog {
            epoch,
            cross_entropy: sum.cross_entropy / samples,
            penalty: sum.similarity / batches,
            pairs: sum.pairs / batches,
            lambda,
            embedding_norm: sum.embedding_norm / samples,
            zero_norm: sum.zero_norm / samples,
            active: sum.active / samples,
            train_acc: correct as f64 / samples,
            id_val_acc: None,
            bg_val_acc: None,
        }
    }
}
