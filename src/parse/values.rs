//! Parameters and the values that refer to them: `${name}` and `range(..)`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::Value;

use super::errors::{PipelineError, Place, suggest_or_list};
use super::yaml::{Data, Node};

/// The most values a range may have: a guard against a typo that would fill the memory.
const LONGEST_RANGE: i64 = 100_000;

/// The parameters in force, resolved.
#[derive(Debug, Default)]
pub(crate) struct Values {
    resolved: BTreeMap<String, Node>,
    /// Parameters that could not be resolved: reported once, where they are defined.
    broken: BTreeSet<String>,
    /// Parameters whose value did not fit where it is used: reported once, whatever uses them.
    reported: RefCell<BTreeSet<String>>,
}

impl Values {
    /// Resolves every parameter; they may refer to each other, but not in a circle.
    pub fn new(nodes: &BTreeMap<String, Node>, errors: &mut Vec<PipelineError>) -> Self {
        let mut values = Self::default();
        for name in nodes.keys() {
            values.resolve(name, nodes, &mut Vec::new(), errors);
        }
        values
    }

    fn resolve(
        &mut self,
        name: &str,
        nodes: &BTreeMap<String, Node>,
        path: &mut Vec<String>,
        errors: &mut Vec<PipelineError>,
    ) {
        if self.resolved.contains_key(name) || self.broken.contains(name) {
            return;
        }
        let node = &nodes[name];
        path.push(name.to_owned());
        for other in references(node) {
            if let Some(at) = path.iter().position(|p| *p == other) {
                let circle = [&path[at..], &[other]].concat().join(" -> ");
                let message = format!("parameters refer to each other in a circle: {circle}");
                errors.push(PipelineError::new(node.place.clone(), message));
                self.broken.extend(path.drain(..));
                return;
            }
            if nodes.contains_key(&other) {
                self.resolve(&other, nodes, path, errors);
                if path.is_empty() {
                    return;
                }
            }
        }
        path.pop();
        match self.filled(node, errors) {
            Some(value) => drop(self.resolved.insert(name.to_owned(), value)),
            None => drop(self.broken.insert(name.to_owned())),
        }
    }

    /// The value of a node as JSON, with references replaced; `None`, with errors, if it has none.
    pub fn value(&self, node: &Node, errors: &mut Vec<PipelineError>) -> Option<Value> {
        self.filled(node, errors).map(|node| node.json())
    }

    /// A node with references replaced; `None`, with errors, if that is not possible. What replaces a
    /// reference has the place where the parameter is defined.
    pub fn filled(&self, node: &Node, errors: &mut Vec<PipelineError>) -> Option<Node> {
        let data = match &node.data {
            Data::Broken => return None,
            Data::List(items) => {
                let filled: Vec<_> = items.iter().map(|item| self.filled(item, errors)).collect();
                Data::List(filled.into_iter().collect::<Option<_>>()?)
            }
            Data::Map(entries) => {
                let filled: Vec<_> = entries
                    .iter()
                    .map(|(key, item)| Some((key.clone(), self.filled(item, errors)?)))
                    .collect();
                Data::Map(filled.into_iter().collect::<Option<_>>()?)
            }
            Data::Text(text) => return self.text(text, node, errors),
            plain => plain.clone(),
        };
        Some(Node { data, ..node.clone() })
    }

    /// Whether an error about the value of a parameter is the first one: all of them are one mistake.
    /// Always true for a value that no parameter gives.
    pub fn is_first_error(&self, parameter: Option<&str>) -> bool {
        parameter.is_none_or(|name| self.reported.borrow_mut().insert(name.to_owned()))
    }

    fn text(&self, text: &str, node: &Node, errors: &mut Vec<PipelineError>) -> Option<Node> {
        let place = &node.place;
        if let Some(arguments) = range_arguments(text) {
            return self.range(text, arguments, place, errors);
        }
        if text.trim_start().starts_with("range(") {
            errors.push(not_a_range(text, place));
            return None;
        }
        if let Some(name) = whole_reference(text) {
            return self.lookup(name, place, errors);
        }
        if text.replace("$${", "").contains("${") {
            let message =
                format!("`${{..}}` must be the whole value, and `{text}` has text around it");
            let help =
                "parameters are typed and never pasted into text; write `$${` for a literal `${`";
            errors.push(PipelineError::new(place.clone(), message).help(help));
            return None;
        }
        Some(Node { data: Data::Text(text.replace("$${", "${")), ..node.clone() })
    }

