//! `claims:` and `tables:`: lists of maps that the report reads, checked before anything runs.

use std::collections::BTreeSet;

use dissim_api::{ParamError, Params};
use serde_json::Value;

use super::errors::{PipelineError, suggest_or_list};
use super::values::Values;
use super::yaml::{Data, Key, Node};
use crate::registry::ResultColumns;

/// Reads a list of claims or tables: `check` finds what is wrong with one, `name` is the key that
/// names it, and must be unique.
pub(super) fn read(
    list: Option<&(Key, Node)>,
    name: &str,
    values: &Values,
    columns: &ResultColumns,
    check: impl Fn(&Params) -> Vec<ParamError>,
    errors: &mut Vec<PipelineError>,
) -> Vec<Params> {
    let Some((key, node)) = list else { return Vec::new() };
    let items = match &node.data {
        Data::Null => return Vec::new(),
        Data::List(items) => items,
        _ => {
            let message = format!("`{}` must be a list, and is {}", key.name, node.kind());
            errors.push(PipelineError::new(node.place.clone(), message));
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    let mut names = BTreeSet::new();
    for item in items {
        if !matches!(item.data, Data::Map(_)) {
            let message =
                format!("an entry of `{}` must be a map, and is {}", key.name, item.kind());
            errors.push(PipelineError::new(item.place.clone(), message));
            continue;
        }
        let Some(Value::Object(params)) = values.value(item, errors) else { continue };
        errors.extend(check(&params).into_iter().map(|e| located(e, item, columns)));
        if let Some(node) = item.get(name)
            && let Some(text) = node.text()
            && !names.insert(text.to_owned())
        {
            let message = format!("two entries of `{}` have the {name} `{text}`", key.name);
            errors.push(PipelineError::new(node.place.clone(), message));
        }
        found.push(params);
    }
    found
}

/// The error at the place of the part that its path names, or at the nearest part around it.
fn located(error: ParamError, item: &Node, columns: &ResultColumns) -> PipelineError {
    let path = error.name.unwrap_or_default();
    let (mut node, mut place) = (item, &item.place);
    for part in path.split('.') {
        let found = node.entries().iter().find(|(key, _)| key.name == part);
        let Some((key, inner)) = found else { break };
        // A map is shown by its name: the rest of it may fill many lines.
        place = if matches!(inner.data, Data::Map(_) | Data::List(_)) {
            &key.place
        } else {
            &inner.place
        };
        node = inner;
    }
    let help = suggestion_for(&error.message, columns);
    let built = PipelineError::new(place.clone(), error.message);
    match help {
        Some(help) => built.help(help),
        None => built,
    }
}

/// The closest column, where the message says that there is none of a name.
fn suggestion_for(message: &str, columns: &ResultColumns) -> Option<String> {
    let after = |start: &str| message.strip_prefix(start)?.strip_suffix('`');
    if let Some(written) = after("runs have no metric `") {
        let names: Vec<_> = columns.metrics.iter().map(String::as_str).collect();
        return Some(suggest_or_list(written, &names));
    }
    let written = after("runs have no column `")?;
    let names: Vec<_> = columns.facts.iter().map(String::as_str).collect();
    Some(suggest_or_list(written, &names))
}
