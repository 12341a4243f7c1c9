//! From the text of pipeline.yaml to a checked [`Study`], or to every error in it at once.

mod document;
mod errors;
mod executors;
mod overrides;
mod policy;
mod recover;
mod results;
mod scalar;
mod store;
mod values;
mod yaml;

use std::path::{Path, PathBuf};
use std::{fs, io::Read};

use dissim_api::Device;

use crate::expand;
use crate::graph::Study;
use crate::registry::{self, Registry};

pub(crate) use document::{ANCHORS, LONGEST_NAME, STAGE_KEYS, TOP_KEYS};
pub(crate) use document::{Document, StageEntry};
pub use errors::{PipelineError, PipelineErrors, Place};
pub(crate) use errors::{suggest_or_list, suggestion};
pub(crate) use executors::KEYS as SLURM_KEYS;
pub(crate) use store::KEYS as STORE_KEYS;
pub(crate) use values::Values;
pub(crate) use yaml::{Data, Key, Node};

/// The largest file that is read: far above any study, far below what would fill the memory.
const LARGEST: u64 = 4 << 20;

/// What the command line says about a pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// `--profile`: in place of `default_profile`.
    pub profile: Option<String>,
    /// `--set NAME=VALUE`, in order.
    pub set: Vec<String>,
}

/// Reads, checks and expands a pipeline.
///
/// # Errors
/// Every error of the file and of the options, with places.
pub fn load(
    file: &Path,
    options: &LoadOptions,
    registry: &Registry,
) -> Result<Study, PipelineErrors> {
    let name = file.display().to_string();
    let text = read(file).map_err(|message| {
        let error = PipelineError::new(Place::Nowhere, message);
        PipelineErrors::new(name.clone(), String::new(), vec![error])
    })?;
    let mut errors = Vec::new();
    let study = parse(file, &text, options, registry, &mut errors);
    match study {
        Some(study) if errors.is_empty() => Ok(study),
        _ => Err(PipelineErrors::new(name, text, errors)),
    }
}

/// The names of a pipeline's profiles; none where the file cannot be read.
#[must_use]
pub fn profiles(file: &Path) -> Vec<String> {
    let root = read(file).ok().and_then(|text| yaml::parse(&text).ok());
    let document = root.map(|root| document::read(&root, &mut Vec::new())).unwrap_or_default();
    document.profiles.into_iter().map(|(key, _)| key.name).collect()
}

fn read(file: &Path) -> Result<String, String> {
    let opened = fs::File::open(file).map_err(|e| format!("cannot read the file: {e}"))?;
    let mut bytes = Vec::new();
    let limit = opened.take(LARGEST + 1).read_to_end(&mut bytes);
    limit.map_err(|e| format!("cannot read the file: {e}"))?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("the file is larger than {} MB", LARGEST >> 20));
    }
    String::from_utf8(bytes).map_err(|e| {
        let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()]
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        format!("the file is not UTF-8 text, from line {line} on")
    })
}

fn parse(
    file: &Path,
    text: &str,
    options: &LoadOptions,
    registry: &Registry,
    errors: &mut Vec<PipelineError>,
) -> Option<Study> {
    let mut ambiguous = Vec::new();
    let mut root = match yaml::read(text, &mut ambiguous) {
        Ok(root) => root,
        Err(error) => {
            errors.extend(recover::errors(text, error));
            return None;
        }
    };
    let set = overrides::apply(&mut root, options.profile.as_deref(), &options.set, &mut ambiguous);
    let study = study(file, &root, set, registry, errors);
    // An error that another one has caused has the same place.
    errors.retain(|error| {
        ambiguous.iter().all(|first| first.place != error.place || first.place == Place::Nowhere)
    });
    errors.extend(ambiguous);
    study
}

/// The study that a tree describes.
fn study(
    file: &Path,
    root: &Node,
    in_force: overrides::InForce,
    registry: &Registry,
    errors: &mut Vec<PipelineError>,
) -> Option<Study> {
    let document = document::read(root, errors);
    let values = Values::new(&in_force.parameters, errors);
    let (backend, device) = compute(&document, errors);
    let columns = registry.result_columns();
    let claims = results::read(
        document.claims.as_ref(),
        "id",
        &values,
        &columns,
        |claim| registry::check_claim(claim, &columns),
        errors,
    );
    let tables = results::read(
        document.tables.as_ref(),
        "name",
        &values,
        &columns,
        |table| registry::check_table(table, &columns),
        errors,
    );
    let remote = document.store.as_ref().and_then(|node| store::read(node, &values, errors));
    let slurm = document.executors.as_ref().and_then(|node| executors::read(node, &values, errors));
    let root = root_of(file);
    let (stages, tasks) = expand::expand(&document, &values, registry, &root, errors)?;
    Some(Study {
        name: document.name,
        file: file.to_path_buf(),
        root,
        profile: in_force.profile,
        warnings: in_force.warnings,
        backend,
        device,
        claims,
        tables,
        remote,
        slurm,
        stages,
        tasks,
    })
}

/// The backend and the device; `flex` on the CPU where the file names none.
fn compute(document: &Document, errors: &mut Vec<PipelineError>) -> (String, Device) {
    let mut device = Device::default();
    if let Some((text, place)) = &document.device {
        match text.parse() {
            Ok(parsed) => device = parsed,
            Err(message) => errors.push(PipelineError::new(place.clone(), message)),
        }
    }
    let mut name = registry::BACKENDS[0];
    if let Some((backend, place)) = &document.backend {
        name = backend;
        if !registry::BACKENDS.contains(&name) {
            let message = format!("no backend `{name}`");
            let help = suggest_or_list(name, &registry::BACKENDS);
            errors.push(PipelineError::new(place.clone(), message).help(help));
        } else if !registry::BUILT_BACKENDS.contains(&name) {
            let message = format!("this build has no backend `{name}`");
            let help = registry::HOW_TO_BUILD_BACKENDS;
            errors.push(PipelineError::new(place.clone(), message).help(help));
        }
    }
    // Whether the machine has that GPU is not asked: a task may run on another.
    if let Some((_, place)) = document.device.as_ref().filter(|_| !device.is_cpu())
        && name == "flex"
    {
        let message = format!("backend `flex` has no device `{device}`");
        let help = "write `backend: tch` for a GPU, or leave `device` out";
        errors.push(PipelineError::new(place.clone(), message).help(help));
    }
    (name.to_owned(), device)
}

/// A number that is written as in the file.
pub(crate) fn number(text: &str) -> Option<serde_json::Value> {
    match scalar::read(text) {
        Ok(data @ (Data::Int(_) | Data::Float(_))) => Some(Node::new(data, Place::Nowhere).json()),
        _ => None,
    }
}

/// The folder of the file, absolute where the system can tell.
pub(crate) fn root_of(file: &Path) -> PathBuf {
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf())
}

#[cfg(test)]
mod tests;
