//! JSON Schema of pipeline.yaml, for editors, and the reference that is written from it.
//!
//! Both are made from the registry, so a new kind is in them as soon as it is registered.

use std::sync::Arc;

use dissim_api::{Arity, Input, Stage};
use serde_json::{Map, Value, json};

use crate::parse::{ANCHORS, LONGEST_NAME};
use crate::registry::Registry;

/// Where a value may be a reference: `${name}` or `range(..)`.
const REFERENCE: &str = "#/$defs/reference";

/// What a key at the top is for that begins as [`ANCHORS`] does.
const ANCHORS_TEXT: &str = "Anything: it is not read, and is a place for anchors.";

/// A name of an input or an axis.
fn name(marks: &str) -> Value {
    json!({ "pattern": format!("^[A-Za-z0-9_][A-Za-z0-9_{marks}-]*$"), "maxLength": LONGEST_NAME })
}

/// The whole schema.
#[must_use]
pub fn schema(registry: &Registry) -> Value {
    let mut definitions = Map::new();
    definitions.insert(
        "reference".to_owned(),
        json!({
            "description": "A parameter, or a range of whole numbers: ${name}, range(end), range(start, end, step).",
            "type": "string",
            "pattern": "^\\s*(\\$\\{[^}]*\\}|range\\(.*\\))\\s*$",
        }),
    );
    definitions.insert("axes".to_owned(), axes());
    definitions.insert("inputs".to_owned(), named_inputs());
    let mut branches = Vec::new();
    for kind in registry.kinds() {
        let stage = registry.get(kind).expect("a kind that was listed");
        let parameters = with(kind, stage.as_ref(), &mut definitions);
        definitions.insert(format!("with_{kind}"), parameters);
        definitions.insert(format!("needs_{kind}"), needs(stage.as_ref()));
        branches.push(json!({
            "if": { "properties": { "kind": { "const": kind } } },
            "then": { "properties": {
                "with": { "$ref": format!("#/$defs/with_{kind}") },
                "needs": { "$ref": format!("#/$defs/needs_{kind}") },
            } },
        }));
    }
    let kinds: Vec<_> = registry
        .kinds()
        .filter_map(|kind| registry.get(kind))
        .map(|stage| json!({ "const": stage.kind(), "description": stage.summary() }))
        .collect();
    let mut properties = Map::new();
    for (name, what, _) in crate::parse::STAGE_KEYS {
        properties.insert((*name).to_owned(), json!({ "description": what }));
    }
    properties
        .insert("kind".to_owned(), json!({ "description": key_text("kind"), "anyOf": kinds }));
    let matrix =
        json!({ "description": key_text("matrix"), "allOf": [{ "$ref": "#/$defs/axes" }] });
    properties.insert("matrix".to_owned(), matrix);
    properties.insert(
        "sweeps".to_owned(),
        json!({
            "description": key_text("sweeps"), "type": "object", "minProperties": 1,
            "additionalProperties": { "$ref": "#/$defs/axes" },
        }),
    );
    policy(&mut properties);
    definitions.insert(
        "stage".to_owned(),
        json!({
            "type": "object", "required": ["kind"], "properties": properties,
            "additionalProperties": false, "not": { "required": ["matrix", "sweeps"] },
            "allOf": branches,
        }),
    );
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "pipeline.yaml of dissim",
        "type": "object",
        "required": ["version", "name", "stages"],
        "additionalProperties": false,
        "properties": top(),
        "patternProperties": { format!("^{ANCHORS}"): { "description": ANCHORS_TEXT } },
        "$defs": definitions,
    })
}

/// A number of bytes, or a number with its unit.
fn memory() -> Value {
    json!({ "anyOf": [
        { "$ref": REFERENCE },
        { "type": "number", "minimum": 0 },
        { "type": "string", "pattern": "^\\s*[0-9.]+\\s*([kMG]B|[KMG]iB|B)$" },
    ] })
}

/// A number of seconds, or a number with its unit.
fn duration() -> Value {
    json!({ "anyOf": [
        { "$ref": REFERENCE },
        { "type": "number", "exclusiveMinimum": 0 },
        { "type": "string", "pattern": "^\\s*[0-9.]+\\s*(ms|s|m|h|d)$" },
    ] })
}

