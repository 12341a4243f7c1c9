//! The training loop.

use std::fs;

use dissim_api::formats::{Dataset, EpochLog, PIXELS, RunInfo, SplitName, write_json};
use dissim_api::{Context, IoContext, StageError};
use dissim_kernel::{Input, Mix, Optimiser, OutputGradient};
use dissim_model::{Architecture, Backend, Engine, engine, weights};

use crate::batches;
use crate::checkpoint::{Checkpoint, State, Store};
use crate::initial;
use crate::methods::cross_entropy::largest;
use crate::methods::{self, Batch, Clock, Head, Mixed, Objective, Setting, StepStats};
use crate::params::{EngineKind, Method, TrainParams};
use crate::sampler;

/// A split in memory, composed: u8 images and what the loop needs of their rows.
struct Samples {
    images: Vec<u8>,
    labels: Vec<u8>,
    backgrounds: Vec<u32>,
}

impl Samples {
    fn compose(dataset: &Dataset, name: SplitName) -> Self {
        let split = dataset.split(name);
        Self {
            images: dataset.compose(name),
            labels: split.label.clone(),
            backgrounds: split.background.clone(),
        }
    }

    /// The share of samples that `engine` classifies right; none of none.
    fn accuracy(&self, engine: &mut dyn Engine, batch_size: usize) -> Option<f64> {
        let rows: Vec<u32> = (0..self.labels.len() as u32).collect();
        let mut correct = 0;
        for (rows, labels) in rows.chunks(batch_size).zip(self.labels.chunks(batch_size)) {
            let outputs = engine.predict(&self.images, rows);
            let right = |&(i, &y): &(usize, &u8)| largest(outputs.logits(i)) == usize::from(y);
            correct += labels.iter().enumerate().filter(right).count();
        }
        (!rows.is_empty()).then(|| correct as f64 / rows.len() as f64)
    }
}

/// Trains as the context says, and writes `model.safetensors`, `epochs/`, `epochs.jsonl` and
/// `run.json`.
pub(crate) fn run(context: &mut Context) -> Result<(), StageError> {
    let params: TrainParams = context.params()?;
    let backend = Backend::open(context.backend(), context.device())?;
    let dataset = Dataset::read(context.input("data")?)?;
    if dataset.split(SplitName::Train).is_empty() {
        return Err(StageError::new("the data set has no training images"));
    }
    let setting =
        Setting { params: &params, dataset: &dataset, architecture: params.architecture() };
    let run = RunInfo {
        params: context.raw_params().clone(),
        dataset: dataset.info.clone(),
        backend: context.backend().to_owned(),
        weights: setting.architecture.weights(),
        told: methods::told(&params),
    };
    let store = Store::new(context.scratch(), setting.architecture);
    let Checkpoint { state, mut epochs } = start(context, &store, &run, setting);
    let mut trainer = Trainer::new(setting, state, &backend);
    let id_val = Samples::compose(&dataset, SplitName::IdVal);
    let bg_val = Samples::compose(&dataset, SplitName::BgVal);
    let batch_size = params.batch_size as usize;
    for epoch in epochs.len() as u32 + 1..=params.epochs {
        let mut log = trainer.epoch(epoch)?;
        if epoch == params.epochs {
            trainer.finish()?;
        }
        let engine = &mut *trainer.engine;
        log.id_val_acc = id_val.accuracy(engine, batch_size);
        log.bg_val_acc = bg_val.accuracy(engine, batch_size);
        let note = format!("loss {:.3}, train {:.1} %", log.cross_entropy, 100.0 * log.train_acc);
        context.log(format!("epoch {epoch}/{}: {note}", params.epochs));
        epochs.push(log);
        let checkpoint = Checkpoint { state: trainer.state(), epochs };
        store.save(&run, &checkpoint)?;
        epochs = checkpoint.epochs;
        context.progress(epoch.into(), params.epochs.into(), "epoch", note);
    }
    store.publish(epochs.len(), context.output())?;
    finish(context, &run, setting.architecture, trainer.engine.weights(), &epochs)
}

/// The state to go on from: a checkpoint's, or the first.
fn start(context: &Context, store: &Store, run: &RunInfo, setting: Setting<'_>) -> Checkpoint {
    let Setting { params, architecture, .. } = setting;
    let weights = initial::weights(&architecture, params.seed);
    let optimiser = Optimiser::new(params.rule(), params.rate(), weights.len());
    let first = State { weights, optimiser, method: Vec::new() };
    match store.load(run, &first) {
        Ok(Some(checkpoint)) => {
            context.log(format!("going on after epoch {}", checkpoint.epochs.len()));
            return checkpoint;
        }
        Ok(None) => {}
        Err(why) => context.log(format!("the checkpoint is not used: {why}")),
    }
    Checkpoint { state: first, epochs: Vec::new() }
}

/// An engine, an objective, an optimiser, and the data they work on.
struct Trainer<'a> {
    setting: Setting<'a>,
    train: Samples,
    engine: Box<dyn Engine>,
    objective: Box<dyn Objective>,
    optimiser: Optimiser,
    gradient: OutputGradient,
}

