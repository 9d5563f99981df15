//! Opening, recognising and clearing a store.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt as _;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, WriteMultipart};
use sortie_core::artifact::is_key;
use sortie_core::secret::{self, NOT_SHOWN, may_hold_password};
use url::Url;

/// The file at the store's root whose content shows whether two processes see the same store.
pub const MARK: &str = "sortie-store";
/// The longest mark; what is longer is something else.
const MARK_BYTES_MAX: u64 = 200;

/// Files that are longer than this are written in parts of this size.
const PART_BYTES: usize = 8 << 20;
/// Parts of a file that are on their way at a time.
const PARTS_AT_ONCE: usize = 4;

/// How a store is written.
const FORM: &str = "write file:///FOLDER or s3://BUCKET/PREFIX";

/// Why the artifact store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The URL cannot be meant.
    #[error("artifact store {url:?}: {reason}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The folder or the service refuses.
    #[error("artifact store {url}: {error}")]
    Store {
        /// The URL.
        url: String,
        /// What it says.
        error: object_store::Error,
    },
    /// It does not answer.
    #[error("artifact store {url}: no answer within {seconds} s")]
    Slow {
        /// The URL.
        url: String,
        /// How long it had.
        seconds: u64,
    },
    /// The folder cannot be made.
    #[error("artifact store {url}: {error}")]
    Folder {
        /// The URL.
        url: String,
        /// What the system says.
        error: io::Error,
    },
    /// A file of this machine cannot be read or written.
    #[error("{}: {error}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// An artifact store that is open.
#[derive(Clone, Debug)]
pub struct ArtifactStore {
    url: String,
    inner: Arc<dyn ObjectStore>,
    root: Path,
}

/// What a user writes for a folder, as an absolute URL. URLs stay as they are.
///
/// # Errors
/// [`ArtifactError::Url`] for a relative path where there is no working folder.
pub fn url_of(place: &str) -> Result<String, ArtifactError> {
    if place.contains("://") {
        return parsed(place).map(|_| place.trim_end_matches('/').to_owned());
    }
    // A name with a colon before an `@` may be an address without its slashes.
    if may_hold_password(place) && !place.starts_with(['/', '.']) {
        return Err(hidden(&format!("{FORM}, and a folder of such a name as ./NAME")));
    }
    folder_url(FilePath::new(place))
}

/// The URL of a folder.
///
/// # Errors
/// As for [`url_of`].
pub fn folder_url(folder: &FilePath) -> Result<String, ArtifactError> {
    let wrong = |reason: String| ArtifactError::Url { url: folder.display().to_string(), reason };
    let folder = std::path::absolute(folder).map_err(|error| wrong(error.to_string()))?;
    let url = Url::from_file_path(&folder).map_err(|()| wrong("is no absolute path".to_owned()))?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// An error about a URL that may hold a password.
fn hidden(reason: &str) -> ArtifactError {
    ArtifactError::Url { url: NOT_SHOWN.to_owned(), reason: reason.to_owned() }
}

/// The URL of a store. The key to a bucket is no part of it: the URL is shown, stored, and sent to workers.
fn parsed(url: &str) -> Result<Url, ArtifactError> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split('/').next().unwrap_or_default();
    let key = match scheme {
        "file" => false,
        // The name of a bucket has none of these. In a path they are ordinary.
        "s3" | "s3a" => authority.contains([':', '@']) || rest.contains(['?', '#']),
        _ => may_hold_password(url) || rest.contains('?'),
    };
    if key {
        return Err(hidden(&format!(
            "a user, a key, a password or parameters stand in it: {FORM}, and give the access by AWS_* variables"
        )));
    }
    Url::parse(url).map_err(|error| ArtifactError::Url {
        url: secret::shown(url).to_owned(),
        reason: format!("{error}; {FORM}"),
    })
}

/// Refuses addresses of a service that hold a password: errors of the service show them.
fn check_endpoints(variables: impl Iterator<Item = (String, String)>) -> Result<(), ArtifactError> {
    for (name, value) in variables {
        if name.to_ascii_uppercase().starts_with("AWS_ENDPOINT") && may_hold_password(&value) {
            return Err(ArtifactError::Url {
                url: name,
                reason: "a user or a password stands in it: give the access by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned(),
            });
        }
    }
    Ok(())
}

