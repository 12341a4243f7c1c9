//! YAML as a tree whose every node knows its place in the text.

use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_yaml::Spanned;

use super::errors::{PipelineError, Place};
use super::scalar;

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub data: Data,
    pub place: Place,
    /// The text of a plain scalar, if JSON would write its value otherwise: `3.10`, `1e-3`, `True`.
    /// Empty if the value was left out.
    pub written: Option<Rc<str>>,
    /// The parameter whose value this is, if the file refers to one here.
    pub parameter: Option<Rc<str>>,
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
    /// A value with an error that has been reported.
    Broken,
}

/// The name of a map entry.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub name: String,
    pub place: Place,
}

impl Node {
    /// A node at a place that is not the value of a parameter.
    pub fn new(data: Data, place: Place) -> Self {
        Self { data, place, written: None, parameter: None }
    }

    /// Whether the value was left out, as in `key:`, and not written as `null` or `~`.
    pub fn is_left_out(&self) -> bool {
        self.data == Data::Null && self.written.as_deref() == Some("")
    }

    /// The value as JSON.
    pub fn json(&self) -> Value {
        match &self.data {
            Data::Null | Data::Broken => Value::Null,
            Data::Bool(flag) => Value::Bool(*flag),
            Data::Int(whole) => Value::from(*whole),
            Data::Float(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
            Data::Text(text) => Value::String(text.clone()),
            Data::List(items) => items.iter().map(Self::json).collect(),
            Data::Map(entries) => {
                Value::Object(entries.iter().map(|(k, v)| (k.name.clone(), v.json())).collect())
            }
        }
    }

    /// The value as a program gets it: text without quotes, a number or boolean as it was written, lists and
    /// maps as JSON with numbers as they were written, where JSON has such numbers.
    pub fn text_for_programs(&self) -> String {
        match (&self.data, &self.written) {
            (Data::Text(text), _) => text.clone(),
            (Data::Bool(_) | Data::Int(_) | Data::Float(_), Some(written)) => written.to_string(),
            _ => self.json_as_written(),
        }
    }

    fn json_as_written(&self) -> String {
        match &self.data {
            Data::Int(_) | Data::Float(_) => match &self.written {
                Some(written) if serde_json::from_str::<Number>(written).is_ok() => {
                    written.to_string()
                }
                _ => self.json().to_string(),
            },
            Data::List(items) => {
                let items: Vec<_> = items.iter().map(Self::json_as_written).collect();
                format!("[{}]", items.join(","))
            }
            Data::Map(entries) => {
                let mut sorted: Vec<_> = entries.iter().collect();
                sorted.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
                let entry = |(key, node): &(Key, Self)| {
                    format!("{}:{}", Value::from(key.name.as_str()), node.json_as_written())
                };
                let entries: Vec<_> = sorted.into_iter().map(entry).collect();
                format!("{{{}}}", entries.join(","))
            }
            _ => self.json().to_string(),
        }
    }

    /// What kind of value it is, in words.
    pub fn kind(&self) -> &'static str {
        match self.data {
            Data::Null => "nothing",
            Data::Bool(_) => "a boolean",
            Data::Int(_) | Data::Float(_) => "a number",
            Data::Text(_) => "text",
            Data::List(_) => "a list",
            Data::Map(_) => "a map",
            Data::Broken => "a value with an error",
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

/// Parses one YAML document. Values that could be read in two ways go to `errors`, and become
/// [`Data::Broken`].
///
/// # Errors
/// Returns an error if the text is not YAML, has a duplicate key, or nests too deep.
pub(crate) fn read(text: &str, errors: &mut Vec<PipelineError>) -> Result<Node, PipelineError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Scalars are typed by `scalar`, from the text itself.
    let options = serde_yaml::options! {
        strict_booleans: true,
        non_finite_float_policy: serde_yaml::NonFiniteFloatPolicy::PassThrough,
    };
    let root = serde_yaml::from_str_with_options::<Raw>(text, options).map_err(|error| {
        let place = error.location().map_or(Place::Nowhere, |l| place(&l));
        let message = error.without_snippet().to_string();
        // The crate repeats the place at the end of its message.
        let message = message.split(" at line ").next().unwrap_or_default();
        let error = PipelineError::new(place, in_words(message));
        if has_unquoted_range(text, &error.place) {
            return error.help("write a range with a reference in quotes: \"range(${n})\"");
        }
        error
    })?;
    Ok(Builder { text, errors }.node(root))
}

/// The same without the errors of values.
pub(crate) fn parse(text: &str) -> Result<Node, PipelineError> {
    read(text, &mut Vec::new())
}

/// Builds the tree from what the YAML crate read and from the text itself.
struct Builder<'a> {
    text: &'a str,
    errors: &'a mut Vec<PipelineError>,
}

impl Builder<'_> {
    fn node(&mut self, raw: Raw) -> Node {
        let Raw { data, place, source } = raw;
        let (data, written) = match data {
            RawData::Scalar(data) => self.scalar(data, &place, source),
            RawData::List(items) => {
                let items: Vec<_> = items.into_iter().map(|item| self.node(item)).collect();
                (Data::List(self.join_ranges(items, |item| item, piece_of_list)), None)
            }
            RawData::Map(entries) => {
                let entries = entries.into_iter().map(|(key, raw)| (key, self.node(raw))).collect();
                (Data::Map(self.join_ranges(entries, |(_, node)| node, piece_of_map)), None)
            }
        };
        Node { data, place, written, parameter: None }
    }

