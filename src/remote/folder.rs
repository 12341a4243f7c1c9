//! A folder as a store, for addresses with `file://`. `object_store` does the work; this makes sure that
//! only regular files are opened: opening a FIFO or a device may wait for ever, and have side effects.

use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path as FilePath;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use nix::fcntl::OFlag;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Attributes, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// A folder whose files are objects.
#[derive(Debug)]
pub(super) struct Folder(Arc<LocalFileSystem>);

/// Something other than a regular file stands where an object is looked for.
#[derive(Debug, thiserror::Error)]
#[error("it is {0}, not a regular file")]
pub(super) struct SpecialFile(&'static str);

impl Folder {
    /// The store in a folder, which is made if it is missing.
    pub fn open(root: &FilePath) -> Result<Self> {
        std::fs::create_dir_all(root).map_err(|error| generic(root, error))?;
        Ok(Self(Arc::new(LocalFileSystem::new_with_prefix(root)?)))
    }
}

fn generic(path: &FilePath, error: io::Error) -> Error {
    Error::Generic { store: "dissim", source: crate::store::at(error, path).into() }
}

fn refuse_special(metadata: &Metadata) -> Result<()> {
    let kind = metadata.file_type();
    let name = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(Error::Generic { store: "dissim", source: SpecialFile(name).into() })
}

/// Opens a regular file, and never waits for one that is something else.
fn open(path: &FilePath) -> Result<(File, Metadata)> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => {
            let path = path.to_string_lossy().into_owned();
            Error::NotFound { path, source: error.into() }
        }
        _ => generic(path, error),
    };
    refuse_special(&std::fs::metadata(path).map_err(failed)?)?;
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags.bits()).open(path).map_err(failed)?;
    // What stands there may be another by now.
    let metadata = file.metadata().map_err(failed)?;
    refuse_special(&metadata)?;
    Ok((file, metadata))
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Folder {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (path, location) = (self.0.path_to_filesystem(location)?, location.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let (file, metadata) = open(&path)?;
            let meta = ObjectMeta {
                location,
                last_modified: metadata.modified().map_err(|e| generic(&path, e))?.into(),
                size: metadata.len(),
                e_tag: None,
                version: None,
            };
            let range = match &options.range {
                None => 0..meta.size,
                Some(range) => range
                    .as_range(meta.size)
                    .map_err(|error| Error::Generic { store: "dissim", source: error.into() })?,
            };
            let payload = GetResultPayload::File(file, path);
            Ok(GetResult { payload, meta, range, attributes: Attributes::default() })
        });
        opened.await?
    }

    async fn delete(&self, location: &Path) -> Result<()> {
        self.0.delete(location).await
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
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
