//! The weight of a penalty as pipeline.yaml writes it: `lambda: 1.25`, or `lambda: { target: 0.5 }`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The weight of a penalty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lambda {
    /// This weight.
    Fixed(f64),
    /// The weight that holds the mean similarity of the pairs at this value.
    Target(f64),
}

impl Lambda {
    /// 0 made of -0: the two train alike, and so must be one task.
    pub(super) fn canonical(self) -> Self {
        match self {
            Self::Fixed(weight) => Self::Fixed(weight + 0.0),
            Self::Target(similarity) => Self::Target(similarity + 0.0),
        }
    }
}

impl Serialize for Lambda {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(weight) => serializer.serialize_f64(*weight),
            Self::Target(similarity) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("target", similarity)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Lambda {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either)
    }
}

/// Reads a number, or a map with `target`.
struct Either;

impl<'de> Visitor<'de> for Either {
    type Value = Lambda;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or { target: similarity }")
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Lambda, E> {
        Ok(Lambda::Fixed(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Lambda, E> {
        Ok(Lambda::Fixed(value as f64))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Lambda, E> {
        Ok(Lambda::Fixed(value as f64))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Lambda, A::Error> {
        let mut target = None;
        while let Some(key) = map.next_key::<String>()? {
            if key != "target" {
                return Err(Error::custom(format!(
                    "has no `{key}`; it is a number or has `target`"
                )));
            }
            target = Some(map.next_value()?);
        }
        target.map(Lambda::Target).ok_or_else(|| Error::custom("is a number, or has `target`"))
    }
}

impl JsonSchema for Lambda {
    fn schema_name() -> Cow<'static, str> {
        "Lambda".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "number", "minimum": 0 },
                {
                    "type": "object",
                    "properties": { "target": { "type": "number", "minimum": -1, "maximum": 1 } },
                    "required": ["target"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_forms_survive_writing_and_reading() {
        for (text, value) in [
            (json!(1), Lambda::Fixed(1.0)),
            (json!(0.25), Lambda::Fixed(0.25)),
            (json!({"target": 0.5}), Lambda::Target(0.5)),
        ] {
            assert_eq!(serde_json::from_value::<Lambda>(text).unwrap(), value);
            let written = serde_json::to_value(value).unwrap();
            assert_eq!(serde_json::from_value::<Lambda>(written).unwrap(), value);
        }
    }

    #[test]
    fn anything_else_is_named() {
        let said = |value: serde_json::Value| {
            serde_json::from_value::<Lambda>(value).unwrap_err().to_string()
        };
        insta::assert_snapshot!(
            [json!("x"), json!({}), json!({"targt": 1}), json!({"target": "x"})]
                .map(said)
                .join("\n")
        );
    }
}
