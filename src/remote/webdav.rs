//! A WebDAV server as a store. `object_store` speaks the protocol; this adds what a group asks of it:
//! credentials, folders that several make at the same time, large files, and listings on servers that
//! list one folder at a time.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::http::{HttpBuilder, HttpStore};
use object_store::path::Path;
use object_store::{
    ClientOptions, Error, GetOptions, GetResult, HeaderMap, HeaderValue, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, RetryConfig, UploadPart,
};

use super::place::Trouble;

/// The variables that hold a user's name and password, or a token in their place.
const USERNAME: &str = "WEBDAV_USERNAME";
const PASSWORD: &str = "WEBDAV_PASSWORD";
const TOKEN: &str = "WEBDAV_TOKEN";

/// A server, from its root on.
#[derive(Debug, Clone)]
pub(super) struct WebDav(Arc<HttpStore>);

impl WebDav {
    /// The server at `https://host`; credentials come from the environment.
    pub fn open(
        server: &str,
        mut client: ClientOptions,
        retry: RetryConfig,
    ) -> Result<Self, Trouble> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let header = authorization(variable(USERNAME), variable(PASSWORD), variable(TOKEN));
        if let Some(header) = header.map_err(Trouble)? {
            client = client.with_default_headers(HeaderMap::from_iter([(
                "authorization".parse().expect("a header's name"),
                header,
            )]));
        }
        let client = client.with_allow_http(server.starts_with("http://"));
        let builder = HttpBuilder::new().with_url(server);
        let store = builder.with_client_options(client).with_retry(retry).build()?;
        Ok(Self(Arc::new(store)))
    }

    /// The files below a folder, folder by folder.
    async fn walk(&self, from: Option<Path>) -> Result<Vec<ObjectMeta>> {
        let (mut files, mut folders) = (Vec::new(), vec![from]);
        while let Some(folder) = folders.pop() {
            let listed = self.0.list_with_delimiter(folder.as_ref()).await?;
            files.extend(listed.objects);
            folders.extend(listed.common_prefixes.into_iter().map(Some));
        }
        Ok(files)
    }
}

/// What to send as `Authorization`, if anything.
fn authorization(
    username: Option<String>,
    password: Option<String>,
    token: Option<String>,
) -> Result<Option<HeaderValue>, String> {
    let (what, text) = match (username, password, token) {
        (None, None, None) => return Ok(None),
        (None, None, Some(token)) => (TOKEN, format!("Bearer {token}")),
        (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
            return Err(format!("{TOKEN} is set, and {USERNAME} or {PASSWORD} too: set one"));
        }
        (None, Some(_), None) => return Err(format!("{PASSWORD} is set, and {USERNAME} is not")),
        (Some(user), _, None) if user.contains(':') => {
            return Err(format!("{USERNAME} has a colon, which no user's name can have"));
        }
        (Some(user), password, None) => {
            let both = format!("{user}:{}", password.unwrap_or_default());
            (USERNAME, format!("Basic {}", BASE64_STANDARD.encode(both)))
        }
    };
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| format!("{what} holds a character that no header can have"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

impl fmt::Display for WebDav {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for WebDav {
    /// Folders on the way are made where they are missing. A server refuses to make one that another has
    /// made meanwhile: then it is there, and the next attempt is a folder further.
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let folders = location.parts().count() - 1;
        for _ in 0..folders {
            if let Ok(put) = self.0.put_opts(location, payload.clone(), options.clone()).await {
                return Ok(put);
            }
        }
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let (to, location) = (self.clone(), location.clone());
        Ok(Box::new(Whole { to, location, parts: Vec::new() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    async fn delete(&self, location: &Path) -> Result<()> {
        self.0.delete(location).await
    }

    /// In one request where the server allows that, and many do not.
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let listed = async move {
            let files = match store.0.list(prefix.as_ref()).try_collect().await {
                Ok(files) => files,
                Err(_) => store.walk(prefix).await?,
            };
            Ok::<_, Error>(stream::iter(Vec::into_iter(files).map(Ok)))
        };
        stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        self.0.copy(from, to).await
    }

    async fn copy_if_not_exists(&self, from: &Path, to: &Path) -> Result<()> {
        self.0.copy_if_not_exists(from, to).await
    }
}

/// An upload whose parts go up as one request, since WebDAV has no parts: it holds the whole file.
#[derive(Debug)]
struct Whole {
    to: WebDav,
    location: Path,
    parts: Vec<PutPayload>,
}

#[async_trait]
impl MultipartUpload for Whole {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.push(data);
        Box::pin(std::future::ready(Ok(())))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let parts = std::mem::take(&mut self.parts);
        let whole = parts.into_iter().flatten().collect();
        self.to.put(&self.location, whole).await
    }

    async fn abort(&mut self) -> Result<(), Error> {
        self.parts.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_one_header_or_words() {
        let said = |user: &str, password: &str, token: &str| {
            let set = |value: &str| (!value.is_empty()).then(|| value.to_owned());
            match authorization(set(user), set(password), set(token)) {
                Ok(None) => "none".to_owned(),
                Ok(Some(value)) => {
                    assert!(value.is_sensitive());
                    value.to_str().unwrap().to_owned()
                }
                Err(error) => error,
            }
        };
        let told = [
            said("", "", ""),
            // The example of RFC 7617.
            said("Aladdin", "open sesame", ""),
            said("me", "", ""),
            said("", "", "abc"),
            said("", "pw", ""),
            said("me", "pw", "abc"),
            said("a:b", "pw", ""),
            said("", "", "a\nb"),
        ];
        insta::assert_snapshot!(told.join("\n"), @r"
        none
        Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==
        Basic bWU6
        Bearer abc
        WEBDAV_PASSWORD is set, and WEBDAV_USERNAME is not
        WEBDAV_TOKEN is set, and WEBDAV_USERNAME or WEBDAV_PASSWORD too: set one
        WEBDAV_USERNAME has a colon, which no user's name can have
        WEBDAV_TOKEN holds a character that no header can have
        ");
    }
}
