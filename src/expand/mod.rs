//! From stages to tasks: grids, joins on shared axes, and equal tasks made one.

mod axis;
mod grid;
mod join;
mod order;
mod schema;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use dissim_api::{Arity, ParamError, Params, Placeholder, PlaceholderTarget, Stage};
use serde_json::Value;

use crate::graph::{Need, StageId, StageNode, Task, TaskId};
use crate::parse::{
    Data, Document, Key, Node, PipelineError, Place, StageEntry, Values, suggest_or_list,
    suggestion,
};
use crate::registry::Registry;
use axis::{Axes, AxisValue};
pub(crate) use join::targets;
use join::{Binding, Upstream};
use schema::Parameters;

/// Expands every stage; `None`, with errors, if something is wrong. A stage that needs one with an error is
/// checked as far as it can be alone: the error is reported once.
pub(crate) fn expand(
    document: &Document,
    values: &Values,
    registry: &Registry,
    root: &Path,
    errors: &mut Vec<PipelineError>,
) -> Option<(Vec<StageNode>, Vec<Task>)> {
    let before = errors.len();
    let order = order::order(document, errors);
    let mut expansion = Expansion::default();
    for index in order.sorted {
        let entry = &document.stages[index];
        let found = errors.len();
        let kind = kind(entry, registry, errors);
        let is_sound = errors.len() == found && !entry.broken && !order.broken.contains(&index);
        let is_expanded = match kind {
            Some(stage) if is_sound && !expansion.needs_failed(entry) => {
                expansion.stage(entry, stage, values, root, errors)
            }
            Some(stage) => {
                check_alone(entry, stage.as_ref(), values, errors);
                false
            }
            None => false,
        };
        if !is_expanded {
            expansion.failed.insert(entry.key.name.clone());
        }
    }
    (errors.len() == before && expansion.failed.is_empty())
        .then_some((expansion.stages, expansion.tasks))
}

/// The kind of a stage, if there is such a kind, with its inputs checked.
fn kind(
    entry: &StageEntry,
    registry: &Registry,
    errors: &mut Vec<PipelineError>,
) -> Option<Arc<dyn Stage>> {
    let (kind, place) = entry.kind.as_ref()?;
    let stage = registry.get(kind).cloned();
    match &stage {
        Some(stage) => check_inputs(entry, stage.as_ref(), errors),
        None => {
            let kinds: Vec<_> = registry.kinds().collect();
            let error = PipelineError::new(place.clone(), format!("no stage kind `{kind}`"));
            errors.push(error.help(suggest_or_list(kind, &kinds)));
        }
    }
    stage
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

/// Checks what does not depend on the tasks of other stages: parameters, axes, and how tasks are run. Only
/// errors about parameters that the stage names are kept.
fn check_alone(
    entry: &StageEntry,
    stage: &dyn Stage,
    values: &Values,
    errors: &mut Vec<PipelineError>,
) {
    let _ = entry.policy(values, errors);
    let combinations = grid::combinations(entry, values, errors);
    let parameters = Parameters::of(stage);
    let with = with(entry, values, errors);
    check_placeholders(entry, stage, with.as_deref(), &parameters, errors);
    if let Some(with) = with {
        let own = combinations.and_then(|all| all.into_iter().next()).unwrap_or_default();
        let checker = Checker::new(entry, stage, &with, &parameters, values);
        let given = checker.given(&own, &own);
        if let Err(found) = stage.resolve(&given) {
            let named: Vec<_> =
                found.into_iter().filter(|error| checker.named(error, &own).is_some()).collect();
            checker.report(named, &own, &mut Vec::new(), errors);
        }
    }
}

/// `with:` with references replaced.
fn with(
    entry: &StageEntry,
    values: &Values,
    errors: &mut Vec<PipelineError>,
) -> Option<Vec<(Key, Node)>> {
    let pairs: Vec<_> = entry
        .with
        .iter()
        .map(|(key, node)| Some((key.clone(), values.filled(node, errors)?)))
        .collect();
    pairs.into_iter().collect()
}

/// Checks the inputs and axes that values under `with` mention.
fn check_placeholders(
    entry: &StageEntry,
    stage: &dyn Stage,
    with: Option<&[(Key, Node)]>,
    parameters: &Parameters,
    errors: &mut Vec<PipelineError>,
) {
    let of = format!("stage `{}`", entry.key.name);
    for (key, node) in with.unwrap_or_default() {
        if key.name == "matrix" && stage.traits().open_axes {
            let message =
                format!("`matrix` of {of} stands under `with`, where its axes are filled in");
            let error = PipelineError::new(key.place.clone(), message);
            errors.push(error.help("write it beside `with`"));
        }
        for placeholder in stage.placeholders(&key.name, &node.json()) {
            let Placeholder { path, target, name } = placeholder;
            let (word, lists): (_, Vec<Vec<&str>>) = match target {
                PlaceholderTarget::Input => {
                    ("input", vec![entry.needs.iter().map(|n| n.input.name.as_str()).collect()])
                }
                PlaceholderTarget::Axis => {
                    let is_open = |axis: &&str| !parameters.names.contains(*axis);
                    let axes = entry.grids.iter().map(|grid| {
                        grid.iter().map(|(key, _)| key.name.as_str()).filter(is_open).collect()
                    });
                    ("axis of its own", axes.collect())
                }
            };
            let Some(known) = lists.into_iter().find(|known| !known.contains(&name.as_str()))
            else {
                continue;
            };
            let message = format!("{of} has no {word} `{name}`");
            let help = match (known.as_slice(), target) {
                ([], PlaceholderTarget::Input) => format!("add `needs: {{ {name}: .. }}`"),
                ([], PlaceholderTarget::Axis) => format!("add `matrix: {{ {name}: [..] }}`"),
                (known, _) => suggest_or_list(&name, known),
            };
            let place = part(node, &path).place.clone();
            errors.push(PipelineError::new(place, message).help(help));
        }
    }
}

/// The part of a value that the rest of a path names, such as `[3]` or `.lr`; the nearest part around it if
/// there is none.
fn part<'n>(node: &'n Node, path: &str) -> &'n Node {
    let mut node = node;
    for name in path.split(['.', '[', ']']).filter(|name| !name.is_empty()) {
        let inner = match &node.data {
            Data::List(items) => name.parse().ok().and_then(|at: usize| items.get(at)),
            _ => node.get(name),
        };
        let Some(inner) = inner else { break };
        node = inner;
    }
    node
}

