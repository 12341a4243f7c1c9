//! What a profile and `--set` put in place of the file's own values: parameters by name, parts of them and
//! values of stages by path.

use std::collections::{BTreeMap, BTreeSet};

use super::document::{self, Document, TOP_KEYS};
use super::errors::{PipelineError, Place, suggest_or_list, suggestion};
use super::values::each_reference;
use super::yaml::{self, Data, Key, Node};

/// The keys at the top of the file whose whole value may be replaced.
const REPLACEABLE: [&str; 6] = ["backend", "device", "claims", "tables", "executors", "store"];

/// What is in force after the profile and `--set`.
#[derive(Debug, Default)]
pub(super) struct InForce {
    pub profile: Option<String>,
    pub parameters: BTreeMap<String, Node>,
    pub warnings: Vec<String>,
}

/// Applies the profile and `--set` to the tree and to its parameters, and checks every profile.
pub(super) fn apply(
    root: &mut Node,
    profile: Option<&str>,
    sets: &[String],
    errors: &mut Vec<PipelineError>,
) -> InForce {
    let sets = read_sets(sets, errors);
    let (early, late): (Vec<_>, Vec<_>) =
        sets.into_iter().partition(|set| set.path.first().is_some_and(|p| p == "profiles"));
    for set in early {
        if let Err(error) = put(root, &set.path, set.value) {
            errors.push(error.at(&set.key));
        }
    }
    let document = document::read(root, &mut Vec::new());
    let names = Names::of(&document, root, &late);
    let mut in_force = InForce {
        profile: profile
            .map(str::to_owned)
            .or(document.default_profile.as_ref().map(|(name, _)| name.clone())),
        parameters: document
            .params
            .iter()
            .map(|(k, node)| (k.name.clone(), node.clone()))
            .collect(),
        warnings: names.unused(),
    };
    check_profile_name(&document, in_force.profile.as_deref(), errors);
    for (key, node) in &document.profiles {
        if !matches!(node.data, Data::Map(_)) {
            let message = format!("profile `{}` must be a map, and is {}", key.name, node.kind());
            errors.push(PipelineError::new(node.place.clone(), message));
        }
        if in_force.profile.as_ref() == Some(&key.name) {
            for change in changes_of(node) {
                names.put(change, root, &mut in_force.parameters, errors);
            }
        } else {
            names.check_unused_profile(node, root, &in_force.parameters, errors);
        }
    }
    for set in late {
        names.put(set, root, &mut in_force.parameters, errors);
    }
    in_force
}

/// A value and where it goes.
#[derive(Debug, Clone)]
struct Change {
    /// As it was written, for messages.
    key: Key,
    path: Vec<String>,
    value: Node,
}

/// A path that leads nowhere: what was not found, and the names that are there.
#[derive(Debug)]
struct Missing {
    path: Vec<String>,
    at: usize,
    known: Vec<String>,
}

impl Missing {
    fn at(self, key: &Key) -> PipelineError {
        let written = &self.path[self.at];
        let known: Vec<&str> = self.known.iter().map(String::as_str).collect();
        let around = self.path[..self.at].join(".");
        let message = format!("no parameter or path `{}`", key.name);
        let help = match suggestion(written, known.iter().copied()) {
            Some(help) => help,
            None if around.is_empty() => suggest_or_list(written, &known),
            None if known.is_empty() => format!("`{around}` is not a map"),
            None => format!("`{around}` has {}", known.join(", ")),
        };
        PipelineError::new(key.place.clone(), message).help(help)
    }
}

/// Reads `NAME=VALUE`.
fn read_sets(sets: &[String], errors: &mut Vec<PipelineError>) -> Vec<Change> {
    let mut changes = Vec::new();
    for text in sets {
        let place = Place::Set(text.clone());
        let Some((name, value)) = text.split_once('=') else {
            let message = format!("`{text}` is not NAME=VALUE");
            errors.push(PipelineError::new(place, message));
            continue;
        };
        let mut wrong = Vec::new();
        let value = match yaml::read(value, &mut wrong) {
            Ok(node) => node.moved(&place),
            Err(error) => {
                let message = format!("the value is not YAML: {}", error.message);
                errors.push(PipelineError::new(place, message));
                continue;
            }
        };
        errors.extend(wrong.into_iter().map(|e| PipelineError { place: place.clone(), ..e }));
        let key = Key { name: name.trim().to_owned(), place };
        changes.push(Change { path: path_of(&key.name), key, value });
    }
    changes
}