    fn lookup(&self, name: &str, place: &Place, errors: &mut Vec<PipelineError>) -> Option<Node> {
        if let Some(node) = self.resolved.get(name) {
            return Some(Node { parameter: Some(Rc::from(name)), ..node.clone() });
        }
        if !self.broken.contains(name) {
            let names: Vec<_> = self.resolved.keys().map(String::as_str).collect();
            let message = format!("no parameter `{name}` in `params` or the profile");
            let help = suggest_or_list(name, &names);
            errors.push(PipelineError::new(place.clone(), message).help(help));
        }
        None
    }

    /// `range(end)`, `range(start, end)`, `range(start, end, step)`, as in Python.
    fn range(
        &self,
        text: &str,
        arguments: &str,
        place: &Place,
        errors: &mut Vec<PipelineError>,
    ) -> Option<Node> {
        let mut numbers = Vec::new();
        let arguments = arguments.trim();
        let empty = arguments.is_empty();
        for argument in arguments.split(',').map(str::trim).filter(|_| !empty) {
            let Some(name) = whole_reference(argument) else {
                let Ok(number) = argument.parse::<i64>() else {
                    let message = format!("`{argument}` in `{text}` is not a whole number");
                    errors.push(PipelineError::new(place.clone(), message));
                    return None;
                };
                numbers.push(number);
                continue;
            };
            let node = self.lookup(name, place, errors)?;
            let Data::Int(number) = node.data else {
                if self.is_first_error(Some(name)) {
                    let shown = node.text_for_programs();
                    let message =
                        format!("a range needs a whole number, and `{name}` is `{shown}`");
                    let help = format!("`${{{name}}}` is used in `{text}`");
                    errors.push(PipelineError::new(node.place, message).help(help));
                }
                return None;
            };
            numbers.push(number);
        }
        let (start, end, step) = match numbers[..] {
            [end] => (0, end, 1),
            [start, end] => (start, end, 1),
            [start, end, step] => (start, end, step),
            _ => (0, 0, 0),
        };
        if step == 0 {
            errors.push(not_a_range(text, place));
            return None;
        }
        let (width, stride) = (i128::from(end) - i128::from(start), i128::from(step));
        let count = ((width + stride - stride.signum()) / stride).max(0);
        if count > i128::from(LONGEST_RANGE) {
            let message = format!("`{text}` has {count} values; {LONGEST_RANGE} is the most");
            errors.push(PipelineError::new(place.clone(), message));
            return None;
        }
        let item = |i: i64| Node::new(Data::Int(start + i * step), place.clone());
        Some(Node::new(Data::List((0..count as i64).map(item).collect()), place.clone()))
    }
}

fn not_a_range(text: &str, place: &Place) -> PipelineError {
    let message =
        format!("`{text}` is not range(end), range(start, end) or range(start, end, step)");
    PipelineError::new(place.clone(), message)
}

impl Node {
    /// Whether its value comes from a parameter, as a whole or as the end of a range.
    pub(crate) fn refers(&self) -> bool {
        matches!(self.data, Data::Text(_)) && !references(self).is_empty()
    }
}

/// The name in `${name}`, if that is the whole text.
fn whole_reference(text: &str) -> Option<&str> {
    let name = text.strip_prefix("${")?.strip_suffix('}')?;
    (!name.contains(['$', '{', '}'])).then_some(name.trim())
}

/// What is between the brackets of `range(..)`, if that is the whole text.
fn range_arguments(text: &str) -> Option<&str> {
    text.trim().strip_prefix("range(")?.strip_suffix(')')
}

/// The names that a node refers to.
fn references(node: &Node) -> Vec<String> {
    let mut names = Vec::new();
    each_reference(node, &mut |name, _| names.push(name.to_owned()));
    names
}

/// Calls `found` with every name that a node refers to, and the place of the reference.
pub(super) fn each_reference(node: &Node, found: &mut impl FnMut(&str, &Place)) {
    match &node.data {
        Data::Text(text) => {
            let text = text.replace("$${", "");
            let mut rest = text.as_str();
            while let Some((_, after)) = rest.split_once("${") {
                let Some((name, after)) = after.split_once('}') else { return };
                found(name.trim(), &node.place);
                rest = after;
            }
        }
        Data::List(items) => items.iter().for_each(|item| each_reference(item, found)),
        Data::Map(entries) => entries.iter().for_each(|(_, node)| each_reference(node, found)),
        _ => {}
    }
}
