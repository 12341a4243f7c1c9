//! An object store behind an address: the few requests that are made of it, each with a limit to
//! its patience. Credentials come from the environment, as each provider's own tools read them.

use std::future::Future;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, GetOptions, GetResult, ObjectStore, PutPayload,
    RetryConfig, WriteMultipart,
};

use super::folder::{Folder, SpecialFile};
use super::webdav::WebDav;
#[cfg(test)]
use crate::digest::Digest;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a small request may take, with what is tried again.
const SMALL: Duration = Duration::from_secs(20);
/// How long a part of a large transfer may take.
pub(super) const PART_PATIENCE: Duration = Duration::from_secs(120);
/// So many bytes must arrive within that time: a server that sends a byte per minute holds nobody up.
const LEAST_PROGRESS: usize = 1 << 20;
/// So much of what a server says is shown.
const LONGEST_CAUSE: usize = 300;
/// A large blob goes up in parts of this size.
pub(super) const PART: usize = 8 << 20;
/// Parts under way at once.
pub(super) const PARTS: usize = 4;
/// A listing with more names than this is refused.
const MAX_LISTED: usize = 1_000_000;

/// An object store and a folder in it.
#[derive(Debug)]
pub(super) struct Place {
    objects: Arc<dyn ObjectStore>,
    folder: String,
    requests: AtomicU64,
    /// Parts of large objects sent so far.
    parts: AtomicU64,
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

/// What stands under a name.
#[derive(Debug)]
pub(super) enum Fetched<T> {
    /// An object.
    Found(T),
    /// Nothing.
    Absent,
    /// Something that is not taken: what is wrong with it.
    Refused(String),
}

/// The bytes of an object, in pieces.
pub(super) struct Pieces {
    /// The size of the whole object, as the store gives it.
    pub size: u64,
    stream: BoxStream<'static, Result<Bytes, Error>>,
    /// When the time for the next bytes began, and how many arrived since.
    since: Instant,
    arrived: usize,
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
                // A network disk may hang here too: then the thread is left behind.
                let (root, (sender, opened)) = (FilePath::new(rest).to_owned(), mpsc::channel());
                std::thread::spawn(move || sender.send(Folder::open(&root)));
                let folder = opened.recv_timeout(SMALL).map_err(|_| no_answer(SMALL))??;
                return Ok(Self::of(Arc::new(folder), ""));
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
            parts: AtomicU64::new(0),
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

    /// Parts of large objects sent so far.
    pub fn parts(&self) -> u64 {
        self.parts.load(Ordering::Relaxed)
    }

    async fn within<T>(
        &self,
        limit: Duration,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Answer<Result<T, Error>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        #[cfg(test)]
        self.dawdle().await;
        let answer = tokio::time::timeout(limit, request).await;
        #[cfg(test)]
        self.dawdle().await;
        answer.map_err(|_| no_answer(limit))
    }

    /// An object of at most `most` bytes. A larger one is not read beyond that.
    pub async fn get(&self, name: &str, most: u64) -> Answer<Fetched<Bytes>> {
        let path = self.path(name);
        let request = async {
            let found = self.objects.get(&path).await?;
            let size = found.meta.size;
            if size > most {
                return Ok(Err(format!("it has {size} bytes, and at most {most} are read")));
            }
            let (mut stream, mut bytes) = (found.into_stream(), Vec::new());
            while let Some(piece) = stream.next().await {
                bytes.extend_from_slice(&piece?);
                if bytes.len() as u64 > most {
                    return Ok(Err(format!("it is larger than {most} bytes")));
                }
            }
            Ok(Ok(Bytes::from(bytes)))
        };
        fetched(self.within(SMALL, request).await?)
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
            if names.len() == MAX_LISTED {
                return Err(Trouble(format!("{folder} has more than {MAX_LISTED} objects")));
            }
            let location = meta?.location;
            let rest = location.prefix_match(&path).into_iter().flatten();
            names.push(rest.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"));
        }
    }

    /// The size of an object; `None` if there is none that can be taken.
    pub async fn size(&self, name: &str) -> Answer<Option<u64>> {
        let request = async { Ok(Ok(self.objects.head(&self.path(name)).await?.size)) };
        match fetched(self.within(SMALL, request).await?)? {
            Fetched::Found(size) => Ok(Some(size)),
            Fetched::Absent | Fetched::Refused(_) => Ok(None),
        }
    }

    /// The bytes of an object from `from` on.
    pub async fn stream(&self, name: &str, from: u64) -> Answer<Fetched<Pieces>> {
        let range = (from > 0).then(|| (from..).into());
        let options = GetOptions { range, ..GetOptions::default() };
        let request = async { Ok(Ok(self.objects.get_opts(&self.path(name), options).await?)) };
        Ok(match fetched::<GetResult>(self.within(SMALL, request).await?)? {
            Fetched::Found(found) => Fetched::Found(Pieces {
                size: found.meta.size,
                stream: found.into_stream(),
                since: Instant::now(),
                arrived: 0,
            }),
            Fetched::Absent => Fetched::Absent,
            Fetched::Refused(what) => Fetched::Refused(what),
        })
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
        let mut size = 0;
        let sent = async {
            while let Some(piece) = pieces()? {
                size += piece.len() as u64;
                let room = tokio::time::timeout(PART_PATIENCE, writer.wait_for_capacity(PARTS));
                room.await.map_err(|_| stalled())??;
                writer.put(piece);
                self.parts.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }
        .await;
        if let Err(trouble) = sent {
            let _ = tokio::time::timeout(SMALL, writer.abort()).await;
            return Err(trouble);
        }
        let end = tokio::time::timeout(PART_PATIENCE * PARTS as u32, writer.finish());
        match end.await.map_err(|_| stalled())? {
            // Azure forgets the parts of whoever is second. The name is the content's: it is there.
            Err(_) if self.size(name).await? == Some(size) => Ok(()),
            end => Ok(end.map(|_| ())?),
        }
    }
}

impl Pieces {
    /// The next piece, with patience for one part.
    pub async fn next(&mut self) -> Answer<Option<Bytes>> {
        let left = PART_PATIENCE.saturating_sub(self.since.elapsed());
        let next = tokio::time::timeout(left, self.stream.next()).await;
        let piece = next.map_err(|_| stalled())?.transpose()?;
        self.arrived += piece.as_ref().map_or(0, Bytes::len);
        if self.arrived >= LEAST_PROGRESS {
            (self.since, self.arrived) = (Instant::now(), 0);
        }
        Ok(piece)
    }
}

/// What a request for an object comes to. The inner error is what is wrong with the object.
fn fetched<T>(found: Result<Result<T, String>, Error>) -> Answer<Fetched<T>> {
    match found {
        Ok(Ok(found)) => Ok(Fetched::Found(found)),
        Ok(Err(what)) => Ok(Fetched::Refused(what)),
        Err(Error::NotFound { .. }) => Ok(Fetched::Absent),
        Err(Error::Generic { source, .. }) if source.is::<SpecialFile>() => {
            Ok(Fetched::Refused(source.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

fn no_answer(limit: Duration) -> Trouble {
    Trouble(format!("no answer within {} seconds", limit.as_secs()))
}

fn stalled() -> Trouble {
    Trouble(format!("a transfer stood still for {} s", PART_PATIENCE.as_secs()))
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