impl ArtifactStore {
    /// Opens a store whose folder exists. Services are configured as their own tools are: `AWS_*` variables for `s3://BUCKET/PREFIX`.
    ///
    /// # Errors
    /// [`ArtifactError`], one line.
    pub fn open(url: &str) -> Result<Self, ArtifactError> {
        let wrong = |reason: String| ArtifactError::Url { url: url.to_owned(), reason };
        let failed = |error| ArtifactError::Store { url: url.to_owned(), error };
        let parsed = parsed(url)?;
        let (inner, root): (Arc<dyn ObjectStore>, Path) = match parsed.scheme() {
            "file" => {
                let folder = parsed
                    .to_file_path()
                    .map_err(|()| wrong("names no folder of this machine".to_owned()))?;
                let local = LocalFileSystem::new_with_prefix(folder).map_err(failed)?;
                (Arc::new(local.with_automatic_cleanup(true)), Path::default())
            }
            "s3" | "s3a" => {
                check_endpoints(std::env::vars())?;
                let (store, root) =
                    object_store::parse_url_opts(&parsed, std::env::vars()).map_err(failed)?;
                (Arc::from(store), root)
            }
            other => {
                return Err(wrong(format!("{other}:// is not supported; {FORM}")));
            }
        };
        Ok(Self { url: url.to_owned(), inner, root })
    }

