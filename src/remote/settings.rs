//! What pipeline.yaml says of the remote store: `store:`. Plain data, without credentials.

use std::time::Duration;

use super::sign::PublicKey;

/// The kinds of address that are understood.
pub const SCHEMES: [&str; 9] = ["file", "s3", "s3a", "gs", "az", "abfs", "abfss", "https", "http"];
/// How long a claim holds without a sign of life, where nothing else is said.
const LEASE: Duration = Duration::from_secs(60);

/// `store:` of pipeline.yaml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where it is, such as `s3://bucket/folder`.
    pub address: String,
    /// What it is used for.
    pub mode: Mode,
    /// Keys of which one must have signed a record; any record will do where there are none.
    pub trusted: Vec<PublicKey>,
    /// How long a claim on a task holds without a sign of life.
    pub lease: Duration,
}

/// What a remote store is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Results are taken from it.
    #[default]
    Read,
    /// Results are taken from it, and sent to it.
    ReadWrite,
}

impl Settings {
    /// Settings for an address, with everything else as it is by default.
    ///
    /// # Errors
    /// What is wrong with the address, in words.
    pub fn new(address: &str) -> Result<Self, String> {
        check_address(address)?;
        let address = address.trim_end_matches('/').to_owned();
        Ok(Self { address, mode: Mode::default(), trusted: Vec::new(), lease: LEASE })
    }
}

/// What is wrong with an address, if anything is.
fn check_address(address: &str) -> Result<(), String> {
    let Some((scheme, rest)) = address.split_once("://") else {
        return Err(format!("`{address}` is no address: write one such as `s3://bucket/folder`"));
    };
    if !SCHEMES.contains(&scheme) {
        return Err(format!("`{scheme}` is no kind of store; there are: {}", SCHEMES.join(", ")));
    }
    let authority = rest.split('/').next().unwrap_or_default();
    let secret = rest.contains(['?', '#'])
        || (authority.contains('@') && !scheme.starts_with("abfs"))
        || authority
            .split('@')
            .next()
            .is_some_and(|user| user.contains(':') && authority.contains('@'));
    if secret {
        return Err("an address holds no credentials and no query: they come from the environment"
            .to_owned());
    }
    match scheme {
        "file" if !rest.starts_with('/') => {
            Err("a `file` address is absolute: `file:///folder`".to_owned())
        }
        "file" => Ok(()),
        _ if authority.is_empty() => Err(format!("`{address}` names no bucket or host")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_checked() {
        for good in [
            "s3://b",
            "s3://b/deep/er/",
            "file:///x",
            "gs://b/x",
            "az://c/x",
            "abfss://c@account.dfs.core.windows.net/x",
            "http://127.0.0.1:80/x",
        ] {
            assert!(Settings::new(good).is_ok(), "{good}");
        }
        assert_eq!(Settings::new("s3://b/x/").unwrap().address, "s3://b/x");
        let told: Vec<String> = [
            "b/x",
            "ftp://b",
            "s3://",
            "file://x",
            "https://me:pw@h/x",
            "s3://b/x?sig=1",
            "abfss://c:pw@h/x",
        ]
        .map(|bad| Settings::new(bad).unwrap_err())
        .to_vec();
        insta::assert_snapshot!(told.join("\n"), @"
        `b/x` is no address: write one such as `s3://bucket/folder`
        `ftp` is no kind of store; there are: file, s3, s3a, gs, az, abfs, abfss, https, http
        `s3://` names no bucket or host
        a `file` address is absolute: `file:///folder`
        an address holds no credentials and no query: they come from the environment
        an address holds no credentials and no query: they come from the environment
        an address holds no credentials and no query: they come from the environment
        ");
    }
}
