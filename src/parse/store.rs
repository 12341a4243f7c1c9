//! `store:` of pipeline.yaml.

use std::time::Duration;

use serde_json::Value;

use super::errors::{PipelineError, suggest_or_list};
use super::policy;
use super::values::Values;
use super::yaml::{Data, Node};
use crate::remote::{Mode, PublicKey, Settings};

/// The keys: name, meaning, whether it is required.
pub(crate) const KEYS: &[(&str, &str, bool)] = &[
    (
        "remote",
        "Where it is: `s3://bucket/folder` (S3 and what speaks it), `gs://`, `az://`, `abfss://`, `https://` (WebDAV), `file:///folder`. Credentials come from the environment.",
        true,
    ),
    (
        "mode",
        "`read` takes results from it, `readwrite` sends them there too; `read` by default.",
        false,
    ),
    (
        "trusted",
        "Public keys; a record that none of them signed is refused, and computed here.",
        false,
    ),
    ("lease", "How long a claim on a task holds without a sign of life; `60s` by default.", false),
];
/// A shorter lease could not be kept alive over a network.
const SHORTEST_LEASE: Duration = Duration::from_secs(2);

/// Reads the section; none, with errors, where it is wrong.
pub(super) fn read(
    node: &Node,
    values: &Values,
    errors: &mut Vec<PipelineError>,
) -> Option<Settings> {
    let before = errors.len();
    let mut error = |node: &Node, message: String| {
        errors.push(PipelineError::new(node.place.clone(), message));
    };
    if !matches!(node.data, Data::Map(_)) {
        let message = format!("`store` must be a map, and is {}", node.kind());
        error(node, message);
        return None;
    }
    let Some(address) = node.get("remote") else {
        error(node, "`store` has no `remote`: where is it?".to_owned());
        return None;
    };
    let mut settings = match values.value(address, &mut Vec::new()) {
        Some(Value::String(text)) => match Settings::new(&text) {
            Ok(settings) => Some(settings),
            Err(what) => {
                error(address, what);
                None
            }
        },
        _ => {
            error(address, "`remote` must be an address, such as `s3://bucket/folder`".to_owned());
            None
        }
    };
    for (key, node) in node.entries() {
        let value = values.value(node, errors);
        let text = value.as_ref().and_then(Value::as_str);
        let place = node.place.clone();
        match (key.name.as_str(), &mut settings) {
            ("remote", _) => {}
            ("mode", settings) => match (text, settings) {
                (Some("read"), _) => {}
                (Some("readwrite"), Some(settings)) => settings.mode = Mode::ReadWrite,
                (Some("readwrite"), None) => {}
                _ => errors.push(PipelineError::new(place, "`mode` must be `read` or `readwrite`")),
            },
            ("trusted", settings) => {
                let keys = trusted(value.as_ref());
                match (keys, settings) {
                    (Ok(keys), Some(settings)) => settings.trusted = keys,
                    (Ok(_), None) => {}
                    (Err(what), _) => errors.push(PipelineError::new(place, what)),
                }
            }
            ("lease", settings) => {
                let lease = policy::duration(key, node, errors);
                match (lease, settings) {
                    (Some(lease), _) if lease < SHORTEST_LEASE => {
                        errors.push(PipelineError::new(place, "`lease` must be at least 2s"));
                    }
                    (Some(lease), Some(settings)) => settings.lease = lease,
                    _ => {}
                }
            }
            (name, _) => {
                let known: Vec<&str> = KEYS.iter().map(|(name, ..)| *name).collect();
                let message = format!("unknown key `{name}` in `store`");
                let help = suggest_or_list(name, &known);
                errors.push(PipelineError::new(key.place.clone(), message).help(help));
            }
        }
    }
    settings.filter(|_| errors.len() == before)
}

fn trusted(value: Option<&Value>) -> Result<Vec<PublicKey>, String> {
    let Some(Value::Array(items)) = value else {
        return Err("`trusted` must be a list of public keys".to_owned());
    };
    let key = |item: &Value| match item.as_str() {
        Some(text) => PublicKey::try_from(text.to_owned()),
        None => Err(format!("`{item}` is no public key")),
    };
    let keys: Vec<PublicKey> = items.iter().map(key).collect::<Result<_, _>>()?;
    // An empty list would trust everybody, which is not what it says.
    if keys.is_empty() {
        Err("`trusted` is empty: nothing could be believed".to_owned())
    } else {
        Ok(keys)
    }
}
