//! Images a second of one measurement of training, for `compare.py` to set against PyTorch and
//! `cost.py` to tell what each part brings: `throughput PASS BATCH SECONDS [ENGINE]` prints one number.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dissim_api::Device;
use dissim_kernel::{Input, Network, Optimiser, OutputGradient, PIXELS, Rule, layout};
use dissim_model::{Architecture, Backend, Engine, engine};
use dissim_train::methods::{Batch, Clock, Dissimilarity, Erm, Objective};

/// Images to draw batches from: more than the caches hold, as in training.
const IMAGES: usize = 20_000;

/// What is measured.
#[derive(Clone, Copy)]
enum Pass {
    Erm,
    Dissimilarity,
    Predict,
}

/// One measurement.
struct Measurement {
    pass: Pass,
    batch: usize,
    duration: Duration,
    engine: String,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(measurement) = parse(&arguments) else {
        eprintln!("usage: throughput erm|dissimilarity|predict BATCH SECONDS [ENGINE]");
        eprintln!("ENGINE is fused, scalar, flex (plain burn) or tch (burn on libtorch)");
        return ExitCode::from(2);
    };
    match network(&measurement) {
        Ok(network) => {
            println!("{:.1}", images_per_second(&measurement, network));
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

fn parse(arguments: &[String]) -> Option<Measurement> {
    let (pass, batch, seconds, engine) = match arguments {
        [pass, batch, seconds] => (pass, batch, seconds, "fused"),
        [pass, batch, seconds, engine] => (pass, batch, seconds, engine.as_str()),
        _ => return None,
    };
    let pass = match pass.as_str() {
        "erm" => Pass::Erm,
        "dissimilarity" => Pass::Dissimilarity,
        "predict" => Pass::Predict,
        _ => return None,
    };
    let batch = batch.parse().ok().filter(|n| (1..=4096).contains(n))?;
    let duration = Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?;
    Some(Measurement { pass, batch, duration, engine: engine.to_owned() })
}

/// The network on the engine that is asked for.
fn network(measurement: &Measurement) -> Result<Box<dyn Engine>, String> {
    let wave = |i: usize| ((i * 7919 % 1009) as f32 / 1009.0 - 0.5) * 0.1;
    let weights: Vec<f32> = (0..layout::WEIGHTS).map(wave).collect();
    let network: Box<dyn Engine> = match measurement.engine.as_str() {
        "fused" => engine::fused(&weights, measurement.batch),
        "scalar" => Box::new(Network::scalar(&weights, measurement.batch)),
        name => {
            let backend = Backend::open(name, Device::Cpu).map_err(|e| e.to_string())?;
            engine::plain(Architecture::default(), &weights, backend.device())
        }
    };
    Ok(network)
}

/// Steps over batches of a random-looking order until the time is up; the first few are not counted.
fn images_per_second(measurement: &Measurement, mut network: Box<dyn Engine>) -> f64 {
    let Measurement { pass, batch, duration, .. } = *measurement;
    let images: Vec<u8> = (0..IMAGES * PIXELS).map(|i| (i * 31 % 251) as u8).collect();
    let labels: Vec<u8> = (0..batch).map(|i| (i % 10) as u8).collect();
    let groups: Vec<u32> = (0..batch as u32).map(|i| i % 80).collect();
    let params = serde_json::json!({"method": "dissimilarity", "lambda": 1.25});
    let params = serde_json::from_value(params).expect("parameters of a training run");
    let mut objective: Box<dyn Objective> = match pass {
        Pass::Dissimilarity => Box::new(Dissimilarity::new(&params)),
        Pass::Erm | Pass::Predict => Box::new(Erm::default()),
    };
    let clock = Clock { epoch: 1, epochs: 1, step: 0, steps: 1 };
    let mut adam = Optimiser::new(Rule::Adam, 0.001, layout::WEIGHTS);
    let mut gradient = OutputGradient::default();
    let mut at = 0;
    let mut step = || {
        let rows: Vec<u32> = (0..batch).map(|i| ((at + i) * 7919 % IMAGES) as u32).collect();
        at += batch;
        if let Pass::Predict = pass {
            black_box(network.predict(&images, &rows).logits(0));
        } else {
            let outputs = network.forward(Input { images: &images, rows: &rows, mix: None });
            gradient.reset(batch, outputs.width);
            let (images, rows, labels) = (&images[..], &rows[..], &labels[..]);
            let groups = &groups[..];
            let batch =
                Batch { images, rows, labels, backgrounds: groups, groups, mixed: None, clock };
            objective.evaluate(&batch, outputs, &mut gradient);
            network.backward(&gradient);
            network.update(&mut adam);
        }
    };
    (0..10).for_each(|_| step());
    let start = Instant::now();
    let mut steps = 0;
    while steps == 0 || start.elapsed() < duration {
        step();
        steps += 1;
    }
    (steps * batch) as f64 / start.elapsed().as_secs_f64()
}
