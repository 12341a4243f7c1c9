//! A value of an axis: as JSON, as it was written, and what it is equal to.

use std::rc::Rc;

use serde_json::Value;

use crate::parse::Node;

/// Axes of a task in order.
pub(crate) type Axes = Vec<(String, Rc<AxisValue>)>;

/// A value of an axis.
#[derive(Debug)]
pub(crate) struct AxisValue {
    /// The value and its place in the file.
    pub node: Node,
    pub value: Value,
    /// As it stands in the name of a task and as a program gets it.
    pub text: String,
    /// The same text for all values that are equal, such as 1 and 1.0.
    pub normal: String,
}

impl AxisValue {
    /// The value of a node; `parameter` is the one that gave the whole list.
    pub fn new(mut node: Node, parameter: Option<&Rc<str>>) -> Self {
        node.parameter = node.parameter.or_else(|| parameter.cloned());
        let value = node.json();
        Self { text: node.text_for_programs(), normal: normal(&value), value, node }
    }

    /// The value for the parameter `matrix` of a program: the text as it was written, if JSON would write
    /// the value otherwise.
    pub fn for_program(&self) -> Value {
        let json = self.value.to_string();
        if self.value.is_string() || json == self.text {
            self.value.clone()
        } else {
            Value::String(self.text.clone())
        }
    }
}

/// Whether a value is the number that `text` is in other words: `0.001` is `1e-3`.
pub(crate) fn is_number(value: &Value, text: &str) -> bool {
    let other = || crate::parse::number(text).map(|number| normal(&number));
    value.is_number() && other().is_some_and(|other| other == normal(value))
}

/// A value as text that is the same for equal values.
fn normal(value: &Value) -> String {
    match value {
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => whole.to_string(),
            // Every whole number below 2^53 is an `f64`, and below that no two are the same one.
            (None, Some(float))
                if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 =>
            {
                (float as i64).to_string()
            }
            (None, Some(float)) => format!("{float:?}"),
            (None, None) => number.to_string(),
        },
        Value::Array(items) => {
            format!("[{}]", items.iter().map(normal).collect::<Vec<_>>().join(","))
        }
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| {
                format!("{}:{}", Value::from(key.as_str()), normal(value))
            };
            format!("{{{}}}", map.iter().map(entry).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn equal_values_have_one_normal_form() {
        assert_eq!(normal(&json!([1, 0.5, {"a": 2}])), normal(&json!([1.0, 0.5, {"a": 2.0}])));
        assert_eq!(normal(&json!(-0.0)), normal(&json!(0)));
        assert_ne!(normal(&json!(1)), normal(&json!("1")));
        assert_ne!(
            normal(&json!(9_007_199_254_740_993_i64)),
            normal(&json!(9_007_199_254_740_992_i64))
        );
    }
}
