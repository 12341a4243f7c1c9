//! The parts of pipeline.yaml, checked for shape: names, types, known keys.

use std::collections::HashMap;

use super::errors::{PipelineError, Place, suggest_or_list};
use super::policy;
use super::values::Values;
use super::yaml::{Data, Key, Node};
use crate::policy::Policy;

/// The file's parts, still with `${..}` in them.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub name: String,
    pub backend: Option<(String, Place)>,
    pub device: Option<(String, Place)>,
    pub default_profile: Option<(String, Place)>,
    pub params: Vec<(Key, Node)>,
    pub profiles: Vec<(Key, Node)>,
    pub stages: Vec<StageEntry>,
    pub claims: Option<(Key, Node)>,
    pub tables: Option<(Key, Node)>,
    pub store: Option<Node>,
    pub executors: Option<Node>,
}

/// An entry under `stages:`.
#[derive(Debug)]
pub(crate) struct StageEntry {
    pub key: Key,
    /// `None` if it could not be read.
    pub kind: Option<(String, Place)>,
    pub needs: Vec<NeedEntry>,
    /// `matrix:` as a grid without a name, or each of `sweeps:`.
    pub grids: Vec<Vec<(Key, Node)>>,
    pub with: Vec<(Key, Node)>,
    /// `retry:`, `timeout:` and `resources:`, still with `${..}` in them.
    pub how: Vec<(Key, Node)>,
    /// Whether something in it is wrong and has been reported.
    pub broken: bool,
}

impl StageEntry {
    /// How its tasks are run.
    pub fn policy(&self, values: &Values, errors: &mut Vec<PipelineError>) -> Policy {
        let mut policy = Policy::default();
        for (key, node) in &self.how {
            if let Some(node) = values.filled(node, errors) {
                policy::read(key, &node, &mut policy, errors);
            }
        }
        policy
    }
}

/// An input under `needs:` and what it refers to: a stage, or tasks of it.
#[derive(Debug)]
pub(crate) struct NeedEntry {
    pub input: Key,
    pub refers: Vec<(String, Place)>,
}

/// The keys of the file: name, meaning, whether it is required.
pub(crate) const TOP_KEYS: &[(&str, &str, bool)] = &[
    ("version", "The version of this format: 1.", true),
    ("name", "The study's name.", true),
    ("default_profile", "The profile in use where `--profile` names none.", false),
    (
        "backend",
        "What computes: `flex`, the default, or `tch`, burn on libtorch, in a build with the feature `tch`.",
        false,
    ),
    ("device", "What `tch` computes on: `cpu`, the default, or `cuda:N`.", false),
    ("params", "Values that `${name}` refers to.", false),
    (
        "profiles",
        "Values that replace those of `params`, or others by their path (`stages.train.with.epochs: 1`), by the name of the profile.",
        false,
    ),
    ("stages", "The stages by name, in any order.", true),
    ("claims", "What the study asserts; judged by the report.", false),
    ("tables", "Tables of the results, written by the report.", false),
    (
        "executors",
        "How tasks are run elsewhere: `{ slurm: { partition: gpu } }`, for `dissim run --executor slurm`. Not part of any key.",
        false,
    ),
    (
        "store",
        "A store that a group shares: `{ remote: s3://bucket/folder, mode: readwrite }`. Not part of any key.",
        false,
    ),
];
/// Keys at the top that begin with this are for anchors, and are not read.
pub(crate) const ANCHORS: &str = "x-";
/// The most characters in the name of a stage, an input or an axis: names become names of files and variables.
pub(crate) const LONGEST_NAME: usize = 100;
/// The keys of a stage: name, meaning, whether it is required.
pub(crate) const STAGE_KEYS: &[(&str, &str, bool)] = &[
    ("kind", "What the stage does.", true),
    (
        "needs",
        "Where its inputs come from: the stage, or tasks of it, by the name of the input.",
        false,
    ),
    ("matrix", "Axes and their values: a task for every combination.", false),
    ("sweeps", "Several matrices by name, in place of one.", false),
    ("with", "Parameters, by the stage's kind.", false),
    (
        "retry",
        "How often a failed task is tried again: `2`, or `{ times: 2, wait: 10s }`; the wait doubles each time. Not part of the key.",
        false,
    ),
    (
        "timeout",
        "How long a task may take before it is ended: `90s`, `30m`, `2h`. Not part of the key.",
        false,
    ),
    (
        "grace",
        "How long a task may take to react to SIGTERM, at a timeout or Ctrl-C, before it is killed: `30s`; 10 s by default. Not part of the key.",
        false,
    ),
    (
        "resources",
        "What a task takes of the machine: `{ cpus: 2, memory: 4GB }`; one core by default. A cluster is told `gres` and `partition` too. Not part of the key.",
        false,
    ),
];

