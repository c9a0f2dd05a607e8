//! [`Queue`]: the URLs of a Taskcluster deployment, and the ways to an artifact.
//!
//! Public artifacts are asked for without credentials, as everybody can. Private ones go through the proxy that a
//! worker offers, which signs; without one, requests to the deployment are signed here. A public artifact that is
//! refused (some deployments give nothing to anonymous callers) is asked for once more the way of private ones.

use crate::{
    error::{Error, Result},
    http::{Address, Answer, Authorize, Client, Detour},
    task::{
        credentials::Credentials,
        id::{ArtifactName, TaskId},
        object_service,
    },
};
use futures::{FutureExt, future::BoxFuture};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::sync::Arc;
use url::Url;

/// What is not encoded in one segment of a path: RFC 3986's unreserved characters.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A Taskcluster deployment, and what opens its private artifacts.
#[derive(Clone, Debug)]
pub struct Queue {
    root: Url,
    proxy: Option<Url>,
    credentials: Option<Arc<Credentials>>,
}

impl Queue {
    /// Parses the values of `TASKCLUSTER_ROOT_URL` and `TASKCLUSTER_PROXY_URL`; slashes at their ends do not matter.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the variable.
    pub fn new(root: &str, proxy: Option<&str>, credentials: Option<Credentials>) -> Result<Self> {
        let proxy = proxy
            .map(|text| parse_root("TASKCLUSTER_PROXY_URL", text))
            .transpose()?;
        Ok(Self {
            root: parse_root("TASKCLUSTER_ROOT_URL", root)?,
            proxy,
            credentials: credentials.map(Arc::new),
        })
    }

    /// Returns where an artifact of a task's latest run is asked for.
    ///
    /// # Errors
    /// [`Error::Usage`] for a private artifact when there is neither a proxy nor credentials.
    pub fn artifact(&self, task: &TaskId, artifact: &ArtifactName) -> Result<Address> {
        let (way, otherwise) = match self.private_way() {
            private if artifact.is_public() => (self.open_way(), private),
            Some(private) => (private, None),
            None => {
                return Err(Error::Usage {
                    what: format!(
                        "artifact `{artifact}` is private, and neither TASKCLUSTER_PROXY_URL nor TASKCLUSTER_CLIENT_ID is set"
                    ),
                    hint: Some(
                        "in a task, enable its taskclusterProxy feature; elsewhere, set TASKCLUSTER_CLIENT_ID and \
                         TASKCLUSTER_ACCESS_TOKEN; names of public artifacts start with `public/`"
                            .into(),
                    ),
                });
            }
        };
        let asked = Asked {
            task: task.clone(),
            artifact: artifact.clone(),
            root: self.root.clone(),
            way,
            otherwise,
        };
        Ok(asked.into_address())
    }

    /// Returns how everybody reaches the API.
    pub(super) fn open_way(&self) -> Way {
        Way {
            base: self.root.clone(),
            credentials: None,
        }
    }

    /// Returns how the API is reached with credentials of any kind, to change something.
    ///
    /// # Errors
    /// [`Error::Usage`] when there are none.
    pub(super) fn own_way(&self) -> Result<Way> {
        self.private_way().ok_or_else(|| Error::Usage {
            what: "neither TASKCLUSTER_PROXY_URL nor TASKCLUSTER_CLIENT_ID is set".into(),
            hint: Some(
                "in a task, enable its taskclusterProxy feature; elsewhere, set TASKCLUSTER_CLIENT_ID and \
                 TASKCLUSTER_ACCESS_TOKEN"
                    .into(),
            ),
        })
    }

    /// Returns how the API is reached with credentials that it gave out itself, which a proxy would not use.
    pub(super) fn way_with(&self, credentials: Credentials) -> Way {
        Way {
            credentials: Some(Arc::new(credentials)),
            ..self.open_way()
        }
    }

    pub(super) fn private_way(&self) -> Option<Way> {
        match (&self.proxy, &self.credentials) {
            (Some(proxy), _) => Some(Way {
                base: proxy.clone(),
                credentials: None,
            }),
            (None, Some(credentials)) => Some(Way {
                base: self.root.clone(),
                credentials: Some(Arc::clone(credentials)),
            }),
            (None, None) => None,
        }
    }
}

/// Parses the value of a variable with the URL of a deployment.
pub(super) fn parse_root(variable: &str, text: &str) -> Result<Url> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err(Error::Usage {
            // Not shown: it may hold a password.
            what: format!("{variable} is not an http or https URL"),
            hint: Some(format!(
                "set {variable} to something like https://tc.example.com"
            )),
        }),
    }
}