/// `retry:`, `timeout:`, `grace:` and `resources:`.
fn policy(properties: &mut Map<String, Value>) {
    let reference = json!({ "$ref": REFERENCE });
    let count = |least: u32| {
        let whole = json!({ "type": "integer", "minimum": least, "maximum": 1000 });
        json!({ "anyOf": [whole, reference] })
    };
    let (duration, memory) = (duration(), memory());
    let text = json!({ "anyOf": [reference, { "type": "string", "minLength": 1 }] });
    let map = |entries: Value| json!({ "type": "object", "properties": entries, "additionalProperties": false });
    let retry = map(json!({ "times": count(0), "wait": duration }));
    let schemas = [
        ("retry", json!({ "anyOf": [count(0), retry] })),
        ("timeout", duration.clone()),
        ("grace", duration.clone()),
        (
            "resources",
            json!({ "anyOf": [reference, map(json!({ "cpus": count(1), "memory": memory, "gres": text, "partition": text }))] }),
        ),
    ];
    for (name, mut schema) in schemas {
        schema["description"] = json!(key_text(name));
        properties.insert(name.to_owned(), schema);
    }
}

/// What a key of a stage means.
fn key_text(name: &str) -> &'static str {
    let found = crate::parse::STAGE_KEYS.iter().find(|(key, ..)| *key == name);
    found.map_or("", |(_, what, _)| what)
}

fn top() -> Value {
    let mut properties = Map::new();
    for (name, what, _) in crate::parse::TOP_KEYS {
        let mut schema = match *name {
            "version" => json!({ "const": 1 }),
            "name" | "default_profile" => json!({ "type": "string", "minLength": 1 }),
            "backend" => json!({ "enum": crate::registry::BACKENDS }),
            "device" => json!({ "type": "string", "pattern": "^(cpu|cuda:[0-9]+)$" }),
            "params" => json!({ "type": ["object", "null"] }),
            "profiles" => json!({
                "type": ["object", "null"], "additionalProperties": { "type": "object" },
            }),
            "stages" => json!({
                "type": "object", "minProperties": 1,
                "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_-]*$", "maxLength": LONGEST_NAME },
                "additionalProperties": { "$ref": "#/$defs/stage" },
            }),
            "store" => store(),
            "executors" => executors(),
            _ => json!({}),
        };
        schema["description"] = json!(what);
        properties.insert((*name).to_owned(), schema);
    }
    Value::Object(properties)
}

/// `executors:`.
fn executors() -> Value {
    let text = json!({ "type": "string", "minLength": 1 });
    let texts = json!({ "type": "array", "items": text });
    let mut properties = Map::new();
    for (name, what, _) in crate::parse::SLURM_KEYS {
        let mut schema = match *name {
            "time" | "poll" => duration(),
            "memory" => memory(),
            "cpus" | "array" | "at_once" => json!({ "type": "integer", "minimum": 1 }),
            "modules" | "extra" => texts.clone(),
            _ => text.clone(),
        };
        schema["description"] = json!(what);
        properties.insert((*name).to_owned(), schema);
    }
    let slurm = json!({ "type": ["object", "null"], "properties": properties, "additionalProperties": false });
    json!({ "type": "object", "properties": { "slurm": slurm }, "additionalProperties": false })
}

/// `store:`.
fn store() -> Value {
    let schemes = crate::remote::SCHEMES.join("|");
    let mut properties = Map::new();
    for (name, what, _) in crate::parse::STORE_KEYS {
        let mut schema = match *name {
            "remote" => json!({ "anyOf": [
                { "$ref": REFERENCE }, { "type": "string", "pattern": format!("^({schemes})://") },
            ] }),
            "mode" => json!({ "enum": ["read", "readwrite"] }),
            "trusted" => json!({
                "type": "array", "minItems": 1,
                "items": { "type": "string", "pattern": "^ed25519:[0-9a-fA-F]{64}$" },
            }),
            _ => duration(),
        };
        schema["description"] = json!(what);
        properties.insert((*name).to_owned(), schema);
    }
    json!({
        "type": "object", "required": ["remote"], "properties": properties,
        "additionalProperties": false,
    })
}

/// `axis: [values]`, `axis: value` or a reference.
fn axes() -> Value {
    json!({
        "type": "object",
        "propertyNames": name("."),
        "additionalProperties": {
            "anyOf": [
                { "$ref": REFERENCE },
                { "type": "array", "minItems": 1 },
                { "type": ["string", "number", "boolean"] },
            ],
        },
    })
}

fn named_inputs() -> Value {
    json!({
        "description": "A stage, tasks of it such as train[seed=0], or a list of them.",
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }],
    })
}

/// `needs:` of a kind.
fn needs(stage: &dyn Stage) -> Value {
    let input = json!({ "$ref": "#/$defs/inputs" });
    if stage.traits().open_inputs {
        return json!({ "type": "object", "propertyNames": name(""), "additionalProperties": input });
    }
    let properties: Map<_, _> =
        stage.inputs().iter().map(|i| (i.name.to_owned(), input.clone())).collect();
    let required: Vec<_> = stage.inputs().iter().filter(|i| i.required).map(|i| i.name).collect();
    json!({
        "type": "object", "properties": properties, "required": required,
        "additionalProperties": false,
    })
}

