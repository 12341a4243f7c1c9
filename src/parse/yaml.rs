//! YAML as a tree whose every node knows its place in the text.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::Spanned;

use super::errors::{PipelineError, Place};

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub data: Data,
    pub place: Place,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Data {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// The name of a map entry.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub name: String,
    pub place: Place,
}

impl Node {
    /// What kind of value it is, in words.
    pub fn kind(&self) -> &'static str {
        match self.data {
            Data::Null => "nothing",
            Data::Bool(_) => "a boolean",
            Data::Int(_) | Data::Float(_) => "a number",
            Data::Text(_) => "text",
            Data::List(_) => "a list",
            Data::Map(_) => "a map",
        }
    }

    /// The entry of that name, if this is a map that has it.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.entries().iter().find(|(key, _)| key.name == name).map(|(_, node)| node)
    }

    /// The entries of a map; none of anything else.
    pub fn entries(&self) -> &[(Key, Node)] {
        match &self.data {
            Data::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The text, if it is text.
    pub fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The same node with every place in it replaced; for values from the command line.
    pub fn moved(mut self, place: &Place) -> Self {
        self.place = place.clone();
        match &mut self.data {
            Data::List(items) => {
                items.iter_mut().for_each(|item| *item = item.clone().moved(place));
            }
            Data::Map(entries) => {
                for (key, node) in entries {
                    key.place = place.clone();
                    *node = node.clone().moved(place);
                }
            }
            _ => {}
        }
        self
    }
}

/// Parses one YAML document.
///
/// # Errors
/// Where the text is no YAML, has a duplicate key, a number out of range, or nests too deep.
pub(crate) fn parse(text: &str) -> Result<Node, PipelineError> {
    let root = serde_yaml::from_str::<Node>(text).map_err(|error| {
        let place = error.location().map_or(Place::Nowhere, |l| place(&l));
        let message = error.without_snippet().to_string();
        // The crate repeats the place at the end of its message.
        let message = message.split(" at line ").next().unwrap_or_default();
        PipelineError::new(place, in_words(message))
    })?;
    match too_large(&root, &text.lines().collect::<Vec<_>>()) {
        Some(place) => {
            let message = format!("this whole number is beyond {} to {}", i64::MIN, i64::MAX);
            Err(PipelineError::new(place, message).help("write it as text, or with an exponent"))
        }
        None => Ok(root),
    }
}

/// What the YAML crate says, in the words of who writes pipeline.yaml.
fn in_words(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("duplicate mapping key: ") {
        let name = rest.rsplit_once(", set ").map_or(rest, |(name, _)| name);
        return format!("key `{name}` stands twice in one map");
    }
    if let Some(rest) = message.strip_prefix("non-finite float ") {
        let number = rest.split(" rejected").next().unwrap_or_default();
        return format!("{number} is not finite, and a number must be");
    }
    if message.starts_with("multiple YAML documents") {
        return "a second YAML document begins here, and a pipeline is one".to_owned();
    }
    if message.starts_with("budget breached: Depth") || message.starts_with("recursion limit") {
        return "maps and lists are nested too deep here".to_owned();
    }
    if message.starts_with("budget breached") {
        return "the file is too large once its aliases are filled in".to_owned();
    }
    if message == "expected string scalar" {
        return "a key must be text".to_owned();
    }
    // The crate quotes as TeX does.
    match message.strip_prefix("unexpected character: `") {
        Some(rest) => format!("unexpected character `{}`", rest.trim_end_matches('\'')),
        None => message.to_owned(),
    }
}

/// Where a whole number became a fraction because it fits no integer.
fn too_large(node: &Node, lines: &[&str]) -> Option<Place> {
    match &node.data {
        Data::Float(_) => {
            let digits = written(lines, &node.place)?;
            let digits = digits.trim_start_matches(['+', '-']);
            let whole = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
            whole.then(|| node.place.clone())
        }
        Data::List(items) => items.iter().find_map(|item| too_large(item, lines)),
        Data::Map(entries) => entries.iter().find_map(|(_, item)| too_large(item, lines)),
        _ => None,
    }
}

/// The text at a place of one line.
fn written(lines: &[&str], place: &Place) -> Option<String> {
    let Place::File { line, column, length } = place else { return None };
    let line = lines.get(line.checked_sub(1)?)?;
    Some(line.chars().skip(column.checked_sub(1)?).take(*length).collect())
}

fn place(location: &serde_yaml::Location) -> Place {
    let span = location.span();
    Place::File {
        line: location.line() as usize,
        column: location.column() as usize,
        length: span.len() as usize,
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Data>::deserialize(deserializer)?;
        Ok(Self { data: spanned.value, place: place(&spanned.referenced) })
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DataVisitor)
    }
}

struct DataVisitor;

impl<'de> Visitor<'de> for DataVisitor {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Data, E> {
        Ok(Data::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Data, E> {
        Ok(Data::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Data, D::Error> {
        Data::deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Data, E> {
        Ok(Data::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Data, E> {
        Ok(Data::Int(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Data, E> {
        i64::try_from(value).map(Data::Int).map_err(|_| E::custom("this number is too large"))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Data, E> {
        i64::try_from(value).map(Data::Int).map_err(|_| E::custom("this number is too large"))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Data, E> {
        i64::try_from(value).map(Data::Int).map_err(|_| E::custom("this number is too large"))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Data, E> {
        if value.is_finite() {
            Ok(Data::Float(value))
        } else {
            Err(E::custom("a number must be finite"))
        }
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Data, E> {
        Ok(Data::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Data, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Data::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Data, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let key = Key { place: place(&key.referenced), name: key.value };
            entries.push((key, map.next_value()?));
        }
        Ok(Data::Map(entries))
    }
}