impl<'a> Trainer<'a> {
    /// Goes on from `state`.
    fn new(setting: Setting<'a>, state: State, backend: &Backend) -> Self {
        let State { weights, optimiser, method } = state;
        let Setting { params, dataset, architecture } = setting;
        let mut engine = match params.engine {
            EngineKind::Plain => engine::plain(architecture, &weights, backend.device()),
            EngineKind::Fused | EngineKind::Auto => {
                engine::best(architecture, &weights, params.batch_size as usize, backend)
            }
        };
        let mut objective = methods::objective(setting);
        objective.restore(&method);
        if objective.reads_features() {
            engine.keep_features();
        }
        let train = Samples::compose(dataset, SplitName::Train);
        let gradient = OutputGradient::default();
        Self { setting, train, engine, objective, optimiser, gradient }
    }

    /// All that the steps so far have changed.
    fn state(&self) -> State {
        State {
            weights: self.engine.weights().to_vec(),
            optimiser: self.optimiser.clone(),
            method: self.objective.state(),
        }
    }

    /// One pass over the training set.
    fn epoch(&mut self, epoch: u32) -> Result<EpochLog, StageError> {
        let Setting { params, dataset, .. } = self.setting;
        if dataset.info.params.get("resample_each_epoch").is_some_and(|v| v == true) {
            self.train.backgrounds = batches::resampled_backgrounds(dataset, params.seed, epoch);
            recompose(dataset, &self.train.backgrounds, &mut self.train.images);
        }
        if params.method == Method::Oracle {
            self.train.backgrounds = batches::fresh_backgrounds(dataset, params.seed, epoch)?;
            recompose(dataset, &self.train.backgrounds, &mut self.train.images);
        }
        let groups = batches::groups(&self.train.labels, &self.train.backgrounds);
        let order = self.order(&groups, epoch);
        let batches: Vec<&[u32]> = order.chunks(params.batch_size as usize).collect();
        let steps = batches.len() as u64;
        let mut log = Means::default();
        for (i, rows) in (0..).zip(batches) {
            let step = u64::from(epoch - 1) * steps + i;
            let clock = Clock { epoch, epochs: params.epochs, step, steps };
            log.add(self.step(rows, &groups, clock), rows.len());
        }
        Ok(log.finish(epoch))
    }

    /// The epoch's images in the order in which they are cut into batches.
    fn order(&self, groups: &[u32], epoch: u32) -> Vec<u32> {
        let TrainParams { batch_size, seed, samples_per_group, .. } = *self.setting.params;
        match samples_per_group {
            None => batches::order(groups.len(), seed, epoch),
            Some(k) => sampler::order(groups, k as usize, batch_size as usize, seed, epoch),
        }
    }

    /// Forward, loss, backward, update.
    fn step(&mut self, rows: &[u32], groups: &[u32], clock: Clock) -> StepStats {
        let Self { setting, train, engine, objective, optimiser, gradient } = self;
        let labels = gather(&train.labels, rows);
        let (backgrounds, groups) = (gather(&train.backgrounds, rows), gather(groups, rows));
        let mut batch = Batch {
            images: &train.images,
            rows,
            labels: &labels,
            backgrounds: &backgrounds,
            groups: &groups,
            mixed: None,
            clock,
        };
        let mixing = objective.mix(&batch);
        let partner_labels = mixing.as_ref().map(|m| gather(&train.labels, &m.partners));
        let mut input = Input { images: &train.images, rows, mix: None };
        if let (Some(mixing), Some(labels)) = (&mixing, &partner_labels) {
            input.mix = Some(Mix { partners: &mixing.partners, shares: &mixing.shares });
            batch.mixed = Some(Mixed { labels, shares: &mixing.shares });
        }
        let head = setting.architecture.head().map(|range| engine.weights()[range].to_vec());
        let outputs = engine.forward(input);
        gradient.reset(rows.len(), outputs.width);
        let keep = objective.keep(&batch, outputs, Head { weight: &head[0], bias: &head[1] });
        let stats = match keep {
            None => objective.evaluate(&batch, outputs, gradient),
            Some(keep) => objective.evaluate(&batch, engine.drop_units(&keep), gradient),
        };
        engine.backward(gradient);
        if objective.restarts_optimiser(clock) {
            optimiser.reset();
        }
        optimiser.lr = setting.params.rate() * setting.params.lr_schedule.factor(clock.done());
        engine.update(optimiser);
        stats
    }

    /// What the method does after the last epoch.
    fn finish(&mut self) -> Result<(), StageError> {
        self.objective.finish(self.setting, &mut *self.engine)
    }
}

fn gather<T: Copy>(values: &[T], rows: &[u32]) -> Vec<T> {
    rows.iter().map(|&row| values[row as usize]).collect()
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
    architecture: Architecture,
    weights: &[f32],
    epochs: &[EpochLog],
) -> Result<(), StageError> {
    let output = context.output().to_path_buf();
    weights::write(&output.join("model.safetensors"), &architecture, weights)?;
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
        self.sum.penalty += step.penalty;
        self.sum.lambda += step.lambda;
        self.sum.pairs += step.pairs;
    }

    fn finish(self, epoch: u32) -> EpochLog {
        let Self { batches, samples, correct, sum } = self;
        EpochLog {
            epoch,
            cross_entropy: sum.cross_entropy / samples,
            penalty: sum.penalty / batches,
            pairs: sum.pairs / batches,
            lambda: sum.lambda / batches,
            embedding_norm: sum.embedding_norm / samples,
            zero_norm: sum.zero_norm / samples,
            active: sum.active / samples,
            train_acc: correct as f64 / samples,
            id_val_acc: None,
            bg_val_acc: None,
        }
    }
}