    /// The type of a scalar: `scalar` decides it for a plain one, the YAML crate for the others.
    fn scalar(
        &mut self,
        read: Data,
        place: &Place,
        source: Option<Range<usize>>,
    ) -> (Data, Option<Rc<str>>) {
        let start = source.as_ref().map_or(0, |range| range.start);
        let source = source.and_then(|range| self.text.get(range)).unwrap_or_default();
        let before = self.text.get(..start).unwrap_or_default().trim_end();
        let is_plain = match &read {
            Data::Text(text) => {
                text == source && !before.ends_with('!') && !before.ends_with("!!str")
            }
            _ => true,
        };
        if !is_plain {
            return (read, None);
        }
        match scalar::read(source) {
            // What the crate took for more than text has a tag that says so.
            Ok(Data::Text(_)) => (read, None),
            Ok(data) => {
                let json = Node::new(data.clone(), Place::Nowhere).json().to_string();
                let differs = match &data {
                    Data::Null => source.is_empty(),
                    _ => json != source,
                };
                (data, differs.then(|| source.into()))
            }
            Err(ambiguous) => {
                let error = PipelineError::new(place.clone(), ambiguous.message);
                self.errors.push(error.help(ambiguous.help));
                (Data::Broken, None)
            }
        }
    }

    /// A range without quotes falls apart at its commas, in `[range(10, 26)]` as in `{ i: range(10, 26) }`.
    /// Its first piece becomes an error, and the others go.
    fn join_ranges<T>(
        &mut self,
        entries: Vec<T>,
        node: fn(&mut T) -> &mut Node,
        piece: fn(&T) -> Option<String>,
    ) -> Vec<T> {
        let mut kept: Vec<T> = Vec::new();
        let mut begun: Option<String> = None;
        for mut entry in entries {
            if let (Some(range), Some(piece)) = (&mut begun, piece(&entry)) {
                range.push_str(", ");
                range.push_str(&piece);
                if piece.ends_with(')')
                    && let (Some(range), Some(first)) = (begun.take(), kept.last_mut())
                {
                    let first = node(first);
                    self.errors.push(unquoted_range(&first.place, &range));
                    first.data = Data::Broken;
                }
                continue;
            }
            begun = begun_range(node(&mut entry));
            kept.push(entry);
        }
        kept
    }
}

/// The beginning of a range that a comma has cut off.
fn begun_range(node: &Node) -> Option<String> {
    let begins = |text: &&str| text.starts_with("range(") && !text.contains(')');
    node.text().filter(begins).map(str::to_owned)
}

/// Whether the line has a range with a reference that is not in quotes: its braces end a flow map.
fn has_unquoted_range(text: &str, place: &Place) -> bool {
    let Place::File { line, .. } = place else { return false };
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    line.match_indices("range(").any(|(at, _)| {
        let inside = line[at..].split(')').next().unwrap_or_default();
        inside.contains("${") && !line[..at].trim_end().ends_with(['"', '\''])
    })
}

/// What an item of a list can be of a range that began before it.
fn piece_of_list(item: &Node) -> Option<String> {
    (!matches!(item.data, Data::List(_) | Data::Map(_))).then(|| item.text_for_programs())
}

/// The same of an entry of a map: a key without a value.
fn piece_of_map((key, node): &(Key, Node)) -> Option<String> {
    (node.data == Data::Null).then(|| key.name.clone())
}

