//! Parameters and the values that refer to them: `${name}` and `range(..)`.

use std::collections::BTreeMap;

use serde_json::{Number, Value, json};

use super::errors::{PipelineError, Place, suggest_or_list};
use super::yaml::{Data, Key, Node};

/// The most values a range may have: a guard against a typo that would fill the memory.
const LONGEST_RANGE: i64 = 100_000;

/// The parameters in force, resolved.
#[derive(Debug, Default)]
pub(crate) struct Values {
    resolved: BTreeMap<String, Value>,
    /// Parameters that could not be resolved: reported once, where they are defined.
    broken: Vec<String>,
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
        if self.resolved.contains_key(name) || self.broken.iter().any(|b| b == name) {
            return;
        }
        let node = &nodes[name];
        path.push(name.to_owned());
        for other in references(node) {
            if let Some(at) = path.iter().position(|p| *p == other) {
                let circle = [&path[at..], &[other]].concat().join(" -> ");
                let message = format!("parameters refer to each other in a circle: {circle}");
                errors.push(PipelineError::new(node.place.clone(), message));
                self.broken.append(path);
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
        match self.value(node, errors) {
            Some(value) => drop(self.resolved.insert(name.to_owned(), value)),
            None => self.broken.push(name.to_owned()),
        }
    }

    /// The value of a node, with references replaced; none, with errors, where that cannot be.
    pub fn value(&self, node: &Node, errors: &mut Vec<PipelineError>) -> Option<Value> {
        match &node.data {
            Data::Null => Some(Value::Null),
            Data::Bool(flag) => Some(json!(flag)),
            Data::Int(whole) => Some(json!(whole)),
            Data::Float(number) => Number::from_f64(*number).map(Value::Number),
            Data::Text(text) => self.text(text, &node.place, errors),
            Data::List(items) => {
                let values: Vec<_> = items.iter().map(|item| self.value(item, errors)).collect();
                values.into_iter().collect::<Option<Vec<_>>>().map(Value::Array)
            }
            Data::Map(entries) => {
                let values: Vec<_> = entries
                    .iter()
                    .map(|(key, item)| Some((key.name.clone(), self.value(item, errors)?)))
                    .collect();
                values.into_iter().collect::<Option<_>>().map(Value::Object)
            }
        }
    }

    /// A node with references replaced by nodes at their place; none, with errors, where that cannot be.
    pub fn filled(&self, node: &Node, errors: &mut Vec<PipelineError>) -> Option<Node> {
        let data = match &node.data {
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
            Data::Text(_) => return Some(Node::of(&self.value(node, errors)?, &node.place)),
            plain => plain.clone(),
        };
        Some(Node { data, place: node.place.clone() })
    }

    fn text(&self, text: &str, place: &Place, errors: &mut Vec<PipelineError>) -> Option<Value> {
        if let Some(arguments) = range_arguments(text) {
            return self.range(text, arguments, place, errors);
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
        Some(json!(text.replace("$${", "${")))
    }

    fn lookup(&self, name: &str, place: &Place, errors: &mut Vec<PipelineError>) -> Option<Value> {
        if let Some(value) = self.resolved.get(name) {
            return Some(value.clone());
        }
        if !self.broken.iter().any(|b| b == name) {
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
    ) -> Option<Value> {
        let mut numbers = Vec::new();
        let arguments = arguments.trim();
        let empty = arguments.is_empty();
        for argument in arguments.split(',').map(str::trim).filter(|_| !empty) {
            let value = match whole_reference(argument) {
                Some(name) => self.lookup(name, place, errors)?,
                None => argument.parse::<i64>().map_or(Value::Null, |n| json!(n)),
            };
            let Some(number) = value.as_i64() else {
                let message = format!("`{argument}` in `{text}` is not a whole number");
                errors.push(PipelineError::new(place.clone(), message));
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
        let count = match step {
            0 => -1,
            step => end.saturating_sub(start).saturating_add(step - step.signum()) / step,
        };
        if !(0..=LONGEST_RANGE).contains(&count) && step != 0 && count > LONGEST_RANGE {
            let message = format!("`{text}` has {count} values; {LONGEST_RANGE} is the most");
            errors.push(PipelineError::new(place.clone(), message));
            return None;
        }
        if step == 0 {
            let message =
                format!("`{text}` is not range(end), range(start, end) or range(start, end, step)");
            errors.push(PipelineError::new(place.clone(), message));
            return None;
        }
        Some((0..count.max(0)).map(|i| json!(start + i * step)).collect())
    }
}

impl Node {
    /// A value, all of it at one place.
    fn of(value: &Value, place: &Place) -> Self {
        let key = |name: &String| Key { name: name.clone(), place: place.clone() };
        let data = match value {
            Value::Null => Data::Null,
            Value::Bool(flag) => Data::Bool(*flag),
            Value::Number(number) => match number.as_i64() {
                Some(whole) => Data::Int(whole),
                None => Data::Float(number.as_f64().unwrap_or_default()),
            },
            Value::String(text) => Data::Text(text.clone()),
            Value::Array(items) => Data::List(items.iter().map(|v| Self::of(v, place)).collect()),
            Value::Object(map) => {
                Data::Map(map.iter().map(|(k, v)| (key(k), Self::of(v, place))).collect())
            }
        };
        Self { data, place: place.clone() }
    }

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

/// The names a node refers to.
fn references(node: &Node) -> Vec<String> {
    match &node.data {
        Data::Text(text) => match (whole_reference(text), range_arguments(text)) {
            (Some(name), _) => vec![name.to_owned()],
            (None, Some(arguments)) => {
                let names = arguments.split(',').filter_map(|a| whole_reference(a.trim()));
                names.map(str::to_owned).collect()
            }
            (None, None) => Vec::new(),
        },
        Data::List(items) => items.iter().flat_map(references).collect(),
        Data::Map(entries) => entries.iter().flat_map(|(_, node)| references(node)).collect(),
        _ => Vec::new(),
    }
}