/// Reads the parts; what is wrong goes to `errors`, and the rest is read all the same.
pub(crate) fn read(root: &Node, errors: &mut Vec<PipelineError>) -> Document {
    let mut reader = Reader { errors };
    let mut document = Document::default();
    if !matches!(root.data, Data::Map(_)) {
        let what = match root.data {
            Data::Null => "the file is empty".to_owned(),
            _ => format!("a pipeline is a map, and this is {}", root.kind()),
        };
        let help = "begin with `version: 1`, `name: my-study` and `stages:`";
        reader.errors.push(PipelineError::new(root.place.clone(), what).help(help));
        return document;
    }
    let mut seen_version = false;
    for (key, node) in root.entries() {
        match key.name.as_str() {
            "version" => {
                seen_version = true;
                if node.data != Data::Int(1) {
                    reader.error(&node.place, "`version` must be 1, the only version there is");
                }
            }
            "name" => document.name = reader.text(key, node).unwrap_or_default(),
            "default_profile" => {
                document.default_profile = reader.text(key, node).map(|t| (t, node.place.clone()));
            }
            "backend" => document.backend = reader.text(key, node).map(|t| (t, node.place.clone())),
            "device" => document.device = reader.text(key, node).map(|t| (t, node.place.clone())),
            "params" => document.params = reader.map(key, node),
            "profiles" => document.profiles = reader.map(key, node),
            "claims" => document.claims = Some((key.clone(), node.clone())),
            "tables" => document.tables = Some((key.clone(), node.clone())),
            "executors" => document.executors = Some(node.clone()),
            "store" => document.store = Some(node.clone()),
            "stages" => {
                for (key, node) in reader.map(key, node) {
                    document.stages.push(reader.stage(&key, &node));
                }
            }
            name if name.starts_with(ANCHORS) => {}
            _ => reader.unknown(key, TOP_KEYS, "pipeline.yaml"),
        }
    }
    if !seen_version {
        let help = "write `version: 1` at the top";
        let error = PipelineError::new(Place::Nowhere, "`version` is missing").help(help);
        reader.errors.push(error);
    }
    if document.name.is_empty() && root.get("name").is_none() {
        let help = "write `name: my-study` at the top";
        let error = PipelineError::new(Place::Nowhere, "`name` is missing").help(help);
        reader.errors.push(error);
    }
    match root.get("stages").map(|node| (node, &node.data)) {
        None => reader.error(&Place::Nowhere, "`stages` is missing: there is nothing to run"),
        Some((node, Data::Null)) => {
            reader.error(&node.place, "`stages` is empty: there is nothing to run");
        }
        Some((node, Data::Map(entries))) if entries.is_empty() => {
            reader.error(&node.place, "`stages` is empty: there is nothing to run");
        }
        Some(_) => {}
    }
    document
}

struct Reader<'a> {
    errors: &'a mut Vec<PipelineError>,
}