/// `with:` of a kind: its own schema, where every value may be a reference, and none is required,
/// since an axis may give it. Definitions move to the top under names of their own.
fn with(kind: &str, stage: &dyn Stage, definitions: &mut Map<String, Value>) -> Value {
    let mut own = stage.schema();
    if let Some(Value::Object(inner)) = own.as_object_mut().and_then(|o| o.remove("$defs")) {
        for (name, mut schema) in inner {
            rename_references(&mut schema, kind);
            definitions.insert(format!("{kind}_{name}"), schema);
        }
    }
    rename_references(&mut own, kind);
    let mut properties = Map::new();
    for (name, schema) in own.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let mut schema = schema.clone();
        accept_numbers(&mut schema);
        let mut either = json!({ "anyOf": [schema, { "$ref": REFERENCE }] });
        for note in ["description", "default"] {
            if let Some(value) = schema.get(note) {
                either[note] = value.clone();
            }
        }
        properties.insert(name.clone(), either);
    }
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

/// Where a parameter is any text, a number or boolean is text as it is written.
fn accept_numbers(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            let is_text = map.get("type") == Some(&json!("string"));
            if is_text && !["enum", "const", "pattern"].iter().any(|key| map.contains_key(*key)) {
                map.insert("type".to_owned(), json!(["string", "number", "boolean"]));
            }
            map.values_mut().for_each(accept_numbers);
        }
        Value::Array(items) => items.iter_mut().for_each(accept_numbers),
        _ => {}
    }
}