fn unquoted_range(place: &Place, range: &str) -> PipelineError {
    let message = format!("`{range}` must be in quotes: within brackets, a comma ends a value");
    PipelineError::new(place.clone(), message).help(format!("write \"{range}\""))
}

/// What the YAML crate says, in the words of who writes pipeline.yaml.
fn in_words(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("duplicate mapping key: ") {
        let name = rest.rsplit_once(", set ").map_or(rest, |(name, _)| name);
        return format!("key `{name}` stands twice in one map");
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

fn place(location: &serde_yaml::Location) -> Place {
    let span = location.span();
    Place::File {
        line: location.line() as usize,
        column: location.column() as usize,
        length: span.len() as usize,
    }
}

/// A value as the YAML crate reads it.
struct Raw {
    data: RawData,
    place: Place,
    /// The bytes of the text that a scalar is read from: of an alias, those of its anchor.
    source: Option<Range<usize>>,
}

enum RawData {
    /// A scalar as the crate types it.
    Scalar(Data),
    List(Vec<Raw>),
    Map(Vec<(Key, Raw)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<RawData>::deserialize(deserializer)?;
        let span = spanned.defined.span();
        let source = span.byte_offset().zip(span.byte_len()).map(|(start, length)| {
            let start = usize::try_from(start).unwrap_or(usize::MAX);
            start..start.saturating_add(usize::try_from(length).unwrap_or(usize::MAX))
        });
        Ok(Self { data: spanned.value, place: place(&spanned.referenced), source })
    }
}

impl<'de> Deserialize<'de> for RawData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DataVisitor)
    }
}

struct DataVisitor;

