//! An object store behind an address: the few requests that are made of it, each with a limit to
//! its patience. Credentials come from the environment, as each provider's own tools read them.

use std::future::Future;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, GetOptions, ObjectStore, PutPayload, RetryConfig,
    WriteMultipart,
};

use super::webdav::WebDav;
#[cfg(test)]
use crate::digest::Digest;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a small request may take, with what is tried again.
const SMALL: Duration = Duration::from_secs(20);
/// How long a part of a large transfer may take.
const PART_PATIENCE: Duration = Duration::from_secs(120);
/// So much of what a server says is shown.
const LONGEST_CAUSE: usize = 300;
/// A large blob goes up in parts of this size.
pub(super) const PART: usize = 8 << 20;
/// Parts under way at once.
const PARTS: usize = 4;

/// An object store and a folder in it.
#[derive(Debug)]
pub(super) struct Place {
    objects: Arc<dyn ObjectStore>,
    folder: String,
    requests: AtomicU64,
    /// The seed of how long requests take.
    #[cfg(test)]
    slow: Option<AtomicU64>,
}

/// What went wrong with the store itself, in words without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble(pub String);

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        // The outer errors count retries and name requests; the innermost says what is wrong.
        let mut cause: &dyn std::error::Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        let text = redacted(first_words(&cause.to_string()).trim());
        Self(text.chars().take(LONGEST_CAUSE).collect())
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// What a server says without the page around it: the message of an XML answer, or what comes before a page.
fn first_words(text: &str) -> String {
    let (before, page) = text.split_at(text.find('<').unwrap_or(text.len()));
    let inner = |tag: &str| {
        let (_, rest) = page.split_once(&format!("<{tag}>"))?;
        rest.split_once(&format!("</{tag}>")).map(|(inner, _)| inner)
    };
    let message = inner("Message").and_then(|m| m.lines().next()).unwrap_or_default();
    let before = before.lines().next().unwrap_or_default();
    match message {
        "" => before.trim_end_matches([' ', ':']).to_owned(),
        message => format!("{before}{message}"),
    }
}