/// How the API is reached.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) base: Url,
    pub(super) credentials: Option<Arc<Credentials>>,
}

impl Way {
    /// Returns the address of a method. `path` is percent-encoded and begins with the service.
    pub(super) fn address(&self, path: &str) -> Address {
        let credentials = self.credentials.clone();
        Address {
            authorize: credentials.map(|credentials| credentials as Arc<dyn Authorize>),
            ..Address::from(api_url(&self.base, path))
        }
    }
}

/// Returns a URL of the API. `path` is percent-encoded, begins with the service and may have a query.
pub(super) fn api_url(base: &Url, path: &str) -> Url {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    let mut url = base.clone();
    let root = base.path().trim_end_matches('/');
    url.set_path(&format!("{root}/api/{path}"));
    url.set_query(query);
    url
}

/// Returns a text as one segment of a path, or as a value in a query.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, KEPT).to_string()
}

/// An artifact on its way. The answer of the queue decides where it goes on.
#[derive(Clone)]
struct Asked {
    task: TaskId,
    artifact: ArtifactName,
    root: Url,
    way: Way,
    /// The way to take if this one is barred.
    otherwise: Option<Way>,
}

impl Asked {
    fn into_address(self) -> Address {
        let address = self.address("artifacts");
        Address {
            detour: Some(Arc::new(self)),
            ..address
        }
    }

    /// Returns the address of one of the queue's methods for this artifact.
    fn address(&self, method: &str) -> Address {
        let (task, name) = (&self.task, self.artifact.percent_encoded());
        self.way
            .address(&format!("queue/v1/task/{task}/{method}/{name}"))
    }
}

impl Detour for Asked {
    fn after<'a>(
        &'a self,
        answer: Answer<'a>,
        client: &'a Client,
    ) -> BoxFuture<'a, Result<Option<Address>>> {
        async move {
            let is_object = answer.header("x-taskcluster-artifact-storage-type") == Some("object");
            match (answer.status(), &self.otherwise) {
                (401 | 403, Some(way)) => {
                    let again = Self {
                        way: way.clone(),
                        otherwise: None,
                        ..self.clone()
                    };
                    Ok(Some(again.into_address()))
                }
                // The redirect has no hashes, and a backend that cannot make one answers 404.
                (303 | 404, _) if is_object => {
                    let content = self.address("artifact-content");
                    let address = object_service::locate(client, &content, &self.root).await?;
                    Ok(Some(address))
                }
                _ => Ok(None),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::Queue;
    use crate::{http::Address, task::credentials::Credentials};

    const ROOT: &str = "https://tc.example.com//";

    fn credentials() -> Option<Credentials> {
        Credentials::new("id".into(), "token", None).ok()
    }

    fn address(queue: &Queue, name: &str) -> Address {
        queue
            .artifact(&"TASK".parse().unwrap(), &name.parse().unwrap())
            .unwrap()
    }

    #[test]
    fn public_artifacts_come_from_the_root_and_private_ones_through_the_proxy() {
        let queue = Queue::new(ROOT, Some("http://taskcluster:80/"), credentials()).unwrap();
        let public = address(&queue, "public/a b/x#1");
        assert_eq!(
            public.url.as_str(),
            "https://tc.example.com/api/queue/v1/task/TASK/artifacts/public/a%20b/x%231"
        );
        let private = address(&queue, "private/x");
        assert_eq!(
            private.url.as_str(),
            "http://taskcluster/api/queue/v1/task/TASK/artifacts/private/x"
        );
        assert!(public.authorize.is_none() && private.authorize.is_none());
    }

    #[test]
    fn without_a_proxy_private_artifacts_are_signed_for() {
        let queue = Queue::new(ROOT, None, credentials()).unwrap();
        let private = address(&queue, "private/50%");
        assert_eq!(
            private.url.as_str(),
            "https://tc.example.com/api/queue/v1/task/TASK/artifacts/private/50%25"
        );
        assert!(private.authorize.is_some());
        assert!(address(&queue, "public/x").authorize.is_none());
    }

    #[test]
    fn missing_and_malformed_urls_are_named() {
        let err = Queue::new("tc.example.com", None, None).unwrap_err();
        assert_eq!(
            err.to_string(),
            "TASKCLUSTER_ROOT_URL is not an http or https URL"
        );
        let queue = Queue::new(ROOT, None, None).unwrap();
        let private = queue.artifact(&"T".parse().unwrap(), &"private/x".parse().unwrap());
        let Err(err) = private else {
            panic!("there is no way to it");
        };
        for way in ["TASKCLUSTER_PROXY_URL", "TASKCLUSTER_CLIENT_ID"] {
            assert!(err.to_string().contains(way), "{err}");
        }
    }
}
