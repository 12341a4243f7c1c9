//! From stages to tasks: grids, joins on shared axes, and equal tasks made one.

mod grid;
mod join;
mod order;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use dissim_api::{Arity, Params, Stage};
use serde_json::Value;

use crate::graph::{Need, StageId, StageNode, Task, TaskId};
use crate::parse::{
    Document, PipelineError, Place, StageEntry, Values, suggest_or_list, suggestion,
};
use crate::registry::Registry;
use join::{Binding, Upstream};

/// Axes of a task in order.
pub(crate) type Axes = Vec<(String, Value)>;

/// Expands every stage; none, with errors, where something is wrong.
pub(crate) fn expand(
    document: &Document,
    values: &Values,
    registry: &Registry,
    root: &Path,
    errors: &mut Vec<PipelineError>,
) -> Option<(Vec<StageNode>, Vec<Task>)> {
    let before = errors.len();
    let kinds = kinds(document, registry, errors);
    let order = order::order(document, errors);
    if errors.len() > before {
        // Parameters can be checked without tasks, so that their errors are not held back.
        for (entry, stage) in document.stages.iter().zip(&kinds) {
            if let Some(stage) = stage {
                check_parameters(entry, stage.as_ref(), values, errors);
                let _ = entry.policy(values, errors);
                let _ = grid::combinations(entry, values, errors);
            }
        }
        return None;
    }
    let mut expansion = Expansion { stages: Vec::new(), tasks: Vec::new(), ids: HashMap::new() };
    for index in order {
        let (entry, stage) = (&document.stages[index], kinds[index].clone()?);
        expansion.stage(entry, stage, values, root, errors);
    }
    (errors.len() == before).then_some((expansion.stages, expansion.tasks))
}

/// The kind of every stage, and the inputs that its kind does or does not have.
fn kinds(
    document: &Document,
    registry: &Registry,
    errors: &mut Vec<PipelineError>,
) -> Vec<Option<Arc<dyn Stage>>> {
    let mut found = Vec::new();
    for entry in &document.stages {
        let (kind, place) = &entry.kind;
        let stage = registry.get(kind).cloned();
        match &stage {
            Some(stage) => check_inputs(entry, stage.as_ref(), errors),
            None => {
                let kinds: Vec<_> = registry.kinds().collect();
                let error = PipelineError::new(place.clone(), format!("no stage kind `{kind}`"));
                errors.push(error.help(suggest_or_list(kind, &kinds)));
            }
        }
        found.push(stage);
    }
    found
}

fn check_inputs(entry: &StageEntry, stage: &dyn Stage, errors: &mut Vec<PipelineError>) {
    let (name, kind) = (&entry.key.name, stage.kind());
    for input in stage.inputs().iter().filter(|input| input.required) {
        if !entry.needs.iter().any(|need| need.input.name == input.name) {
            let message =
                format!("stage `{name}` does not say where its `{}` comes from", input.name);
            let help = format!("add `needs: {{ {}: .. }}`", input.name);
            errors.push(PipelineError::new(entry.key.place.clone(), message).help(help));
        }
    }
    if stage.traits().open_inputs {
        return;
    }
    let known: Vec<_> = stage.inputs().iter().map(|input| input.name).collect();
    for need in entry.needs.iter().filter(|need| !known.contains(&need.input.name.as_str())) {
        let written = &need.input.name;
        let message = format!("kind `{kind}` has no input `{written}`");
        let help = suggest_or_list(written, &known);
        errors.push(PipelineError::new(need.input.place.clone(), message).help(help));
    }
}

/// Resolves `with` alone; only errors about parameters that it names are kept.
fn check_parameters(
    entry: &StageEntry,
    stage: &dyn Stage,
    values: &Values,
    errors: &mut Vec<PipelineError>,
) {
    if let Some(with) = with(entry, values, errors)
        && let Err(found) = stage.resolve(&with)
    {
        let known = properties(stage);
        for error in found {
            let place = error.name.as_deref().and_then(|n| place_of(entry, n, &known));
            if let Some(place) = place {
                errors.push(parameter_error(place, &error, &known));
            }
        }
    }
}

fn with(entry: &StageEntry, values: &Values, errors: &mut Vec<PipelineError>) -> Option<Params> {
    let pairs: Vec<_> = entry
        .with
        .iter()
        .map(|(key, node)| Some((key.name.clone(), values.value(node, errors)?)))
        .collect();
    pairs.into_iter().collect()
}

/// The names of a kind's parameters.
fn properties(stage: &dyn Stage) -> BTreeSet<String> {
    let schema = stage.schema();
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.map(|p| p.keys().cloned().collect()).unwrap_or_default()
}