fn path_of(name: &str) -> Vec<String> {
    let name = name.strip_prefix("params.").unwrap_or(name);
    name.split('.').map(|part| part.trim().to_owned()).collect()
}

/// The entries of a profile. A map under `stages` or another key of the file is merged, value by value.
fn changes_of(profile: &Node) -> Vec<Change> {
    let mut changes = Vec::new();
    for (key, node) in profile.entries() {
        let is_section = TOP_KEYS.iter().any(|(name, ..)| *name == key.name);
        if is_section && matches!(node.data, Data::Map(_)) {
            merge(std::slice::from_ref(&key.name), key, node, &mut changes);
        } else {
            let (key, value) = (key.clone(), node.clone());
            changes.push(Change { path: path_of(&key.name), key, value });
        }
    }
    changes
}

fn merge(path: &[String], key: &Key, node: &Node, changes: &mut Vec<Change>) {
    match &node.data {
        Data::Map(entries) if !entries.is_empty() => {
            for (key, node) in entries {
                merge(&[path, std::slice::from_ref(&key.name)].concat(), key, node, changes);
            }
        }
        _ => {
            let path = if path[0] == "params" { path[1..].to_vec() } else { path.to_vec() };
            let key = Key { name: path.join("."), place: key.place.clone() };
            changes.push(Change { key, path, value: node.clone() });
        }
    }
}

/// The names of parameters.
struct Names<'a> {
    document: &'a Document,
    /// The names that something refers to.
    used: BTreeSet<String>,
}

impl<'a> Names<'a> {
    fn of(document: &'a Document, root: &Node, sets: &[Change]) -> Self {
        let mut used = BTreeSet::new();
        let mut note = |name: &str, _: &Place| {
            used.insert(name.to_owned());
        };
        each_reference(root, &mut note);
        sets.iter().for_each(|set| each_reference(&set.value, &mut note));
        Self { document, used }
    }

    /// A name is a parameter if `params` has it or something refers to it.
    fn is_parameter(&self, name: &str) -> bool {
        self.document.params.iter().any(|(key, _)| key.name == name) || self.used.contains(name)
    }

    fn unused(&self) -> Vec<String> {
        let names = self.document.params.iter().map(|(key, _)| &key.name);
        let unused = names.filter(|name| !self.used.contains(*name));
        unused
            .map(|name| {
                format!("parameter `{name}` has no effect: nothing refers to `${{{name}}}`")
            })
            .collect()
    }

    /// Makes a change, or says that it leads nowhere.
    fn put(
        &self,
        change: Change,
        root: &mut Node,
        parameters: &mut BTreeMap<String, Node>,
        errors: &mut Vec<PipelineError>,
    ) {
        let Change { key, path, value } = change;
        let whole = key.name.strip_prefix("params.").unwrap_or(&key.name);
        if self.is_parameter(whole) {
            parameters.insert(whole.to_owned(), value);
            return;
        }
        let made = match path.as_slice() {
            [first, rest @ ..] if !rest.is_empty() && self.is_parameter(first) => {
                match parameters.get_mut(first) {
                    Some(node) => put_part(node, &path, value),
                    None => Err(Missing { path: path.clone(), at: 0, known: Vec::new() }),
                }
            }
            [first] if REPLACEABLE.contains(&first.as_str()) => put(root, &path, value),
            [first, _, ..] if is_section(first) => put(root, &path, value),
            _ => {
                errors.push(self.unknown(&key));
                return;
            }
        };
        if let Err(missing) = made {
            errors.push(missing.at(&key));
        }
    }