    /// Opens a store, and makes its folder if it is one.
    ///
    /// # Errors
    /// [`ArtifactError`], one line.
    pub fn create(url: &str) -> Result<Self, ArtifactError> {
        if let Some(folder) =
            Url::parse(url).ok().filter(|url| url.scheme() == "file").and_then(|url| url.to_file_path().ok())
        {
            fs::create_dir_all(&folder)
                .map_err(|error| ArtifactError::Folder { url: url.to_owned(), error })?;
        }
        Self::open(url)
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The path of a key; none for one that is no plain path below the root.
    fn path(&self, key: &str) -> Option<Path> {
        is_key(key).then(|| key.split('/').fold(self.root.clone(), |path, part| path.join(part)))
    }

    fn failed(&self, error: object_store::Error) -> ArtifactError {
        ArtifactError::Store { url: self.url.clone(), error }
    }

    /// The mark; none if there is none.
    ///
    /// # Errors
    /// [`ArtifactError::Store`].
    pub async fn mark(&self) -> Result<Option<String>, ArtifactError> {
        let path = self.root.clone().join(MARK);
        match self.inner.get(&path).await {
            Ok(found) if found.meta.size > MARK_BYTES_MAX => Ok(None),
            Ok(found) => {
                let bytes = found.bytes().await.map_err(|error| self.failed(error))?;
                Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()).filter(|mark| !mark.is_empty()))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// The mark, which is this one where there is none yet.
    ///
    /// # Errors
    /// [`ArtifactError::Store`].
    pub async fn marked(&self, new: &str) -> Result<String, ArtifactError> {
        if let Some(mark) = self.mark().await? {
            return Ok(mark);
        }
        let path = self.root.clone().join(MARK);
        let written = self.inner.put_opts(&path, format!("{new}\n").into(), PutMode::Create.into()).await;
        match written {
            // Another coordinator that starts at the same time was first: its mark counts.
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(self.failed(error)),
        }
        Ok(self.mark().await?.unwrap_or_else(|| new.to_owned()))
    }

    /// Writes a file of a worker's own and deletes it again.
    ///
    /// # Errors
    /// [`ArtifactError::Store`] when it cannot.
    pub async fn try_to_write(&self, worker_id: &str) -> Result<(), ArtifactError> {
        let name: String =
            worker_id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let path = self.root.clone().join(format!("probe-{name}"));
        self.inner.put(&path, "probe\n".into()).await.map_err(|error| self.failed(error))?;
        self.inner.delete(&path).await.map_err(|error| self.failed(error))
    }

    /// Writes a file, all of it or nothing.
    ///
    /// # Errors
    /// [`ArtifactError`]; [`ArtifactError::Url`] for a key that is no plain path below the root.
    pub async fn put(&self, key: &str, content: Vec<u8>) -> Result<(), ArtifactError> {
        let path = self.path(key).ok_or_else(|| self.no_key(key))?;
        self.inner.put(&path, content.into()).await.map(drop).map_err(|error| self.failed(error))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// As [`ArtifactStore::put`], also where there is none.
    pub async fn get(&self, key: &str) -> Result<Vec<u8>, ArtifactError> {
        let path = self.path(key).ok_or_else(|| self.no_key(key))?;
        let read = async { self.inner.get(&path).await?.bytes().await };
        read.await.map(Into::into).map_err(|error| self.failed(error))
    }

    /// Writes what a file of this machine holds, all of it or nothing. No more than some parts of it are in memory at a time.
    ///
    /// # Errors
    /// As [`ArtifactStore::put`], and [`ArtifactError::File`].
    pub async fn put_file(&self, key: &str, file: &FilePath) -> Result<(), ArtifactError> {
        let unread = |error| ArtifactError::File { file: file.to_owned(), error };
        let path = self.path(key).ok_or_else(|| self.no_key(key))?;
        let mut source = File::open(file).map_err(unread)?;
        if source.metadata().map_err(unread)?.len() <= PART_BYTES as u64 {
            return self.put(key, fs::read(file).map_err(unread)?).await;
        }
        let upload = self.inner.put_multipart(&path).await.map_err(|error| self.failed(error))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        let mut part = vec![0; PART_BYTES];
        loop {
            let written = match source.read(&mut part) {
                Ok(0) => break,
                Ok(count) => {
                    upload.write(&part[..count]);
                    upload.wait_for_capacity(PARTS_AT_ONCE).await.map_err(|error| self.failed(error))
                }
                Err(error) => Err(unread(error)),
            };
            if let Err(error) = written {
                // Parts that stay are invisible, and services delete them in time.
                let _ = upload.abort().await;
                return Err(error);
            }
        }
        upload.finish().await.map(drop).map_err(|error| self.failed(error))
    }

    /// Reads a file into a new one of this machine, whose folder exists. What it has read so far stays there when that fails.
    ///
    /// # Errors
    /// As [`ArtifactStore::get`], and [`ArtifactError::File`].
    pub async fn get_file(&self, key: &str, file: &FilePath) -> Result<(), ArtifactError> {
        let unwritten = |error| ArtifactError::File { file: file.to_owned(), error };
        let path = self.path(key).ok_or_else(|| self.no_key(key))?;
        let found = self.inner.get(&path).await.map_err(|error| self.failed(error))?;
        let mut target = File::create_new(file).map_err(unwritten)?;
        let mut chunks = found.into_stream();
        while let Some(chunk) = chunks.try_next().await.map_err(|error| self.failed(error))? {
            target.write_all(&chunk).map_err(unwritten)?;
        }
        Ok(())
    }

    /// Deletes a file.
    ///
    /// # Errors
    /// As [`ArtifactStore::put`], also where there is none.
    pub async fn delete(&self, key: &str) -> Result<(), ArtifactError> {
        let path = self.path(key).ok_or_else(|| self.no_key(key))?;
        self.inner.delete(&path).await.map_err(|error| self.failed(error))
    }

    fn no_key(&self, key: &str) -> ArtifactError {
        ArtifactError::Url { url: self.url.clone(), reason: format!("{key:?} is no plain path below it") }
    }

    /// Deletes the files directly below this key whose names begin with one of these prefixes. Gives how many there were.
    ///
    /// # Errors
    /// [`ArtifactError::Store`]; some may be deleted then.
    pub async fn delete_in(&self, folder: &str, prefixes: &[String]) -> Result<usize, ArtifactError> {
        let Some(folder) = self.path(folder) else { return Ok(0) };
        let listed =
            self.inner.list_with_delimiter(Some(&folder)).await.map_err(|error| self.failed(error))?;
        let meant = |path: &Path| {
            path.filename()
                .is_some_and(|name| prefixes.iter().any(|prefix| name.starts_with(prefix.as_str())))
        };
        let paths: Vec<Path> =
            listed.objects.into_iter().map(|object| object.location).filter(meant).collect();
        let count = paths.len();
        let paths = futures::stream::iter(paths.into_iter().map(Ok));
        self.inner
            .delete_stream(Box::pin(paths))
            .try_collect::<Vec<_>>()
            .await
            .map_err(|error| self.failed(error))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_mark_stays() {
        let folder = tempfile::tempdir().unwrap();
        let url = folder_url(&folder.path().join("new store")).unwrap();
        assert!(url.starts_with("file:///") && url.ends_with("/new%20store"), "{url}");
        assert!(ArtifactStore::open(&url).is_err(), "its folder is not there");
        let store = ArtifactStore::create(&url).unwrap();
        assert_eq!(store.mark().await.unwrap(), None);
        assert_eq!(store.marked("one").await.unwrap(), "one");
        assert_eq!(ArtifactStore::create(&url).unwrap().marked("two").await.unwrap(), "one");
        assert_eq!(ArtifactStore::open(&url).unwrap().mark().await.unwrap().as_deref(), Some("one"));
        fs::write(folder.path().join("new store").join(MARK), "x".repeat(300)).unwrap();
        assert_eq!(store.mark().await.unwrap(), None);
    }

    #[tokio::test]
    async fn only_what_is_meant_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let store = ArtifactStore::create(&folder_url(folder.path()).unwrap()).unwrap();
        let checkpoints = folder.path().join("checkpoints/94f9");
        fs::create_dir_all(&checkpoints).unwrap();
        for name in ["17-3-aa", "17-6-bb", "18-6-cc", "170-6-dd"] {
            fs::write(checkpoints.join(name), name).unwrap();
        }
        let prefixes = ["17-".to_owned(), "18-".to_owned()];
        assert_eq!(store.delete_in("checkpoints/94f9", &prefixes).await.unwrap(), 3);
        assert!(checkpoints.join("170-6-dd").exists() && !checkpoints.join("18-6-cc").exists());
        assert_eq!(store.delete_in("checkpoints/94f9", &["170-".to_owned()]).await.unwrap(), 1);
        // An empty folder goes too, and what is not there is no error.
        assert!(!checkpoints.exists());
        assert_eq!(store.delete_in("checkpoints/94f9", &prefixes).await.unwrap(), 0);
        fs::write(folder.path().join("17-secret"), "").unwrap();
        for key in ["", "..", "checkpoints/..", "/"] {
            assert_eq!(store.delete_in(key, &prefixes).await.unwrap(), 0, "{key}");
        }
        assert!(folder.path().join("17-secret").exists());
    }

    #[tokio::test]
    async fn a_long_file_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let store = ArtifactStore::create(&folder_url(&folder.path().join("store")).unwrap()).unwrap();
        for length in [0, 1, PART_BYTES, 2 * PART_BYTES + 7] {
            let (from, to) = (folder.path().join("from"), folder.path().join(format!("to-{length}")));
            let content: Vec<u8> = (0..length).map(|byte| (byte % 251) as u8).collect();
            fs::write(&from, &content).unwrap();
            store.put_file("checkpoints/a/1-x", &from).await.unwrap();
            store.get_file("checkpoints/a/1-x", &to).await.unwrap();
            assert!(fs::read(&to).unwrap() == content, "{length} bytes");
        }
        let gone = store.put_file("checkpoints/a/2-x", &folder.path().join("gone")).await.unwrap_err();
        assert!(gone.to_string().contains("gone"), "{gone}");
        assert!(store.get_file("checkpoints/a/3-x", &folder.path().join("to-1")).await.is_err());
    }

    #[test]
    fn the_address_of_a_service_holds_no_password() {
        let check =
            |value: &str| check_endpoints([("AWS_ENDPOINT_URL".to_owned(), value.to_owned())].into_iter());
        check("http://127.0.0.1:9000").unwrap();
        let error = check("http://me:visible@127.0.0.1:9000").unwrap_err().to_string();
        assert!(error.contains("AWS_ENDPOINT_URL") && !error.contains("visible"), "{error}");
    }

    #[test]
    fn a_place_is_a_url_or_a_folder() {
        assert_eq!(url_of("s3://bucket/prefix/").unwrap(), "s3://bucket/prefix");
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            url_of("artifacts").unwrap(),
            Url::from_file_path(here.join("artifacts")).unwrap().as_str()
        );
        for secret in [
            "s3://KEY:visible@bucket/prefix",
            "s3://KEY:vis/ible@bucket/prefix",
            "s3://visible@bucket",
            "s3a://bucket?secret=visible",
            "s3://bucket/prefix#visible",
            "https://KEY:visible@host:9000/bucket",
            "https://host/bucket?key=visible",
            "s3:KEY:visible@bucket",
        ] {
            let error = url_of(secret).unwrap_err().to_string();
            assert!(!error.contains("isible") && error.contains("s3://BUCKET/PREFIX"), "{error}");
            let error = ArtifactStore::create(secret).unwrap_err().to_string();
            assert!(!error.contains("isible") && error.contains("s3://BUCKET/PREFIX"), "{error}");
        }
        assert_eq!(url_of("s3://bucket/a@b:c").unwrap(), "s3://bucket/a@b:c");
        for url in ["ftp://x/y", "http://x/y", "nonsense", "file://host/x"] {
            assert!(ArtifactStore::open(url).unwrap_err().to_string().starts_with("artifact store"), "{url}");
        }
    }
}
