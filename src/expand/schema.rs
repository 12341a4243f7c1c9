//! What the schema of a kind says of its parameters: their names, and where they are text.

use std::collections::BTreeSet;

use dissim_api::Stage;
use serde_json::Value;

use crate::parse::{Data, Node};

/// The parameters of a kind.
pub(crate) struct Parameters {
    pub names: BTreeSet<String>,
    schema: Value,
}

impl Parameters {
    pub fn of(stage: &dyn Stage) -> Self {
        let schema = stage.schema();
        let properties = schema.get("properties").and_then(Value::as_object);
        let names = properties.map(|p| p.keys().cloned().collect()).unwrap_or_default();
        Self { names, schema }
    }

    /// The value of a parameter as JSON. Where the kind wants text, a number or boolean is text as it was
    /// written: `--epochs` and `10` are two arguments of a program.
    pub fn json(&self, name: &str, node: &Node) -> Value {
        match self.schema.get("properties").and_then(|p| p.get(name)) {
            Some(schema) => self.by(schema, node),
            None => node.json(),
        }
    }

    fn by(&self, schema: &Value, node: &Node) -> Value {
        let schema = self.resolved(schema);
        let branches = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(*key)?.as_array());
        if let Some(branches) = branches {
            let branches: Vec<_> = branches.iter().map(|branch| self.resolved(branch)).collect();
            let fits = branches.iter().find(|branch| is_type(branch, type_of(node)));
            let text = || branches.iter().find(|branch| is_any_text(branch));
            return fits.or_else(text).map_or_else(|| node.json(), |branch| self.by(branch, node));
        }
        match &node.data {
            Data::Bool(_) | Data::Int(_) | Data::Float(_) if is_any_text(schema) => {
                Value::String(node.text_for_programs())
            }
            Data::List(items) => match schema.get("items") {
                Some(of) => items.iter().map(|item| self.by(of, item)).collect(),
                None => node.json(),
            },
            Data::Map(entries) => {
                let of = |name: &str| {
                    let named = schema.get("properties").and_then(|p| p.get(name));
                    named.or_else(|| schema.get("additionalProperties"))
                };
                let value = |name: &str, node: &Node| match of(name) {
                    Some(schema) if schema.is_object() => self.by(schema, node),
                    _ => node.json(),
                };
                let entries =
                    entries.iter().map(|(k, node)| (k.name.clone(), value(&k.name, node)));
                Value::Object(entries.collect())
            }
            _ => node.json(),
        }
    }

    /// The schema behind a `$ref`, or itself.
    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let name =
            schema.get("$ref").and_then(Value::as_str).and_then(|t| t.strip_prefix("#/$defs/"));
        name.and_then(|name| self.schema.get("$defs")?.get(name)).unwrap_or(schema)
    }
}

fn type_of(node: &Node) -> &'static str {
    match node.data {
        Data::Null | Data::Broken => "null",
        Data::Bool(_) => "boolean",
        Data::Int(_) => "integer",
        Data::Float(_) => "number",
        Data::Text(_) => "string",
        Data::List(_) => "array",
        Data::Map(_) => "object",
    }
}

fn is_type(schema: &Value, name: &str) -> bool {
    let is = |word: &Value| word == name || (name == "integer" && word == "number");
    match schema.get("type") {
        Some(Value::Array(words)) => words.iter().any(is),
        Some(word) => is(word),
        None => false,
    }
}

/// Whether it is any text, and nothing else but null.
fn is_any_text(schema: &Value) -> bool {
    let others = ["boolean", "integer", "number"];
    is_type(schema, "string")
        && !others.iter().any(|other| is_type(schema, other))
        && schema.get("enum").is_none()
        && schema.get("const").is_none()
}