/// Where a parameter is written: under `with`, or as an axis. Its value, or its name where that is
/// what is wrong.
fn place_of(entry: &StageEntry, name: &str, known: &BTreeSet<String>) -> Option<Place> {
    let axes = entry.grids.iter().flatten();
    let mut written = entry.with.iter().chain(axes);
    let (key, node) = written.find(|(key, _)| key.name == name)?;
    let of_name = !known.contains(name) || matches!(node.place, Place::Nowhere);
    Some(if of_name { key.place.clone() } else { node.place.clone() })
}

fn parameter_error(
    place: Place,
    error: &dissim_api::ParamError,
    known: &BTreeSet<String>,
) -> PipelineError {
    let built = PipelineError::new(place, error.message.clone());
    let unknown = error.name.as_ref().filter(|name| !known.contains(*name));
    match unknown.and_then(|name| suggestion(name, known.iter().map(String::as_str))) {
        Some(help) => built.help(help),
        None => built,
    }
}

struct Expansion {
    stages: Vec<StageNode>,
    tasks: Vec<Task>,
    ids: HashMap<String, StageId>,
}

impl Expansion {
    fn stage(
        &mut self,
        entry: &StageEntry,
        stage: Arc<dyn Stage>,
        values: &Values,
        root: &Path,
        errors: &mut Vec<PipelineError>,
    ) {
        let before = errors.len();
        let known = properties(stage.as_ref());
        let with = with(entry, values, errors);
        let combinations = grid::combinations(entry, values, errors);
        let needs = self.upstreams(entry, stage.as_ref(), errors);
        let first = self.tasks.len();
        if let (Some(with), Some(combinations)) = (with, combinations)
            && errors.len() == before
        {
            self.check_axes(entry, stage.as_ref(), &known, &needs, errors);
            let builder = Builder {
                entry,
                stage: stage.as_ref(),
                with: &with,
                known: &known,
                needs: &needs,
                root,
                inside: Inside::default(),
            };
            let built = builder.tasks(self, &combinations, self.stages.len(), errors);
            self.tasks.extend(built);
        }
        let mut needed: Vec<StageId> = Vec::new();
        for need in needs.iter().flat_map(|n| &n.upstreams) {
            if !needed.contains(&need.stage) {
                needed.push(need.stage);
            }
        }
        self.ids.insert(entry.key.name.clone(), self.stages.len());
        self.stages.push(StageNode {
            name: entry.key.name.clone(),
            stage,
            needs: needed,
            tasks: first..self.tasks.len(),
            policy: entry.policy(values, errors),
        });
    }

    /// What every input refers to, selected but not yet joined, in the order of the file.
    fn upstreams(
        &self,
        entry: &StageEntry,
        stage: &dyn Stage,
        errors: &mut Vec<PipelineError>,
    ) -> Vec<InputRefs> {
        let mut found = Vec::new();
        for need in &entry.needs {
            let declared = stage.inputs().iter().find(|i| i.name == need.input.name);
            let many = match declared {
                Some(input) => input.arity == Arity::Many,
                None => {
                    need.refers.iter().any(|(text, _)| text.contains('[')) || need.refers.len() > 1
                }
            };
            if !many && need.refers.len() > 1 {
                let message =
                    format!("input `{}` takes one task, and a list was given", need.input.name);
                errors.push(PipelineError::new(need.input.place.clone(), message));
            }
            let select = |(text, place): &(String, Place)| {
                join::select(text, &self.ids, &self.stages, &self.tasks)
                    .map_err(|error| PipelineError { place: place.clone(), ..error })
            };
            let mut upstreams = Vec::new();
            for refers in &need.refers {
                match select(refers) {
                    Ok(upstream) => upstreams.push(upstream),
                    Err(error) => errors.push(error),
                }
            }
            found.push(InputRefs {
                input: need.input.name.clone(),
                group: many.then(|| group(&upstreams)),
                upstreams,
            });
        }
        found
    }

    /// Every own axis is a parameter of the kind, or an axis of something it joins.
    fn check_axes(
        &self,
        entry: &StageEntry,
        stage: &dyn Stage,
        known: &BTreeSet<String>,
        needs: &[InputRefs],
        errors: &mut Vec<PipelineError>,
    ) {
        let (kind, open) = (stage.kind(), stage.traits().open_axes);
        let joined = needs.iter().filter(|n| n.group.is_none()).flat_map(|n| &n.upstreams);
        let upstream: BTreeSet<&str> = joined
            .flat_map(|u| &u.tasks)
            .flat_map(|&t| self.tasks[t].axes.iter().map(|(axis, _)| axis.as_str()))
            .collect();
        for (key, _) in entry.grids.iter().flatten() {
            let axis = key.name.as_str();
            if entry.with.iter().any(|(with, _)| with.name == axis) {
                let message = format!("`{axis}` is an axis and stands under `with` too");
                errors.push(PipelineError::new(key.place.clone(), message));
            }
            if !open && !known.contains(axis) && !upstream.contains(axis) {
                let message = format!(
                    "axis `{axis}` is neither a parameter of kind `{kind}` nor an axis of what it needs"
                );
                let names = known.iter().map(String::as_str).chain(upstream.iter().copied());
                let error = PipelineError::new(key.place.clone(), message);
                errors.push(match suggestion(axis, names) {
                    Some(help) => error.help(help),
                    None => error,
                });
            }
        }
    }
}