/// The text without the queries of addresses, which may hold signatures.
fn redacted(text: &str) -> String {
    let word = |word: &str| match word.split_once('?') {
        Some((before, _)) if before.contains("://") => format!("{before}?.."),
        _ => word.to_owned(),
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

type Answer<T> = Result<T, Trouble>;

impl Place {
    /// Opens what an address names; asks it nothing yet.
    pub fn open(address: &str) -> Answer<Self> {
        let (scheme, rest) = address.split_once("://").unwrap_or_default();
        let (host, folder) = rest.split_once('/').unwrap_or((rest, ""));
        let client = ClientOptions::new()
            .with_connect_timeout(CONNECT)
            // A large transfer takes what it takes: every part of it has a limit of its own.
            .with_timeout_disabled();
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(2),
                base: 2.0,
            },
            max_retries: 4,
            retry_timeout: SMALL,
        };
        let objects: Arc<dyn ObjectStore> = match scheme {
            "file" => {
                let root = FilePath::new(rest);
                std::fs::create_dir_all(root)
                    .map_err(|e| Trouble(format!("{}: {e}", root.display())))?;
                let files = LocalFileSystem::new_with_prefix(root)?;
                return Ok(Self::of(Arc::new(files), ""));
            }
            "gs" => Arc::new(
                GoogleCloudStorageBuilder::from_env()
                    .with_url(address)
                    .with_client_options(client)
                    .with_retry(retry)
                    .build()?,
            ),
            "az" | "abfs" | "abfss" => Arc::new(
                MicrosoftAzureBuilder::from_env()
                    .with_url(address)
                    .with_client_options(client)
                    .with_retry(retry)
                    .build()?,
            ),
            "http" | "https" => {
                Arc::new(WebDav::open(&format!("{scheme}://{host}"), client, retry)?)
            }
            _ => {
                // A server of one's own is often without TLS, and says so in the same variables.
                let plain = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]
                    .iter()
                    .filter_map(|name| std::env::var(name).ok())
                    .any(|endpoint| endpoint.starts_with("http://"));
                Arc::new(
                    AmazonS3Builder::from_env()
                        .with_url(address)
                        .with_client_options(client.with_allow_http(plain))
                        .with_retry(retry)
                        .build()?,
                )
            }
        };
        Ok(Self::of(objects, folder))
    }

    /// A folder in an object store.
    pub fn of(objects: Arc<dyn ObjectStore>, folder: &str) -> Self {
        let folder = folder.trim_matches('/').to_owned();
        Self {
            objects,
            folder,
            requests: AtomicU64::new(0),
            #[cfg(test)]
            slow: None,
        }
    }

    /// An object store whose requests take a few milliseconds each, never the same.
    #[cfg(test)]
    pub fn slow(objects: Arc<dyn ObjectStore>, seed: u64) -> Self {
        Self { slow: Some(AtomicU64::new(seed << 32)), ..Self::of(objects, "") }
    }

    #[cfg(test)]
    async fn dawdle(&self) {
        let Some(seed) = &self.slow else { return };
        let bytes = Digest::of(&seed.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        let length = u64::from_str_radix(&bytes.as_str()[..4], 16).unwrap();
        tokio::time::sleep(Duration::from_micros(length / 16)).await;
    }

    fn path(&self, name: &str) -> Path {
        match self.folder.as_str() {
            "" => Path::from(name),
            folder => Path::from(format!("{folder}/{name}")),
        }
    }

    /// Requests made so far, not counting what was tried again and the parts of large blobs.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    async fn within<T>(
        &self,
        limit: Duration,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Answer<Result<T, Error>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let seconds = limit.as_secs();
        #[cfg(test)]
        self.dawdle().await;
        let answer = tokio::time::timeout(limit, request).await;
        #[cfg(test)]
        self.dawdle().await;
        answer.map_err(|_| Trouble(format!("no answer within {seconds} seconds")))
    }

    /// An object of at most `most` bytes; none where there is no such object.
    pub async fn get(&self, name: &str, most: u64) -> Answer<Option<Bytes>> {
        let path = self.path(name);
        let request = async {
            let found = self.objects.get(&path).await?;
            if found.meta.size > most {
                let what =
                    format!("{name} has {} bytes, more than any such object", found.meta.size);
                return Err(Error::Generic { store: "dissim", source: what.into() });
            }
            found.bytes().await
        };
        match self.within(SMALL, request).await? {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a small object.
    pub async fn put(&self, name: &str, bytes: Vec<u8>) -> Answer<()> {
        let path = self.path(name);
        let request = self.objects.put(&path, PutPayload::from(bytes));
        Ok(self.within(SMALL, request).await?.map(|_| ())?)
    }

    /// Removes an object; one that is gone is what was wanted.
    pub async fn delete(&self, name: &str) -> Answer<()> {
        match self.within(SMALL, self.objects.delete(&self.path(name))).await? {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The names of the objects in a folder.
    pub async fn list_folder(&self, folder: &str) -> Answer<Vec<String>> {
        let path = self.path(folder);
        let request = self.objects.list_with_delimiter(Some(&path));
        let listed = match self.within(SMALL, request).await? {
            Err(Error::NotFound { .. }) => return Ok(Vec::new()),
            listed => listed?.objects,
        };
        Ok(listed.iter().filter_map(|m| m.location.filename().map(str::to_owned)).collect())
    }

    /// The names of the objects below a folder, relative to it.
    pub async fn list(&self, folder: &str) -> Answer<Vec<String>> {
        let path = self.path(folder);
        let mut listed = self.objects.list(Some(&path));
        let mut names = Vec::new();
        loop {
            let next = async { Ok(listed.next().await) };
            let Some(meta) = self.within(SMALL, next).await?? else { return Ok(names) };
            let location = meta?.location;
            let rest = location.prefix_match(&path).into_iter().flatten();
            names.push(rest.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"));
        }
    }

    /// The size of an object; none where there is none.
    pub async fn size(&self, name: &str) -> Answer<Option<u64>> {
        match self.within(SMALL, self.objects.head(&self.path(name))).await? {
            Ok(meta) => Ok(Some(meta.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The bytes of an object from `from` on, in pieces; none where there is no such object.
    pub async fn stream(
        &self,
        name: &str,
        from: u64,
    ) -> Answer<Option<BoxStream<'static, Result<Bytes, Error>>>> {
        let range = (from > 0).then(|| (from..).into());
        let options = GetOptions { range, ..GetOptions::default() };
        match self.within(SMALL, self.objects.get_opts(&self.path(name), options)).await? {
            Ok(found) => Ok(Some(found.into_stream())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The next piece of a stream, with patience for one part.
    pub async fn next(
        stream: &mut BoxStream<'static, Result<Bytes, Error>>,
    ) -> Answer<Option<Bytes>> {
        let next = tokio::time::timeout(PART_PATIENCE, stream.next()).await;
        let stalled =
            |_| Trouble(format!("a transfer stood still for {} s", PART_PATIENCE.as_secs()));
        Ok(next.map_err(stalled)?.transpose()?)
    }

    /// Writes a large object from pieces. `pieces` gives the next one, and none at the end; where it
    /// fails, nothing appears.
    pub async fn put_parts(
        &self,
        name: &str,
        mut pieces: impl FnMut() -> Result<Option<Bytes>, Trouble>,
    ) -> Answer<()> {
        let path = self.path(name);
        let upload = self.within(SMALL, self.objects.put_multipart(&path)).await??;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART);
        let stalled =
            |_| Trouble(format!("a transfer stood still for {} s", PART_PATIENCE.as_secs()));
        let mut size = 0;
        let sent = async {
            while let Some(piece) = pieces()? {
                size += piece.len() as u64;
                let room = tokio::time::timeout(PART_PATIENCE, writer.wait_for_capacity(PARTS));
                room.await.map_err(stalled)??;
                writer.put(piece);
            }
            Ok(())
        }
        .await;
        if let Err(trouble) = sent {
            let _ = tokio::time::timeout(SMALL, writer.abort()).await;
            return Err(trouble);
        }
        let end = tokio::time::timeout(PART_PATIENCE * PARTS as u32, writer.finish());
        match end.await.map_err(stalled)? {
            // Azure forgets the parts of whoever is second. The name is the content's: it is there.
            Err(_) if self.size(name).await? == Some(size) => Ok(()),
            end => Ok(end.map(|_| ())?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_told_without_its_page() {
        let told = [
            "Server returned non-2xx status code: 403 Forbidden: <!DOCTYPE HTML>\n<html><title>no",
            "Server returned non-2xx status code: 400 Bad Request: <?xml version=\"1.0\"?>\n<Error><Code>X</Code>\
             <Message>The block list is invalid.\nRequestId:1</Message></Error>",
            "Connection refused (os error 111)",
            "<html>",
        ];
        insta::assert_snapshot!(told.map(first_words).join("\n"), @r"
        Server returned non-2xx status code: 403 Forbidden
        Server returned non-2xx status code: 400 Bad Request: The block list is invalid.
        Connection refused (os error 111)
        ");
    }

    #[test]
    fn a_signature_in_an_address_is_not_told() {
        let text = "error sending request for url https://a.b/c?sig=SECRET&x=1 after 3 retries?";
        assert_eq!(
            redacted(text),
            "error sending request for url https://a.b/c?.. after 3 retries?"
        );
        let bracketed = redacted("failed (https://a.b/c?sig=SECRET)");
        assert!(!bracketed.contains("SECRET"), "{bracketed}");
    }
}