impl<'de> Visitor<'de> for DataVisitor {
    type Value = RawData;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<RawData, E> {
        Ok(RawData::Scalar(Data::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<RawData, E> {
        Ok(RawData::Scalar(Data::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawData, D::Error> {
        RawData::deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<RawData, E> {
        Ok(RawData::Scalar(Data::Bool(value)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<RawData, E> {
        Ok(RawData::Scalar(Data::Int(value)))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<RawData, E> {
        let whole = i64::try_from(value).map(Data::Int);
        Ok(RawData::Scalar(whole.unwrap_or(Data::Float(value as f64))))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<RawData, E> {
        Ok(RawData::Scalar(Data::Float(value)))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<RawData, E> {
        Ok(RawData::Scalar(Data::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawData, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(RawData::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawData, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let key = Key { place: place(&key.referenced), name: key.value };
            entries.push((key, map.next_value()?));
        }
        Ok(RawData::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The values of a list, as a program would get them, and whether they are text.
    fn items(text: &str) -> String {
        let mut errors = Vec::new();
        let root = read(text, &mut errors).unwrap();
        let Data::List(items) = &root.data else { panic!("no list") };
        let line = |node: &Node| {
            let text = node.text_for_programs();
            format!("{} {text:?} {}", node.kind(), node.json())
        };
        let errors = errors.iter().map(|e| format!("error: {}", e.message));
        items.iter().map(line).chain(errors).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn style_decides_what_a_scalar_is() {
        insta::assert_snapshot!(items(
            "- 3.10\n- \"3.10\"\n- '017'\n- |-\n  017\n- >-\n  1e2\n- !!str 3.10\n- ! 08\n- &a 1e2\n- *a\n- &b '1e2'\n\
             - *b\n- one\n  2.50\n- 3.10 # a comment\n- !!float 3.10\n- !!int \"3\"\n- True\n- ~\n-\n- 0x1F\n- no\n- +5\n\
             - [1e-3, .5, 0x1F]\n- { b: 3.10, a: yes }\n"
        ), @r#"
        a number "3.10" 3.1
        text "3.10" "3.10"
        text "017" "017"
        text "017" "017"
        text "1e2" "1e2"
        text "3.10" "3.10"
        text "08" "08"
        a number "1e2" 100.0
        a number "1e2" 100.0
        text "1e2" "1e2"
        text "1e2" "1e2"
        text "one 2.50" "one 2.50"
        a number "3.10" 3.1
        a number "3.10" 3.1
        a number "3" 3
        a boolean "True" true
        nothing "null" null
        nothing "null" null
        a number "0x1F" 31
        text "no" "no"
        a number "+5" 5
        a list "[1e-3,0.5,31]" [0.001,0.5,31]
        a map "{\"a\":\"yes\",\"b\":3.10}" {"a":"yes","b":3.1}
        "#);
    }

    #[test]
    fn merged_values_are_as_they_were_written() {
        let root = parse("a: &a { lr: 1e-3, s: \"08\" }\nb: { <<: *a, c: 3.10 }\n").unwrap();
        assert_eq!(root.get("b").unwrap().text_for_programs(), r#"{"c":3.10,"lr":1e-3,"s":"08"}"#);
        let root = parse("\u{feff}a: 3.10\nß漢: [1e2]\n").unwrap();
        assert_eq!(root.text_for_programs(), r#"{"a":3.10,"ß漢":[1e2]}"#);
    }

    #[test]
    fn ambiguous_values_are_errors_at_their_places() {
        let mut errors = Vec::new();
        let root = read("a: [017, 1_000, 5]\nb: { c: 0X1F, d: 08 }\n", &mut errors).unwrap();
        let told: Vec<_> = errors.iter().map(|e| format!("{:?} {}", e.place, e.message)).collect();
        insta::assert_snapshot!(told.join("\n"), @r"
        File { line: 1, column: 5, length: 3 } `017` begins with a zero, so that it could be text or a number
        File { line: 1, column: 10, length: 5 } `1_000` is not a number in YAML 1.2, but other programs read it as one
        File { line: 2, column: 9, length: 4 } `0X1F` is not a number in YAML 1.2, but other programs read it as one
        File { line: 2, column: 18, length: 2 } `08` begins with a zero, so that it could be text or a number
        ");
        let b = root.get("b").unwrap();
        assert_eq!(b.get("c").unwrap().data, Data::Broken);
    }

    #[test]
    fn a_range_without_quotes_is_one_error() {
        for text in
            ["a: [1, range(10, 26), 5]", "a: { i: range(10, 26), b: 1 }", "a: [range(0, 10, 2)]"]
        {
            let mut errors = Vec::new();
            let root = read(text, &mut errors).unwrap();
            assert_eq!(errors.len(), 1, "{text}");
            assert!(errors[0].message.contains("must be in quotes"), "{text}");
            assert!(!root.text_for_programs().contains(')'), "{text}");
        }
    }

    /// A number of the core schema of YAML 1.2 without leading zeros, and within an `f64`.
    fn core_number() -> impl Strategy<Value = String> {
        prop_oneof![
            "[-+]?(0|[1-9][0-9]{0,17})",
            "[-+]?(0|[1-9][0-9]{0,17})\\.[0-9]{0,20}([eE][-+]?[0-9]{1,2})?",
            "[-+]?(0|[1-9][0-9]{0,17})[eE][-+]?[0-9]{1,2}",
            "[-+]?\\.[0-9]{1,20}([eE][-+]?[0-9]{1,2})?",
            "0o[0-7]{1,20}",
            "0x[0-7][0-9a-fA-F]{0,15}",
        ]
    }

    proptest! {
        #[test]
        fn a_number_is_as_it_was_written(number in core_number(), flow: bool) {
            let text = if flow { format!("{{ a: [{number}, 1] }}") } else { format!("a:\n  - {number}\n  - 1\n") };
            let mut errors = Vec::new();
            let root = read(&text, &mut errors).unwrap();
            prop_assert!(errors.is_empty(), "{:?}", errors);
            let Some(Data::List(items)) = root.get("a").map(|node| &node.data) else { panic!("no list") };
            prop_assert!(matches!(items[0].data, Data::Int(_) | Data::Float(_)), "{:?}", items[0]);
            prop_assert_eq!(items[0].text_for_programs(), number);
        }

        #[test]
        fn what_looks_like_a_number_is_unchanged_or_an_error(text in "[-+]?[0-9a-fxobeEXOB._:]{1,10}") {
            let mut errors = Vec::new();
            if let Ok(root) = read(&format!("- {text}\n"), &mut errors)
                && errors.is_empty()
                && let Data::List(items) = &root.data
                && !matches!(items[0].data, Data::Map(_) | Data::List(_))
            {
                prop_assert_eq!(items[0].text_for_programs(), text);
            }
        }

        #[test]
        fn reading_never_panics(text in "\\PC{0,60}|[-+0-9a-f:{}\\[\\], \n\"'&*!|>~#()]{0,80}") {
            let _ = read(&text, &mut Vec::new());
        }
    }
}
