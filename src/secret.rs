//! Keeps values that look like secrets out of what is recorded and shown.
//!
//! A value looks like a secret if its name does: the name of a parameter, of an environment variable, or
//! the path after `--set`. Case, `_` and `-` do not matter. The guess errs on the safe side, and it is no
//! substitute for `pass_env`, which hands on a variable without reading its value.

use std::borrow::Cow;
use std::sync::OnceLock;

use serde_json::Value;

/// Stands for a secret.
pub const MASK: &str = "***";

/// A name that contains one of these names a secret.
const WORDS: [&str; 10] = [
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "apikey",
    "credential",
    "privatekey",
    "accesskey",
    "auth",
];

/// The shortest secret of the command line that is looked for in other text: shorter ones are part of
/// ordinary words.
const MIN_HIDDEN_BYTES: usize = 4;

/// Whether a name looks like that of a secret.
#[must_use]
pub fn is_secret(name: &str) -> bool {
    let plain: String = name.to_lowercase().chars().filter(|c| !matches!(c, '_' | '-')).collect();
    WORDS.iter().any(|word| plain.contains(word))
}

/// Whether the value of that name is a secret. A number of tokens, such as `max_tokens: 512`, is not.
fn hides(name: &str, is_number: bool) -> bool {
    is_secret(name) && !(is_number && name.to_lowercase().contains("tokens"))
}

/// A value with every secret in it masked: all of it if `name` looks like a secret, otherwise the members
/// of maps whose names do.
#[must_use]
pub fn mask(name: &str, value: &Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) => value.clone(),
        value if hides(name, value.is_number()) => Value::from(MASK),
        Value::Array(items) => items.iter().map(|item| mask("", item)).collect(),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, inner)| (key.clone(), mask(key, inner))).collect())
        }
        other => other.clone(),
    }
}

/// `NAME=VALUE` as it is recorded and shown.
#[must_use]
pub fn mask_setting(setting: &str) -> Cow<'_, str> {
    let Some((name, value)) = setting.split_once('=') else { return Cow::Borrowed(setting) };
    // A map or a list may name a secret further inside.
    let inside = value.contains([':', '=']) && is_secret(value);
    if inside || hides(name, value.trim().parse::<f64>().is_ok()) {
        return Cow::Owned(format!("{name}={MASK}"));
    }
    Cow::Borrowed(setting)
}

/// A command line as it is recorded and shown: what follows `--set` is masked.
#[must_use]
pub fn mask_command(words: &[String]) -> Vec<String> {
    let mut follows = false;
    let mask_word = |word: &String| {
        if std::mem::replace(&mut follows, word == "--set") {
            follows = false;
            return mask_setting(word).into_owned();
        }
        match word.strip_prefix("--set=") {
            Some(setting) => format!("--set={}", mask_setting(setting)),
            None => word.clone(),
        }
    };
    words.iter().map(mask_word).collect()
}

/// Text in which the secrets that this process was given with `--set` are masked, wherever they are.
#[must_use]
pub fn hide(text: &str) -> Cow<'_, str> {
    static GIVEN: OnceLock<Vec<String>> = OnceLock::new();
    let given = GIVEN.get_or_init(|| {
        let words: Vec<String> =
            std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        secrets_of(&words)
    });
    hide_all(text, given)
}

fn hide_all<'a>(text: &'a str, secrets: &[String]) -> Cow<'a, str> {
    secrets.iter().fold(Cow::Borrowed(text), |text, secret| {
        if text.contains(secret) { Cow::Owned(text.replace(secret, MASK)) } else { text }
    })
}

/// The secrets of a command line, the longest first.
fn secrets_of(words: &[String]) -> Vec<String> {
    let masked = mask_command(words);
    let changed = words.iter().zip(&masked).filter(|(word, masked)| word != masked);
    let value = |(word, masked): (&String, &String)| {
        let kept = masked.len() - MASK.len();
        word[kept..].trim().trim_matches(['"', '\'']).to_owned()
    };
    let mut secrets: Vec<String> =
        changed.map(value).filter(|secret| secret.len() >= MIN_HIDDEN_BYTES).collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in
            ["HF_TOKEN", "db.password", "api-key", "apiKey", "AWS_SECRET", "Auth", "x.PassWd"]
        {
            assert!(is_secret(name), "{name}");
        }
        for name in ["seed", "lr", "keys", "pass_env", "path", ""] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn secrets_are_masked_at_any_depth() {
        let params = json!({
            "env": { "API_TOKEN": "s", "LEVEL": "3", "max_tokens": "s" },
            "list": [{ "password": { "deep": 1 } }],
            "max_tokens": 512, "token": 7, "secret": null,
        });
        let masked = json!({
            "env": { "API_TOKEN": "***", "LEVEL": "3", "max_tokens": "***" },
            "list": [{ "password": "***" }],
            "max_tokens": 512, "token": "***", "secret": null,
        });
        assert_eq!(mask("", &params), masked);
        assert_eq!(mask("api_key", &params), json!("***"));
    }

    #[test]
    fn settings_are_masked_by_name() {
        for (setting, masked) in [
            ("lr=0.1", "lr=0.1"),
            ("token=s", "token=***"),
            ("stages.t.with.env.HF_TOKEN=s=t", "stages.t.with.env.HF_TOKEN=***"),
            ("env={HF_TOKEN: s}", "env=***"),
            ("run=[curl, \"https://x?auth=s\"]", "run=***"),
            ("max_tokens=512", "max_tokens=512"),
            ("token", "token"),
        ] {
            assert_eq!(mask_setting(setting), masked);
        }
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let masked =
            mask_command(&words("dissim run --set token=abcd --set=secret=abcdef x=token=1"));
        assert_eq!(masked.join(" "), "dissim run --set token=*** --set=secret=*** x=token=1");
    }

    #[test]
    fn a_given_secret_is_hidden_everywhere() {
        let words = ["run", "--set", "token=hunter2", "--set=auth=hunter22", "--set", "secret=ab"];
        let secrets = secrets_of(&words.map(str::to_owned));
        assert_eq!(secrets, ["hunter22", "hunter2"]);
        assert_eq!(hide_all("hunter22 t[x=hunter2] ab", &secrets), "*** t[x=***] ab");
    }

    proptest! {
        #[test]
        fn masking_again_changes_nothing(words in proptest::collection::vec("(--set|--set=)?[a-z_]{0,6}(token|auth)?=?[a-z:0-9]{0,4}", 0..5)) {
            let once = mask_command(&words);
            prop_assert_eq!(mask_command(&once), once.clone());
            prop_assert!(secrets_of(&words).iter().all(|secret| secret.len() >= MIN_HIDDEN_BYTES));
        }
    }
}