/// Completes the parameters of a stage's tasks and reports what is wrong with them where it is written.
struct Checker<'a> {
    entry: &'a StageEntry,
    stage: &'a dyn Stage,
    with: &'a [(Key, Node)],
    /// The same as JSON.
    fixed: Params,
    parameters: &'a Parameters,
    values: &'a Values,
}

impl<'a> Checker<'a> {
    fn new(
        entry: &'a StageEntry,
        stage: &'a dyn Stage,
        with: &'a [(Key, Node)],
        parameters: &'a Parameters,
        values: &'a Values,
    ) -> Self {
        let json = |(key, node): &(Key, Node)| (key.name.clone(), parameters.json(&key.name, node));
        Self { entry, stage, with, fixed: with.iter().map(json).collect(), parameters, values }
    }

    /// The parameters of a task: those under `with`, its axes that are parameters, and as `matrix` the
    /// stage's own axes that are none.
    fn given(&self, axes: &Axes, own: &Axes) -> Params {
        let names = &self.parameters.names;
        let mut params = self.fixed.clone();
        for (axis, value) in axes {
            if names.contains(axis) && !params.contains_key(axis) {
                params.insert(axis.clone(), self.parameters.json(axis, &value.node));
            }
        }
        if self.stage.traits().open_axes {
            let open = own.iter().filter(|(axis, _)| !names.contains(axis));
            let open: Params =
                open.map(|(axis, value)| (axis.clone(), value.for_program())).collect();
            if !open.is_empty() {
                params.insert("matrix".to_owned(), Value::Object(open));
            }
        }
        params
    }

