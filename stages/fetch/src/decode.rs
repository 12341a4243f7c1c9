//! From the files in a folder to pixels and labels.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use dissim_api::formats::ImageSet;
use dissim_api::{IoContext, StageError};
use flate2::bufread::MultiGzDecoder;

use crate::facts::{Facts, Form, Half};
use crate::{cifar, idx};

/// Batches that CIFAR-10's training half comes in.
const BATCHES: usize = 5;

/// Reads the training and the test half from `folder`; `done` hears how many images are read.
///
/// # Errors
/// The file that is missing or wrong, and what is wrong with it.
pub(crate) fn decode(
    facts: &Facts,
    folder: &Path,
    done: &mut dyn FnMut(usize),
) -> Result<(ImageSet, ImageSet), StageError> {
    match facts.form {
        Form::Idx => {
            let train = idx_half(folder, "train", facts.train)?;
            done(train.len());
            let test = idx_half(folder, "t10k", facts.test)?;
            done(train.len() + test.len());
            Ok((train, test))
        }
        Form::Cifar => {
            let batch = facts.train.images / BATCHES;
            let names: Vec<String> = (1..=BATCHES).map(|i| format!("data_batch_{i}")).collect();
            let train = cifar_half(folder, "train", &names, batch, done)?;
            let mut after = |images: usize| done(train.len() + images);
            let names = ["test_batch".to_owned()];
            let test = cifar_half(folder, "test", &names, facts.test.images, &mut after)?;
            Ok((train, test))
        }
    }
}

fn idx_half(folder: &Path, stem: &str, half: Half) -> Result<ImageSet, StageError> {
    let read = |name: String, sizes: &[usize]| {
        let (path, file) = open(folder, &name)?;
        idx::read(file, sizes).map_err(|e| StageError::new(e).at(path))
    };
    let item = Form::Idx.item();
    let images = read(format!("{stem}-images-idx3-ubyte"), &[half.images, item[0], item[1]])?;
    let labels = read(format!("{stem}-labels-idx1-ubyte"), &[half.images])?;
    Ok(ImageSet { item: item.to_vec(), images, labels })
}

/// Reads batches of `n` images each: all binary, or all PNG.
fn cifar_half(
    folder: &Path,
    half: &str,
    names: &[String],
    n: usize,
    done: &mut dyn FnMut(usize),
) -> Result<ImageSet, StageError> {
    let item = Form::Cifar.item();
    let mut images = Vec::with_capacity(names.len() * n * item.iter().product::<usize>());
    let mut labels = Vec::new();
    let binary = folder.join(format!("{}.bin", names[0])).is_file();
    for (i, name) in names.iter().enumerate() {
        let extension = if binary { "bin" } else { "png" };
        let path = folder.join(format!("{name}.{extension}"));
        let file = BufReader::new(File::open(&path).or_fail("cannot read", &path)?);
        let read = if binary {
            cifar::read_binary(file, n, &mut images, &mut labels)
        } else {
            cifar::read_png(file, n, &mut images)
        };
        read.map_err(|e| StageError::new(e).at(path))?;
        done((i + 1) * n);
    }
    if !binary {
        // The package spells it so.
        let path = folder.join(format!("{half}_lables.json"));
        let file = File::open(&path).or_fail("cannot read", &path)?;
        labels =
            cifar::read_labels(file, names.len() * n).map_err(|e| StageError::new(e).at(path))?;
    }
    Ok(ImageSet { item: item.to_vec(), images, labels })
}

/// Opens a file, or its gzipped form.
fn open(folder: &Path, name: &str) -> Result<(PathBuf, Box<dyn Read>), StageError> {
    let plain = folder.join(name);
    if plain.is_file() {
        let file = BufReader::new(File::open(&plain).or_fail("cannot read", &plain)?);
        return Ok((plain, Box::new(file)));
    }
    let gzipped = folder.join(format!("{name}.gz"));
    if gzipped.is_file() {
        let file = BufReader::new(File::open(&gzipped).or_fail("cannot read", &gzipped)?);
        return Ok((gzipped, Box::new(MultiGzDecoder::new(file))));
    }
    Err(StageError::new(format!("no {name} or {name}.gz")).at(folder))
}

/// Compares what was read with what is pinned.
///
/// # Errors
/// When pixels or labels are not those of the data set.
pub(crate) fn verify(facts: &Facts, train: &ImageSet, test: &ImageSet) -> Result<(), StageError> {
    for (name, set, pinned) in [("training", train, facts.train), ("test", test, facts.test)] {
        let found = set.digest();
        if found != pinned.digest {
            return Err(StageError::new(format!(
                "pixels or labels of the {name} half are not those of {}: digest {found}, \
                 expected {}",
                facts.name, pinned.digest
            )));
        }
    }
    Ok(())
}
