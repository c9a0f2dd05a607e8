//! [`Location`]: where a store is, and how to get there.

use crate::{
    error::{Error, Result},
    http::{Client, RetryPolicy},
};
use object_store::{
    BackoffConfig, ObjectStore, RetryConfig, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder, local::LocalFileSystem, path::Path as Key, signer::Signer,
};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use url::Url;

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A folder of this machine.
    Folder(PathBuf),
    /// `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`.
    Bucket(Url),
}

/// The way to a bucket.
pub(super) struct Bucket {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) signer: Arc<dyn Signer>,
    pub(super) prefix: Key,
}

impl Location {
    /// Takes what was typed: the URL of a bucket, or else a folder.
    ///
    /// # Errors
    /// [`Error::Usage`] for any other URL, and for one without a bucket.
    pub fn new(typed: PathBuf) -> Result<Self> {
        let Some((text, (scheme, _))) = typed
            .to_str()
            .and_then(|text| Some((text, text.split_once("://")?)))
        else {
            return Ok(Self::Folder(typed));
        };
        let refused = |problem: &str| {
            Error::Usage {
            what: format!("the store `{}` {problem}", text.escape_debug()),
            hint: Some(
                "a store is a folder, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
                    .into(),
            ),
        }
        };
        if !["s3", "gs", "az"].contains(&scheme) {
            return Err(refused("is nothing that can be opened"));
        }
        let url = Url::parse(text).map_err(|err| refused(&format!("is malformed: {err}")))?;
        match url.host_str() {
            None | Some("") => Err(refused("has no bucket")),
            _ if !url.username().is_empty() || url.password().is_some() => Err(Error::usage(
                "the URL of the store must not have credentials: they belong in the environment",
            )),
            _ if url.query().is_some() || url.fragment().is_some() => {
                Err(refused("must not have a query or a fragment"))
            }
            Some(_) => Ok(Self::Bucket(url)),
        }
    }

    /// Makes the clients for a bucket, of what the environment says about it.
    pub(super) fn connect(&self, client: &Client, retry: &RetryPolicy) -> Result<Bucket> {
        let Self::Bucket(url) = self else {
            return Err(Error::usage(format!("{self} is not a bucket")));
        };
        let unusable = |err: object_store::Error| Error::Usage {
            what: format!(
                "cannot use the store {self}: {}",
                super::redacted(&err.to_string())
            ),
            hint: Some(
                "its credentials come from the environment: AWS_…, GOOGLE_… or AZURE_…".into(),
            ),
        };
        let prefix = Key::from_url_path(url.path())
            .map_err(|err| Error::usage(format!("the prefix of {self} makes no sense: {err}")))?;
        let bucket = url.host_str().unwrap_or_default();
        let (retry, connector) = (retries(retry), client.connector());
        let (objects, signer): (Arc<dyn ObjectStore>, Arc<dyn Signer>) = match url.scheme() {
            "s3" => both(
                AmazonS3Builder::from_env()
                    .with_bucket_name(bucket)
                    .with_retry(retry)
                    .with_http_connector(connector)
                    .build()
                    .map_err(unusable)?,
            ),
            "gs" => both(
                GoogleCloudStorageBuilder::from_env()
                    .with_bucket_name(bucket)
                    .with_retry(retry)
                    .with_http_connector(connector)
                    .build()
                    .map_err(unusable)?,
            ),
            _ => both(
                MicrosoftAzureBuilder::from_env()
                    .with_container_name(bucket)
                    .with_retry(retry)
                    .with_http_connector(connector)
                    .build()
                    .map_err(unusable)?,
            ),
        };
        Ok(Bucket {
            objects,
            signer,
            prefix,
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Bucket(url) => f.write_str(url.as_str().trim_end_matches('/')),
        }
    }
}

fn both<T: ObjectStore + Signer>(store: T) -> (Arc<dyn ObjectStore>, Arc<dyn Signer>) {
    let store = Arc::new(store);
    (Arc::<T>::clone(&store), store)
}

/// Makes the store in a folder. What it reports as written is on disk.
pub(super) fn folder(path: &Path) -> object_store::Result<LocalFileSystem> {
    Ok(LocalFileSystem::new_with_prefix(path)?.with_fsync(true))
}

fn retries(policy: &RetryPolicy) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: policy.base.min(Duration::from_secs(1)),
            max_backoff: policy.max,
            base: 2.0,
        },
        max_retries: policy.attempts.saturating_sub(1) as usize,
        retry_timeout: policy.total.unwrap_or(Duration::from_secs(180)),
    }
}

#[cfg(test)]
mod tests {
    use super::Location;
    use std::path::PathBuf;

    #[test]
    fn what_has_no_scheme_is_a_folder() {
        for text in ["store", "/a/b", "s3:/x", "a:b"] {
            let location = Location::new(text.into()).unwrap();
            assert_eq!(location, Location::Folder(PathBuf::from(text)));
        }
        for text in ["s3://bucket", "gs://bucket/a/b", "az://container/x/"] {
            let location = Location::new(text.into()).unwrap();
            assert_eq!(location.to_string(), text.trim_end_matches('/'));
        }
    }

    #[test]
    fn other_urls_are_refused_without_their_secrets() {
        for text in ["http://h/x", "s3://", "s3:///x", "s3://b/x?y", "s3://b#y"] {
            let err = Location::new(text.into()).unwrap_err().to_string();
            assert!(err.starts_with(&format!("the store `{text}` ")), "{err}");
        }
        let err = Location::new("s3://id:s3cret@bucket".into()).unwrap_err();
        assert!(!format!("{err} {err:?}").contains("s3cret"));
    }
}