    /// Where the parameter of an error is written: its name, if that is wrong, or its value.
    fn named<'n>(
        &'n self,
        error: &ParamError,
        axes: &'n Axes,
    ) -> Option<(&'n Place, Option<&'n str>)> {
        let path = error.name.as_deref()?;
        let name = path.split(['.', '[']).next().unwrap_or_default();
        let is_known = self.parameters.names.contains(name);
        let found = match self.with.iter().find(|(key, _)| key.name == name) {
            Some((key, _)) if !is_known => return Some((&key.place, None)),
            Some((_, node)) => node,
            None => &axes.iter().find(|(axis, _)| axis == name)?.1.node,
        };
        let inner = part(found, &path[name.len()..]);
        let parameter = inner.parameter.as_ref().or(found.parameter.as_ref());
        Some((&inner.place, parameter.map(|name| &**name)))
    }

    /// Reports the errors of one task, but no second one of the same value.
    fn report(
        &self,
        found: Vec<ParamError>,
        axes: &Axes,
        reported: &mut Vec<Place>,
        errors: &mut Vec<PipelineError>,
    ) {
        let before = reported.len();
        for error in found {
            let Some((place, parameter)) = self.named(&error, axes) else {
                errors.push(PipelineError::new(self.entry.key.place.clone(), error.message));
                continue;
            };
            if reported[..before].contains(place) || !self.values.is_first_error(parameter) {
                continue;
            }
            if !reported.contains(place) {
                reported.push(place.clone());
            }
            let names = self.parameters.names.iter().map(String::as_str);
            let name = error.name.as_deref().unwrap_or_default();
            let help = match parameter {
                Some(parameter) => Some(format!(
                    "`{name}` of stage `{}` takes it from `${{{parameter}}}`",
                    self.entry.key.name
                )),
                None if self.parameters.names.contains(name) => None,
                None => suggestion(name, names),
            };
            let built = PipelineError::new(place.clone(), error.message);
            errors.push(match help {
                Some(help) => built.help(help),
                None => built,
            });
        }
    }
}

#[derive(Default)]
struct Expansion {
    stages: Vec<StageNode>,
    tasks: Vec<Task>,
    /// The axes of every task, as they were written.
    axes: Vec<Axes>,
    ids: HashMap<String, StageId>,
    /// Stages that have an error, or need one that has.
    failed: HashSet<String>,
}

impl Expansion {
    fn needs_failed(&self, entry: &StageEntry) -> bool {
        let mut needed = entry.needs.iter().flat_map(|need| &need.refers);
        needed.any(|(text, _)| self.failed.contains(order::stage_name(text)))
    }

