//! Text as each format wants it: values in words, and what must be escaped.

pub(crate) use dissim_aggregate::text::{csv, markdown, plain};
use serde_json::Value;

/// A value as people write it; nothing is a dash.
pub(crate) fn value(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(x) => format!("{x}"),
            None => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// Text in LaTeX. A character that no standard font has is named by its code point, so that the
/// document compiles whatever it holds.
pub(crate) fn latex(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out += "\\textbackslash{}",
            '~' => out += "\\textasciitilde{}",
            '^' => out += "\\textasciicircum{}",
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out += "$<$",
            '>' => out += "$>$",
            '|' => out += "$|$",
            '"' => out += "\\textquotedbl{}",
            'λ' => out += "$\\lambda$",
            'τ' => out += "$\\tau$",
            'ε' => out += "$\\varepsilon$",
            '±' => out += "$\\pm$",
            '×' => out += "$\\times$",
            '·' => out += "$\\cdot$",
            '≥' => out += "$\\geq$",
            '≤' => out += "$\\leq$",
            // At the start of a row they would be read as an argument of the line break before it.
            '[' | ']' | '*' => {
                out.push('{');
                out.push(c);
                out.push('}');
            }
            c if c.is_control() => out.push(' '),
            ' '..='~' => out.push(c),
            other => out += &format!("\\texttt{{U+{:04X}}}", u32::from(other)),
        }
    }
    out.replace("\\textquotedbl{}", "''")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_in_words() {
        let shown: Vec<_> =
            [json!(null), json!("a"), json!(1.0), json!(0.25), json!(8), json!(true)]
                .iter()
                .map(value)
                .collect();
        assert_eq!(shown, ["-", "a", "1", "0.25", "8", "true"]);
    }

    #[test]
    fn latex_and_markdown_are_escaped() {
        assert_eq!(
            latex(r"50% of a_b & \c{d} λ 漢"),
            r"50\% of a\_b \& \textbackslash{}c\{d\} $\lambda$ \texttt{U+6F22}"
        );
        assert_eq!(latex("[64,64]*\u{1b}"), "{[}64,64{]}{*} ");
        assert_eq!(markdown("a|b <i>*c*\n"), "a\\|b &lt;i&gt;\\*c\\* ");
    }
}
