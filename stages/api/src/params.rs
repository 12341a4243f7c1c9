//! Parameters: from what the user wrote to a complete, canonical map.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Parameters of a task by name. The map is sorted, so its JSON is canonical.
pub type Params = Map<String, Value>;

/// One thing wrong with one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamError {
    /// The parameter, or `None` where the error is about all of them.
    pub name: Option<String>,
    /// What is wrong, as one sentence without a full stop.
    pub message: String,
}

impl ParamError {
    /// An error about parameter `name`.
    pub fn new(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self { name: Some(name.into()), message: message.into() }
    }
}

/// JSON Schema of a parameter struct.
#[must_use]
pub fn schema<T: JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}

/// Reads `given` as `T` and writes it out again, so that defaults are filled in and equal
/// parameters are equal JSON (`1` becomes `1.0` where the field is a float).
///
/// # Errors
/// All unknown, missing and ill-typed parameters at once.
pub fn resolve<T>(given: &Params) -> Result<(T, Params), Vec<ParamError>>
where
    T: DeserializeOwned + Serialize + JsonSchema + 'static,
{
    let mut errors = shape_errors(given, kept_schema::<T>());
    if errors.is_empty() {
        // The plain way first: the other one, which finds every error, costs a copy.
        match T::deserialize(given).or_else(|_| typed::<T>(given)) {
            Ok(value) => {
                let Ok(Value::Object(params)) = serde_json::to_value(&value) else {
                    unreachable!("a parameter struct serialises as an object");
                };
                return Ok((value, params));
            }
            Err(found) => errors = found,
        }
    } else {
        let known: Params = given
            .iter()
            .filter(|(name, _)| !errors.iter().any(|e| e.name.as_ref() == Some(*name)))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        // A missing parameter stops serde before it has seen the others; then the list is shorter.
        let typed = typed::<T>(&known).err().unwrap_or_default();
        errors.extend(typed.into_iter().filter(|e| e.name.is_some()));
    }
    Err(errors)
}

/// The schema of a type, made once: a study resolves thousands of tasks.
fn kept_schema<T: JsonSchema + 'static>() -> &'static Value {
    static KEPT: Mutex<BTreeMap<TypeId, &'static Value>> = Mutex::new(BTreeMap::new());
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    // Kept for as long as the process lives: there are as many as there are stage kinds.
    kept.entry(TypeId::of::<T>()).or_insert_with(|| Box::leak(Box::new(schema::<T>())))
}

/// Unknown and missing names, by the schema.
fn shape_errors(given: &Params, schema: &Value) -> Vec<ParamError> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let known: Vec<&str> =
        properties.map(|p| p.keys().map(String::as_str).collect()).unwrap_or_default();
    let required = schema.get("required").and_then(Value::as_array);
    let unknown = given.keys().filter(|k| !known.contains(&k.as_str())).map(|name| {
        ParamError::new(name, format!("unknown parameter `{name}`; known are {}", known.join(", ")))
    });
    let missing = required
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter(|name| !given.contains_key(*name))
        .map(|name| ParamError { name: None, message: format!("parameter `{name}` is missing") });
    unknown.chain(missing).collect()
}

/// Deserialises, replacing one bad item, or taking out one bad parameter, at a time, so that all of them are
/// reported. The name of an error is the path of the item, such as `run[3]`.
fn typed<T: DeserializeOwned>(given: &Params) -> Result<T, Vec<ParamError>> {
    let mut rest = Value::Object(given.clone());
    let mut errors: Vec<ParamError> = Vec::new();
    // What a bad item is replaced by, one after the other. Most items are text or numbers.
    let stand_ins = [Value::from("text"), Value::from(0)];
    let mut replaced: BTreeMap<String, usize> = BTreeMap::new();
    loop {
        let error = match serde_path_to_error::deserialize(rest.clone()) {
            Ok(value) if errors.is_empty() => return Ok(value),
            Ok(_) => return Err(errors),
            Err(error) => error,
        };
        let path = error.path().to_string();
        let message = in_words(&error.into_inner().to_string());
        let name = path.split(['.', '[']).next().unwrap_or_default();
        let tried = replaced.entry(path.clone()).or_default();
        let is_item = !name.is_empty() && path != name;
        let stand_in = stand_ins.get(*tried).filter(|_| is_item);
        if let Some((stand_in, item)) = stand_in.zip(item(&mut rest, &path)) {
            *item = stand_in.clone();
        } else if rest.as_object_mut().and_then(|rest| rest.remove(name)).is_none() {
            if errors.is_empty() {
                errors.push(ParamError { name: None, message });
            }
            return Err(errors);
        }
        if *tried == 0 {
            errors.push(ParamError::new(&path, format!("`{path}`: {message}")));
        }
        *tried += 1;
    }
}