    /// Adds a stage and its tasks. False if there was an error.
    fn stage(
        &mut self,
        entry: &StageEntry,
        stage: Arc<dyn Stage>,
        values: &Values,
        root: &Path,
        errors: &mut Vec<PipelineError>,
    ) -> bool {
        let before = errors.len();
        let parameters = Parameters::of(stage.as_ref());
        let needs = self.upstreams(entry, stage.as_ref(), errors);
        if errors.len() == before {
            self.check_axes(entry, stage.as_ref(), &parameters.names, &needs, errors);
        }
        let with = with(entry, values, errors);
        check_placeholders(entry, stage.as_ref(), with.as_deref(), &parameters, errors);
        if errors.len() > before {
            check_alone(entry, stage.as_ref(), values, errors);
            return false;
        }
        let combinations = grid::combinations(entry, values, errors);
        let policy = entry.policy(values, errors);
        let (Some(with), Some(combinations)) = (with, combinations) else { return false };
        let first = self.tasks.len();
        let checker = Checker::new(entry, stage.as_ref(), &with, &parameters, values);
        let builder = Builder { checker, needs: &needs, root, inside: Inside::default() };
        let (tasks, axes) = builder.tasks(self, &combinations, self.stages.len(), errors);
        self.tasks.extend(tasks);
        self.axes.extend(axes);
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
            policy,
        });
        errors.len() == before
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
                join::select(text, self)
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
            .flat_map(|&t| self.axes[t].iter().map(|(axis, _)| axis.as_str()))
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
    checker: Checker<'a>,
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
    ) -> (Vec<Task>, Vec<Axes>) {
        let mut built: Vec<Task> = Vec::new();
        let mut axes_of: Vec<Axes> = Vec::new();
        let (mut by_identity, mut by_name) = (HashMap::new(), HashMap::new());
        let mut indexes = join::Indexes::default();
        let (mut reported, mut unmatched) = (Vec::new(), Vec::new());
        for own in combinations {
            let mut bindings = vec![Binding::of(own)];
            for need in self.needs.iter().filter(|n| n.group.is_none()) {
                for (slot, upstream) in need.upstreams.iter().enumerate() {
                    let index = (need.input.as_str(), slot);
                    bindings =
                        indexes.join(index, bindings, upstream, &need.input, &expansion.axes);
                }
            }
            if bindings.is_empty() {
                unmatched.push(own);
            }
            for binding in bindings {
                let Some((mut task, axes)) = self.task(stage, own, binding, &mut reported, errors)
                else {
                    continue;
                };
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
                            let place = self.checker.entry.key.place.clone();
                            errors.push(PipelineError::new(place, message));
                        }
                        by_identity.insert(identity, built.len());
                        built.push(task);
                        axes_of.push(axes);
                    }
                }
            }
        }
        if !unmatched.is_empty() {
            errors.extend(self.no_match(&unmatched, expansion));
        }
        // An alias that is another task's name means that task.
        for task in &mut built {
            task.aliases.retain(|alias| !by_name.contains_key(alias));
        }
        (built, axes_of)
    }

    /// One error about all combinations that match no task of what the stage needs.
    fn no_match(&self, unmatched: &[&Axes], expansion: &Expansion) -> Option<PipelineError> {
        let Checker { entry, values, .. } = &self.checker;
        let name = &entry.key.name;
        let place = &entry.key.place;
        let joined = self.needs.iter().filter(|need| need.group.is_none());
        for upstream in joined.flat_map(|need| &need.upstreams) {
            let has = |axis: &str| upstream.values(axis, &expansion.axes);
            let absent = |(axis, value): &&(String, std::rc::Rc<AxisValue>)| {
                let there = has(axis);
                !there.is_empty() && there.iter().all(|other| other.normal != value.normal)
            };
            let mut absent = unmatched.iter().flat_map(|own| own.iter()).filter(absent);
            let Some((axis, value)) = absent.next() else { continue };
            if !values.is_first_error(value.node.parameter.as_deref()) {
                return None;
            }
            let stage = &expansion.stages[upstream.stage].name;
            let message = format!(
                "stage `{name}` needs tasks of stage `{stage}` with {axis}={}, and there are none",
                value.text
            );
            let there = listed(has(axis).into_iter().map(|value| value.text.as_str()));
            let help = format!(
                "there, {axis} is {there}: add the value to `{stage}`, or take it out here"
            );
            return Some(PipelineError::new(value.node.place.clone(), message).help(help));
        }
        let message = match unmatched {
            [own, ..] if !own.is_empty() => {
                format!("`{}` matches no task of what stage `{name}` needs", name_of(name, own))
            }
            _ => format!("stage `{name}` finds no tasks in what it needs that share their axes"),
        };
        let help = "the axes that both have must share values: add the value upstream, or take it out here";
        Some(PipelineError::new(place.clone(), message).help(help))
    }

    fn task(
        &self,
        stage: StageId,
        own: &Axes,
        binding: Binding,
        reported: &mut Vec<Place>,
        errors: &mut Vec<PipelineError>,
    ) -> Option<(Task, Axes)> {
        let Checker { entry, stage: of, parameters, .. } = &self.checker;
        let resolved = match of.resolve(&self.checker.given(&binding.axes, own)) {
            Ok(resolved) => resolved,
            Err(found) => {
                self.checker.report(found, &binding.axes, reported, errors);
                return None;
            }
        };
        // A parameter that resolving dropped has no effect: it is no part of the task's place.
        let dropped = |axis: &str| parameters.names.contains(axis) && !resolved.contains_key(axis);
        let is_own = |axis: &str| own.iter().any(|(o, _)| o == axis);
        let written: Axes =
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
        let files = self.inside(entry, of.files(&resolved), errors);
        let code = self.inside(entry, of.code_files(&resolved), errors);
        let name = name_of(&entry.key.name, &written);
        let axes =
            written.iter().map(|(axis, value)| (axis.clone(), value.value.clone())).collect();
        let aliases = Vec::new();
        let task = Task { stage, name, aliases, axes, params: resolved, needs, files, code };
        Some((task, written))
    }

    /// Paths that stay in the project, sorted, each once.
    fn inside(
        &self,
        entry: &StageEntry,
        mut paths: Vec<PathBuf>,
        errors: &mut Vec<PipelineError>,
    ) -> Vec<PathBuf> {
        for path in &paths {
            if let Err(why) = self.inside.check(self.root, path) {
                let message = format!("`{}` {why}", path.display());
                errors.push(PipelineError::new(entry.key.place.clone(), message));
            }
        }
        paths.sort();
        paths.dedup();
        paths
    }
}

/// A few words, and how many more there are.
fn listed<'a>(words: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 8;
    let words: Vec<_> = words.collect();
    let shown = words[..words.len().min(SHOWN)].join(", ");
    match words.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
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
fn name_of(stage: &str, axes: &Axes) -> String {
    let axes: Vec<_> = axes.iter().map(|(axis, value)| format!("{axis}={}", value.text)).collect();
    if axes.is_empty() { stage.to_owned() } else { format!("{stage}[{}]", axes.join(",")) }
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
