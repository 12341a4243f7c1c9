//! Stage kind `dataset`: digits on photographs, drawn so that the background gives the label away.
//!
//! ```text
//! digits, backgrounds -> pools of photographs (backgrounds.rs)
//!                     -> which digit on which, a split at a time (splits.rs)
//!                     -> layers on disk, and samples.png (samples.rs)
//! ```
//!
//! Every random choice comes from `draw`, whose bytes never change.

mod backgrounds;
mod draw;
mod params;
mod samples;
mod splits;

pub use params::{BackgroundPolicy, DatasetParams, OodSource, Placement};

use std::path::Path;

use dissim_api::formats::{
    Dataset, DatasetInfo, GLYPH_SIDE, Glyphs, ImageSet, Pool, SIDE, SplitName,
};
use dissim_api::{Code, Context, Input, ParamError, Params, Stage, StageError};
use serde_json::Value;

use backgrounds::Backgrounds;

/// The stage kind `dataset`.
#[derive(Debug, Clone, Copy, Default)]
pub struct DatasetStage;

impl Stage for DatasetStage {
    fn kind(&self) -> &'static str {
        "dataset"
    }

    fn summary(&self) -> &'static str {
        "Lays digits on photographs so that in training the background gives the label away."
    }

    fn code(&self) -> Code {
        dissim_api::code!()
    }

    fn inputs(&self) -> &'static [Input] {
        const { &[Input::one("digits"), Input::one("backgrounds")] }
    }

    fn schema(&self) -> Value {
        dissim_api::schema::<DatasetParams>()
    }

    fn resolve(&self, given: &Params) -> Result<Params, Vec<ParamError>> {
        params::resolve(given)
    }

    fn run(&self, context: &mut Context) -> Result<(), StageError> {
        let params: DatasetParams = context.params()?;
        let digits = read_halves(context.input("digits")?, &[GLYPH_SIDE, GLYPH_SIDE], "glyphs")?;
        let photographs =
            read_halves(context.input("backgrounds")?, &[3, SIDE, SIDE], "colour images")?;
        let raw = context.raw_params().clone();
        let (dataset, duplicates) = build(&params, raw, digits, &photographs)?;
        for name in SplitName::ALL {
            context.metric(&format!("n_{}", name.as_str()), dataset.split(name).len() as f64);
        }
        for (name, pool) in [
            ("train_backgrounds", Pool::Train),
            ("val_backgrounds", Pool::Validation),
            ("ood_backgrounds", Pool::Ood),
        ] {
            let n = dataset.backgrounds.iter().filter(|b| b.pool == pool).count();
            context.metric(name, n as f64);
        }
        context.metric("duplicate_backgrounds", duplicates as f64);
        dataset.write(context.output())?;
        samples::write(&dataset, &context.output().join("samples.png"))
    }
}

/// The training and test halves that `fetch` left in `folder`.
fn read_halves(
    folder: &Path,
    item: &[usize],
    what: &str,
) -> Result<(ImageSet, ImageSet), StageError> {
    let read = |file: &str| {
        ImageSet::read(&folder.join(file), item)
            .map_err(|e| e.help(format!("this input must be a data set of {what} {item:?}")))
    };
    let halves = (read("train.safetensors")?, read("test.safetensors")?);
    for set in [&halves.0, &halves.1] {
        if let Some(label) = set.labels.iter().find(|&&l| usize::from(l) >= params::LABELS) {
            return Err(
                StageError::new(format!("a label is {label}, and must be 0 to 9")).at(folder)
            );
        }
    }
    Ok(halves)
}

/// Draws and assembles the data set; also tells how many duplicate photographs it left out.
fn build(
    params: &DatasetParams,
    raw: Params,
    (train_glyphs, test_glyphs): (Glyphs, Glyphs),
    (train, test): &(ImageSet, ImageSet),
) -> Result<(Dataset, usize), StageError> {
    let backgrounds = Backgrounds::draw(params, train, test)?;
    let splits = splits::draw(params, &train_glyphs, &test_glyphs, &backgrounds)?;
    let size = |name: SplitName| (name.as_str().to_owned(), splits[name as usize].len());
    let info = DatasetInfo {
        version: Dataset::VERSION,
        params: raw,
        compose: params.compose,
        digit_colour: params.digit_colour,
        sizes: SplitName::ALL.map(size).into(),
    };
    let dataset = Dataset {
        info,
        train_glyphs,
        test_glyphs,
        background_pixels: backgrounds.pixels,
        backgrounds: backgrounds.list,
        splits,
    };
    Ok((dataset, backgrounds.duplicates))
}

#[cfg(test)]
mod tests;