/// An input and the tasks it may draw from.
struct InputRefs {
    input: String,
    /// Of an input that takes many: all of them, once for all tasks of the stage.
    group: Option<Arc<[TaskId]>>,
    upstreams: Vec<Upstream>,
}

fn group(upstreams: &[Upstream]) -> Arc<[TaskId]> {
    let mut tasks: Vec<TaskId> = upstreams.iter().flat_map(|u| u.tasks.iter().copied()).collect();
    tasks.sort_unstable();
    tasks.dedup();
    tasks.into()
}

struct Builder<'a> {
    entry: &'a StageEntry,
    stage: &'a dyn Stage,
    with: &'a Params,
    known: &'a BTreeSet<String>,
    needs: &'a [InputRefs],
    root: &'a Path,
    inside: Inside,
}

impl Builder<'_> {
    fn tasks(
        &self,
        expansion: &Expansion,
        combinations: &[Axes],
        stage: StageId,
        errors: &mut Vec<PipelineError>,
    ) -> Vec<Task> {
        let mut built: Vec<Task> = Vec::new();
        let (mut by_identity, mut by_name) = (HashMap::new(), HashMap::new());
        let mut indexes = join::Indexes::default();
        for own in combinations {
            let mut bindings = vec![Binding::of(own)];
            for need in self.needs.iter().filter(|n| n.group.is_none()) {
                for (slot, upstream) in need.upstreams.iter().enumerate() {
                    let index = (need.input.as_str(), slot);
                    bindings =
                        indexes.join(index, bindings, upstream, &need.input, &expansion.tasks);
                }
            }
            if bindings.is_empty() {
                errors.push(self.no_match(own));
            }
            for binding in bindings {
                let Some(mut task) = self.task(stage, own, binding, errors) else { continue };
                let identity = identity(&task, self.needs);
                match by_identity.get(&identity) {
                    Some(&at) => {
                        let first: &mut Task = &mut built[at];
                        if first.name != task.name && !first.aliases.contains(&task.name) {
                            first.aliases.push(std::mem::take(&mut task.name));
                        }
                    }
                    None => {
                        if by_name.insert(task.name.clone(), built.len()).is_some() {
                            let message =
                                format!("two different tasks would be called `{}`", task.name);
                            errors.push(PipelineError::new(self.entry.key.place.clone(), message));
                        }
                        by_identity.insert(identity, built.len());
                        built.push(task);
                    }
                }
            }
        }
        // An alias that is another task's name means that task.
        for task in &mut built {
            task.aliases.retain(|alias| !by_name.contains_key(alias));
        }
        built
    }

    fn no_match(&self, own: &Axes) -> PipelineError {
        let name = &self.entry.key.name;
        let message = match own.as_slice() {
            [] => format!("stage `{name}` finds no tasks in what it needs that share their axes"),
            own => format!(
                "`{}` matches no task of what stage `{name}` needs",
                name_of(name, own.iter().map(|(a, v)| (a.as_str(), v)))
            ),
        };
        let help = "the axes that both have must share values: add the value upstream, or take it out here";
        PipelineError::new(self.entry.key.place.clone(), message).help(help)
    }

    fn task(
        &self,
        stage: StageId,
        own: &Axes,
        binding: Binding,
        errors: &mut Vec<PipelineError>,
    ) -> Option<Task> {
        let mut params = self.with.clone();
        for (axis, value) in &binding.axes {
            if self.known.contains(axis) && !params.contains_key(axis) {
                params.insert(axis.clone(), value.clone());
            }
        }
        if self.stage.traits().open_axes {
            put_open_axes(&mut params, own, self.known);
        }
        let resolved = match self.stage.resolve(&params) {
            Ok(resolved) => resolved,
            Err(found) => {
                for error in found {
                    let place =
                        error.name.as_deref().and_then(|n| place_of(self.entry, n, self.known));
                    let place = place.unwrap_or_else(|| self.entry.key.place.clone());
                    errors.push(parameter_error(place, &error, self.known));
                }
                return None;
            }
        };
        // A parameter that resolving dropped has no effect: it is no part of the task's place.
        let dropped = |axis: &str| self.known.contains(axis) && !resolved.contains_key(axis);
        let is_own = |axis: &str| own.iter().any(|(o, _)| o == axis);
        let axes: Axes =
            binding.axes.into_iter().filter(|(axis, _)| !(is_own(axis) && dropped(axis))).collect();
        let mut needs = binding.needs;
        for need in self.needs {
            let group = need.group.iter().cloned();
            needs.extend(group.map(|tasks| Need {
                input: need.input.clone(),
                gathered: true,
                tasks,
            }));
        }
        needs.sort_by(|a, b| a.input.cmp(&b.input));
        let files = self.inside(self.stage.files(&resolved), errors);
        let code = self.inside(self.stage.code_files(&resolved), errors);
        let name = name_of(&self.entry.key.name, axes.iter().map(|(a, v)| (a.as_str(), v)));
        Some(Task { stage, name, aliases: Vec::new(), axes, params: resolved, needs, files, code })
    }

    /// Paths that stay in the project, sorted, each once.
    fn inside(&self, mut paths: Vec<PathBuf>, errors: &mut Vec<PipelineError>) -> Vec<PathBuf> {
        for path in &paths {
            if let Err(why) = self.inside.check(self.root, path) {
                let message = format!("`{}` {why}", path.display());
                errors.push(PipelineError::new(self.entry.key.place.clone(), message));
            }
        }
        paths.sort();
        paths.dedup();
        paths
    }
}