/// `#/$defs/X` inside a kind's schema becomes `#/$defs/kind_X`.
fn rename_references(schema: &mut Value, kind: &str) {
    match schema {
        Value::Object(map) => {
            for (name, value) in map {
                match value {
                    Value::String(target) if name == "$ref" => {
                        *target = target.replace("#/$defs/", &format!("#/$defs/{kind}_"));
                    }
                    other => rename_references(other, kind),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename_references(item, kind)),
        _ => {}
    }
}

/// The reference of pipeline.yaml, as markdown.
#[must_use]
pub fn reference(registry: &Registry) -> String {
    let mut text = "# pipeline.yaml, version 1\n\nWritten by `dissim schema --markdown`; a test keeps it current. \
                    `dissim schema` prints the same as a JSON Schema, which is checked in as \
                    `pipeline.schema.json`. An editor with a YAML language server completes and checks by it when the \
                    file begins with\n\n```yaml\n# yaml-language-server: $schema=pipeline.schema.json\n```\n\n"
        .to_owned();
    text += "## The file\n\n| key | required | meaning |\n|---|---|---|\n";
    text += &rows(crate::parse::TOP_KEYS);
    text += &format!("| `{ANCHORS}..` |  | {ANCHORS_TEXT} |\n");
    text += "\n## A stage\n\n| key | required | meaning |\n|---|---|---|\n";
    text += &rows(crate::parse::STAGE_KEYS);
    text += "\n## executors: slurm\n\n| key | required | meaning |\n|---|---|---|\n";
    text += &rows(crate::parse::SLURM_KEYS);
    text += "\n## The shared store\n\n| key | required | meaning |\n|---|---|---|\n";
    text += &rows(crate::parse::STORE_KEYS);
    text += "\n## Values\n\n\
             - `${name}` is the value of a parameter: of `params`, overlaid by the profile, overlaid by `--set`. It must be \
             the whole value and keeps its type. `$${` is a literal `${`.\n\
             - `range(end)`, `range(start, end)` and `range(start, end, step)` are lists of whole numbers as in Python; \
             an argument may be `${name}`.\n\
             - Under `needs`, `stage` is the task of that stage with the same values on the axes that both have; \
             `stage[*]` is all of its tasks, and `stage[axis=value]` those that match; a value may hold `*` and `?`. The name of a task, and \
             a value as it is written, mean what is called exactly that.\n\
             - Values are those of YAML 1.2: `no`, `on` and `y` are text, `true`, `false`, `null` and numbers are not. Text that only \
             some programs read as a number, such as `017`, `1_000` and `0b11`, is an error: write it in quotes. A number reaches a \
             program, and stands in the name of a task, as it is written: `3.10`, `1e-3`. Where a parameter is text, a number or \
             boolean is text as it is written.\n\
             - Names of stages, inputs and axes are letters, digits, `_` and `-`; those of axes may have `.` too. No two inputs, and no \
             two axes, of a stage may become one environment variable.\n\
             - A profile and `--set` replace parameters by name, parts of them by path (`sizes.small`), and other values by path \
             (`stages.train.with.epochs`). In a profile, maps under `stages` are merged.\n\
             - Under `matrix`, a single value is a list of one. The tasks of `sweeps` are the union of its grids; equal \
             tasks are one task.\n";
    for kind in registry.kinds() {
        let stage = registry.get(kind).expect("a kind that was listed");
        text += &kind_section(stage);
    }
    text
}

fn rows(keys: &[(&str, &str, bool)]) -> String {
    let row = |(name, what, required): &(&str, &str, bool)| {
        format!("| `{name}` | {} | {what} |\n", if *required { "yes" } else { "" })
    };
    keys.iter().map(row).collect()
}

fn kind_section(stage: &Arc<dyn Stage>) -> String {
    let mut text = format!("\n## kind: {}\n\n{}\n", stage.kind(), stage.summary());
    let traits = stage.traits();
    if traits.open_inputs {
        text += "\nInputs: any, under names of your own.\n";
    } else if stage.inputs().is_empty() {
        text += "\nInputs: none.\n";
    } else {
        let inputs: Vec<_> = stage.inputs().iter().map(input_text).collect();
        text += &format!("\nInputs: {}.\n", inputs.join(", "));
    }
    if traits.open_axes {
        text += "\nAxes: any; one that is no parameter is handed to the program.\n";
    }
    if traits.published {
        text += "\nWhat it makes is copied to `reports/` at the end of a run.\n";
    }
    let schema = stage.schema();
    let properties = schema.get("properties").and_then(Value::as_object);
    let Some(properties) = properties.filter(|p| !p.is_empty()) else {
        return text + "\nIt has no parameters.\n";
    };
    text += "\n| parameter | type | default | meaning |\n|---|---|---|---|\n";
    let required = schema.get("required").and_then(Value::as_array);
    for (name, property) in properties {
        let needed = required.is_some_and(|r| r.iter().any(|v| v == name));
        let default = match property.get("default") {
            Some(value) if !value.is_null() => format!("`{value}`"),
            _ if needed => "required".to_owned(),
            _ => String::new(),
        };
        text += &format!(
            "| `{name}` | {} | {default} | {} |\n",
            type_text(property, &schema),
            description(property, &schema)
        );
    }
    text
}

fn input_text(input: &Input) -> String {
    let many = if input.arity == Arity::Many { ", any number" } else { "" };
    let optional = if input.required { "" } else { ", optional" };
    format!("`{}`{many}{optional}", input.name)
}

/// The property behind a `$ref`, or itself.
fn resolved<'a>(property: &'a Value, schema: &'a Value) -> &'a Value {
    let target = property.get("$ref").and_then(Value::as_str);
    let name = target.and_then(|t| t.strip_prefix("#/$defs/"));
    name.and_then(|n| schema.get("$defs")?.get(n)).unwrap_or(property)
}

fn description(property: &Value, schema: &Value) -> String {
    let of = |p: &Value| p.get("description").and_then(Value::as_str).map(str::to_owned);
    let text = of(property).or_else(|| of(resolved(property, schema))).unwrap_or_default();
    text.replace('\n', " ").replace('|', "\\|")
}

/// A property's type in a few words; of a choice, the choices.
fn type_text(property: &Value, schema: &Value) -> String {
    let property = resolved(property, schema);
    let list = |of: &Value| of.as_array().cloned().unwrap_or_default();
    if let Some(value) = property.get("const") {
        return format!("`{}`", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    if let Some(choices) = property.get("enum") {
        let choices: Vec<_> =
            list(choices).iter().filter_map(Value::as_str).map(|c| format!("`{c}`")).collect();
        return choices.join(", ");
    }
    for of in ["oneOf", "anyOf"] {
        if let Some(branches) = property.get(of) {
            let mut texts: Vec<_> = list(branches).iter().map(|b| type_text(b, schema)).collect();
            texts.retain(|t| t != "nothing");
            texts.dedup();
            return texts.join(", ");
        }
    }
    let name = |word: &str| match word {
        "integer" => "whole number".to_owned(),
        "string" => "text".to_owned(),
        "boolean" => "true or false".to_owned(),
        "null" => "nothing".to_owned(),
        "array" => match property.get("items") {
            Some(items) => format!("list of {}", type_text(items, schema)),
            None => "list".to_owned(),
        },
        "object" => "map".to_owned(),
        other => other.to_owned(),
    };
    match property.get("type") {
        Some(Value::String(word)) => name(word),
        Some(Value::Array(words)) => {
            let words = words.iter().filter_map(Value::as_str).filter(|w| *w != "null");
            words.map(name).collect::<Vec<_>>().join(" or ")
        }
        _ => "any".to_owned(),
    }
}