impl Reader<'_> {
    fn error(&mut self, place: &Place, message: impl Into<String>) {
        self.errors.push(PipelineError::new(place.clone(), message));
    }

    fn unknown(&mut self, key: &Key, known: &[(&str, &str, bool)], of: &str) {
        let known: Vec<&str> = known.iter().map(|(name, ..)| *name).collect();
        let message = format!("unknown key `{}` in {of}", key.name);
        let help = match key.name.as_str() {
            "exclude" | "include" | "when" | "if" => {
                "there are no conditions: list the combinations that you want as grids under `sweeps`"
                    .to_owned()
            }
            name => suggest_or_list(name, &known),
        };
        self.errors.push(PipelineError::new(key.place.clone(), message).help(help));
    }

    fn text(&mut self, key: &Key, node: &Node) -> Option<String> {
        let text = node.text().filter(|t| !t.trim().is_empty());
        if text.is_none() {
            let kind = if node.text().is_some() { "empty" } else { node.kind() };
            self.error(&node.place, format!("`{}` must be text, and is {kind}", key.name));
        }
        text.map(str::to_owned)
    }

    fn map(&mut self, key: &Key, node: &Node) -> Vec<(Key, Node)> {
        match &node.data {
            Data::Map(entries) => entries.clone(),
            Data::Null => Vec::new(),
            _ => {
                let message = format!("`{}` must be a map, and is {}", key.name, node.kind());
                let error = PipelineError::new(node.place.clone(), message);
                self.errors.push(match shape(&key.name) {
                    Some(shape) => error.help(format!("write it as `{shape}`")),
                    None => error,
                });
                Vec::new()
            }
        }
    }

    fn stage(&mut self, key: &Key, node: &Node) -> StageEntry {
        let before = self.errors.len();
        let name = &key.name;
        let starts_with_letter = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let is_good = starts_with_letter && is_name(name, "_-");
        if !is_good {
            let help = format!(
                "use at most {LONGEST_NAME} letters (a to z), digits, `_` and `-`, starting with a letter"
            );
            let message = format!("{} is not a name for a stage", shown(name));
            self.errors.push(PipelineError::new(key.place.clone(), message).help(help));
        }
        let of = format!("stage `{name}`");
        let entries = self.map(key, node);
        let (mut kind, mut needs, mut with) = (None, Vec::new(), Vec::new());
        let (mut matrix, mut sweeps) = (None, None);
        let mut how = Vec::new();
        for (part, node) in &entries {
            match part.name.as_str() {
                "kind" => kind = self.text(part, node).map(|t| (t, node.place.clone())),
                "needs" => {
                    let inputs = self.map(part, node);
                    self.distinct_variables(
                        "inputs",
                        "DISSIM_INPUT_",
                        inputs.iter().map(|(key, _)| key),
                    );
                    for (input, node) in inputs {
                        if self.is_name(&input, "an input", "_-") {
                            needs.extend(self.need(input, &node));
                        }
                    }
                }
                "matrix" => matrix = Some((part, self.axes(part, node))),
                "sweeps" => sweeps = Some(self.sweeps(part, node)),
                "with" => with = self.map(part, node),
                name if policy::KEYS.contains(&name) => how.push((part.clone(), node.clone())),
                _ => self.unknown(part, STAGE_KEYS, &of),
            }
        }
        if let (Some((part, _)), Some(_)) = (&matrix, &sweeps) {
            let message = format!("{of} has `matrix` and `sweeps`; it can have one of them");
            self.error(&part.place, message);
        }
        let is_map = matches!(node.data, Data::Map(_) | Data::Null);
        if is_map && !entries.iter().any(|(part, _)| part.name == "kind") {
            self.error(&key.place, format!("{of} has no `kind`"));
        }
        let grids = match (matrix, sweeps) {
            (Some((_, grid)), None) => vec![grid],
            (None, Some(grids)) => grids,
            _ => vec![Vec::new()],
        };
        let axes = grids.iter().flatten().map(|(key, _)| key);
        self.distinct_variables("axes", "DISSIM_MATRIX_", axes);
        let broken = self.errors.len() > before || matches!(node.data, Data::Broken);
        StageEntry { key: key.clone(), kind, needs, grids, with, how, broken }
    }

    fn sweeps(&mut self, key: &Key, node: &Node) -> Vec<Vec<(Key, Node)>> {
        let sweeps = self.map(key, node);
        if sweeps.is_empty() {
            self.error(&key.place, "`sweeps` is empty: the stage would have no tasks");
        }
        sweeps.iter().map(|(name, grid)| self.axes(name, grid)).collect()
    }

    /// The axes of a grid whose names are good.
    fn axes(&mut self, key: &Key, node: &Node) -> Vec<(Key, Node)> {
        let mut axes = self.map(key, node);
        axes.retain(|(axis, _)| self.is_name(axis, "an axis", "_-."));
        axes
    }

    /// Whether a name can be that of a file and, in capitals, of an environment variable.
    fn is_name(&mut self, key: &Key, of: &str, marks: &str) -> bool {
        let is_good = is_name(&key.name, marks);
        if !is_good {
            let message = format!("{} is not a name for {of}", shown(&key.name));
            let marks: Vec<_> = marks.chars().map(|c| format!("`{c}`")).collect();
            let help = format!(
                "use at most {LONGEST_NAME} letters (a to z), digits and {}, starting with a letter, a digit or `_`",
                marks.join(" ")
            );
            self.errors.push(PipelineError::new(key.place.clone(), message).help(help));
        }
        is_good
    }

    /// Two names that are one environment variable would hide each other from a program.
    fn distinct_variables<'k>(
        &mut self,
        what: &str,
        prefix: &str,
        keys: impl Iterator<Item = &'k Key>,
    ) {
        let mut variables: HashMap<String, &str> = HashMap::new();
        for key in keys {
            let capital =
                |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
            let variable: String = prefix.chars().chain(key.name.chars().map(capital)).collect();
            let other = *variables.entry(variable.clone()).or_insert(&key.name);
            if other != key.name {
                let message = format!(
                    "the {what} `{other}` and `{}` have the same environment variable, `{variable}`",
                    key.name
                );
                let error = PipelineError::new(key.place.clone(), message);
                self.errors.push(error.help("rename one of them"));
            }
        }
    }

    fn need(&mut self, input: Key, node: &Node) -> Option<NeedEntry> {
        let items = match &node.data {
            Data::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let mut refers = Vec::new();
        for item in items {
            match item.text() {
                Some(text) => refers.push((text.to_owned(), item.place.clone())),
                None => {
                    let message =
                        format!("`{}` must name a stage, and is {}", input.name, item.kind());
                    self.error(&item.place, message);
                }
            }
        }
        (!refers.is_empty()).then_some(NeedEntry { input, refers })
    }
}

/// Letters, digits and `marks`, at most [`LONGEST_NAME`] of them, starting with a letter, a digit or `_`.
fn is_name(name: &str, marks: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
}

/// A name in a message: in backticks, and cut where it is long.
fn shown(name: &str) -> String {
    match name.chars().count() {
        0 => "the empty text".to_owned(),
        1..=LONGEST_NAME => format!("`{}`", name.escape_debug()),
        count => {
            let start: String = name.chars().take(20).collect();
            format!("`{}...` ({count} characters)", start.escape_debug())
        }
    }
}

/// How a map of that name is written.
fn shape(name: &str) -> Option<&'static str> {
    Some(match name {
        "needs" => "needs: { input: stage }",
        "matrix" => "matrix: { axis: [value, ..] }",
        "sweeps" => "sweeps: { name: { axis: [value, ..] } }",
        "with" => "with: { parameter: value }",
        "params" => "params: { name: value }",
        "profiles" => "profiles: { name: { parameter: value } }",
        "stages" => "stages: { name: { kind: .. } }",
        _ => return None,
    })
}