    fn unknown(&self, key: &Key) -> PipelineError {
        let own = self.document.params.iter().map(|(key, _)| key.name.as_str());
        let names: BTreeSet<&str> = own.chain(self.used.iter().map(String::as_str)).collect();
        let message = format!("no parameter or path `{}`", key.name);
        let help = suggestion(&key.name, names.iter().copied()).unwrap_or_else(|| {
            let names: Vec<_> = names.into_iter().collect();
            let path = "write a path such as stages.train.with.epochs";
            match names.as_slice() {
                [] => format!("there are no parameters; {path}"),
                names => format!("parameters are {}; or {path}", names.join(", ")),
            }
        });
        PipelineError::new(key.place.clone(), message).help(help)
    }

    /// Checks a profile that is not in use: its names, what it refers to, and that its paths lead to something.
    fn check_unused_profile(
        &self,
        profile: &Node,
        root: &Node,
        parameters: &BTreeMap<String, Node>,
        errors: &mut Vec<PipelineError>,
    ) {
        let (mut root, mut parameters) = (root.clone(), parameters.clone());
        let mut before = Vec::new();
        document::read(&root, &mut before);
        for change in changes_of(profile) {
            self.put(change, &mut root, &mut parameters, errors);
        }
        let mut after = Vec::new();
        document::read(&root, &mut after);
        errors.extend(after.into_iter().filter(|error| !before.contains(error)));
        each_reference(profile, &mut |name, place| {
            if !parameters.contains_key(name) {
                let message = format!("no parameter `{name}` in `params` or the profile");
                let names: Vec<_> = parameters.keys().map(String::as_str).collect();
                let error = PipelineError::new(place.clone(), message);
                errors.push(error.help(suggest_or_list(name, &names)));
            }
        });
    }
}

fn is_section(name: &str) -> bool {
    TOP_KEYS.iter().any(|(key, ..)| *key == name) && !matches!(name, "profiles" | "params")
}

fn check_profile_name(document: &Document, profile: Option<&str>, errors: &mut Vec<PipelineError>) {
    let Some(name) = profile else { return };
    let names: Vec<_> = document.profiles.iter().map(|(key, _)| key.name.as_str()).collect();
    if names.contains(&name) {
        return;
    }
    let default = document.default_profile.as_ref().filter(|(default, _)| default == name);
    let place = default.map_or(Place::Nowhere, |(_, place)| place.clone());
    let help = suggest_or_list(name, &names);
    errors.push(PipelineError::new(place, format!("no profile `{name}`")).help(help));
}

/// Puts a value at a path from the top of the file. Maps on the way are made, but no stage is.
fn put(root: &mut Node, path: &[String], value: Node) -> Result<(), Missing> {
    let mut node = root;
    for (depth, name) in path.iter().enumerate() {
        let is_last = depth + 1 == path.len();
        let missing = |known: &[(Key, Node)]| Missing {
            path: path.to_vec(),
            at: depth,
            known: known.iter().map(|(key, _)| key.name.clone()).collect(),
        };
        if node.data == Data::Null && depth > 0 {
            node.data = Data::Map(Vec::new());
        }
        let Data::Map(entries) = &mut node.data else { return Err(missing(&[])) };
        let at = match entries.iter().position(|(key, _)| key.name == *name) {
            Some(at) => at,
            None if is_last || depth > 1 || REPLACEABLE.contains(&path[0].as_str()) => {
                let key = Key { name: name.clone(), place: value.place.clone() };
                entries.push((key, Node::new(Data::Map(Vec::new()), value.place.clone())));
                entries.len() - 1
            }
            None => return Err(missing(entries)),
        };
        if is_last {
            entries[at].1 = value;
            return Ok(());
        }
        node = &mut entries[at].1;
    }
    Ok(())
}

/// Puts a value into a parameter that is a map; `path` begins with the parameter. Every name must be there.
fn put_part(parameter: &mut Node, path: &[String], value: Node) -> Result<(), Missing> {
    let mut node = parameter;
    for (depth, name) in path.iter().enumerate().skip(1) {
        let known = node.entries().iter().map(|(key, _)| key.name.clone()).collect();
        let missing = Missing { path: path.to_vec(), at: depth, known };
        let Data::Map(entries) = &mut node.data else { return Err(missing) };
        let Some((_, next)) = entries.iter_mut().find(|(key, _)| key.name == *name) else {
            return Err(missing);
        };
        node = next;
    }
    *node = value;
    Ok(())
}