/// Puts a stage's own axes that are no parameters into the parameter `matrix`.
fn put_open_axes(params: &mut Params, own: &Axes, known: &BTreeSet<String>) {
    let open: Params = own.iter().filter(|(axis, _)| !known.contains(axis)).cloned().collect();
    if open.is_empty() {
        return;
    }
    // Where it is no map, resolving says so.
    if let Value::Object(matrix) =
        params.entry("matrix").or_insert_with(|| Value::Object(Params::new()))
    {
        matrix.extend(open);
    }
}

/// What makes two tasks of a stage one: parameters and inputs. Groups are the same for all of them.
fn identity(task: &Task, inputs: &[InputRefs]) -> String {
    let params = serde_json::to_string(&task.params).unwrap_or_default();
    let joined = |need: &&Need| inputs.iter().any(|i| i.input == need.input && i.group.is_none());
    let needs: Vec<_> =
        task.needs.iter().filter(joined).map(|n| format!("{}={:?}", n.input, n.tasks)).collect();
    format!("{params}\n{}", needs.join("\n"))
}

/// `stage[axis=value,..]`, or `stage` alone without axes.
fn name_of<'a>(stage: &str, axes: impl Iterator<Item = (&'a str, &'a Value)>) -> String {
    let axes: Vec<_> = axes.map(|(axis, value)| format!("{axis}={}", shown(value))).collect();
    if axes.is_empty() { stage.to_owned() } else { format!("{stage}[{}]", axes.join(",")) }
}

/// A value as it stands in a task's name: text without quotes, anything else as JSON.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether paths stay in the project, in what they say and through links that exist. A folder is
/// resolved once, however many files in it are asked for.
#[derive(Default)]
struct Inside(RefCell<HashMap<PathBuf, Option<PathBuf>>>);

impl Inside {
    fn check(&self, root: &Path, file: &Path) -> Result<(), &'static str> {
        let mut depth = 0i32;
        for component in file.components() {
            match component {
                Component::Normal(_) => depth += 1,
                Component::CurDir => {}
                Component::ParentDir => depth -= 1,
                Component::RootDir | Component::Prefix(_) => {
                    return Err("is absolute; paths are relative to pipeline.yaml");
                }
            }
            if depth < 0 {
                return Err("leaves the project");
            }
        }
        match self.real(root, file) {
            Some(real) if !real.starts_with(root) => Err("leaves the project through a link"),
            _ => Ok(()),
        }
    }

    /// Where the file leads, or the nearest folder above it that exists.
    fn real(&self, root: &Path, file: &Path) -> Option<PathBuf> {
        let full = root.join(file);
        if full.symlink_metadata().is_ok_and(|m| !m.is_symlink())
            && let (Some(folder), Some(name)) = (file.parent(), file.file_name())
        {
            let mut known = self.0.borrow_mut();
            let folder = match known.get(folder) {
                Some(real) => real.clone(),
                None => {
                    let real = root.join(folder).canonicalize().ok();
                    known.entry(folder.to_path_buf()).or_insert(real).clone()
                }
            };
            return folder.map(|folder| folder.join(name));
        }
        file.ancestors().find_map(|a| root.join(a).canonicalize().ok())
    }
}

#[cfg(test)]
mod tests;