/// The value at a path such as `run[3]`.
fn item<'v>(value: &'v mut Value, path: &str) -> Option<&'v mut Value> {
    let parts = path.split(['.', '[', ']']).filter(|part| !part.is_empty());
    parts.into_iter().try_fold(value, |value, part| match value {
        Value::Array(items) => items.get_mut(part.parse::<usize>().ok()?),
        Value::Object(map) => map.get_mut(part),
        _ => None,
    })
}

/// What serde says, in the words of who writes pipeline.yaml.
fn in_words(message: &str) -> String {
    if let Some((written, choices)) =
        message.strip_prefix("unknown variant ").and_then(|m| m.split_once(", expected "))
    {
        return format!("{written} is not a choice; it must be {choices}");
    }
    let wrong = ["invalid type: ", "invalid value: "].iter().find_map(|p| message.strip_prefix(p));
    let Some((given, expected)) = wrong.and_then(|m| m.split_once(", expected ")) else {
        return message.to_owned();
    };
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a string" => "text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        other => other,
    };
    let given = match given {
        "null" | "unit value" => "nothing",
        "map" => "a map",
        "sequence" => "a list",
        other => other.split_once(' ').map_or(other, |(_, value)| value),
    };
    format!("must be {expected}, and is {given}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Example {
        data: String,
        #[serde(default = "one")]
        lambda: f64,
        #[serde(default)]
        epochs: u32,
    }

    fn one() -> f64 {
        1.0
    }

    fn object(value: Value) -> Params {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn defaults_and_number_forms_are_canonical() {
        let short = resolve::<Example>(&object(json!({"data": "x"}))).unwrap().1;
        let long = object(json!({"data": "x", "lambda": 1, "epochs": 0}));
        let long = resolve::<Example>(&long).unwrap().1;
        assert_eq!(Value::Object(short.clone()).to_string(), Value::Object(long).to_string());
        assert_eq!(short["lambda"].to_string(), "1.0");
    }

    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    struct Lists {
        #[serde(default)]
        run: Vec<String>,
        #[serde(default)]
        env: BTreeMap<String, String>,
        #[serde(default)]
        sizes: Vec<u32>,
    }

    #[test]
    fn every_wrong_item_is_reported() {
        let given = object(json!({
            "run": ["a", [1], null, "b", {}], "env": {"A": 1, "B": "x", "C": null}, "sizes": [1, "x", -1],
        }));
        let errors = resolve::<Lists>(&given).unwrap_err();
        let text: Vec<_> = errors.iter().map(|e| e.message.as_str()).collect();
        insta::assert_snapshot!(text.join("\n"), @r#"
        `env.A`: must be text, and is `1`
        `env.C`: must be text, and is nothing
        `run[1]`: must be text, and is a list
        `run[2]`: must be text, and is nothing
        `run[4]`: must be text, and is a map
        `sizes[1]`: must be a whole number from 0, and is "x"
        `sizes[2]`: must be a whole number from 0, and is `-1`
        "#);
        assert_eq!(errors[2].name.as_deref(), Some("run[1]"));
    }

    #[test]
    fn every_error_is_reported() {
        let given = object(json!({"data": 3, "lamda": 1, "epochs": -1}));
        let errors = resolve::<Example>(&given).unwrap_err();
        let text: Vec<_> = errors.iter().map(|e| e.message.as_str()).collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        unknown parameter `lamda`; known are data, epochs, lambda
        `data`: must be text, and is `3`
        `epochs`: must be a whole number from 0, and is `-1`
        ");
        let errors = resolve::<Example>(&object(json!({"lambda": "x"}))).unwrap_err();
        assert_eq!(errors[0].message, "parameter `data` is missing");
        assert_eq!(errors[1].message, "`lambda`: must be a number, and is \"x\"");
    }
}
