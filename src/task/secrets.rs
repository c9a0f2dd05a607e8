//! [`Secrets`]: where a deployment has the secrets of a task.

use crate::{
    error::{Error, Result},
    http::Address,
    task::{
        credentials::Credentials,
        queue::{Way, parse_root},
    },
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::sync::Arc;

/// What may stand in a path as it is. Slashes are parts of names, which the service wants undone.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// The secrets service, as it is reached with a task's or a client's credentials.
#[derive(Clone)]
pub struct Secrets(Way);

impl Secrets {
    /// Takes the way of private artifacts: through the proxy, else signed. `root` and `proxy` are the values of
    /// `TASKCLUSTER_ROOT_URL` and `TASKCLUSTER_PROXY_URL`.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the variable that is malformed, or all that are missing.
    pub fn new(
        root: Option<&str>,
        proxy: Option<&str>,
        credentials: Option<Credentials>,
    ) -> Result<Self> {
        match (proxy, root, credentials) {
            (Some(proxy), ..) => Ok(Self(Way {
                base: parse_root("TASKCLUSTER_PROXY_URL", proxy)?,
                credentials: None,
            })),
            (None, Some(root), Some(credentials)) => Ok(Self(Way {
                base: parse_root("TASKCLUSTER_ROOT_URL", root)?,
                credentials: Some(Arc::new(credentials)),
            })),
            _ => Err(Error::Usage {
                what: "a secret is needed, and there is no TASKCLUSTER_PROXY_URL to get it through".into(),
                hint: Some(
                    "in a task, enable its taskclusterProxy feature; elsewhere, set TASKCLUSTER_ROOT_URL, \
                     TASKCLUSTER_CLIENT_ID and TASKCLUSTER_ACCESS_TOKEN"
                        .into(),
                ),
            }),
        }
    }

    /// Returns where a secret is.
    #[must_use]
    pub fn secret(&self, name: &str) -> Address {
        let name = utf8_percent_encode(name, KEPT);
        self.0.address(&format!("secrets/v1/secret/{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Secrets;
    use crate::task::credentials::Credentials;

    #[test]
    fn the_proxy_goes_before_credentials() {
        let credentials = || Credentials::new("id".into(), "token", None).ok();
        let root = Some("https://tc.example.com");
        let secrets = Secrets::new(root, Some("http://taskcluster/"), credentials()).unwrap();
        let address = secrets.secret("project/a b?/key");
        assert_eq!(
            address.url.as_str(),
            "http://taskcluster/api/secrets/v1/secret/project/a%20b%3F/key"
        );
        assert!(address.authorize.is_none());
        let signed = Secrets::new(root, None, credentials()).unwrap().secret("k");
        assert_eq!(signed.url.host_str(), Some("tc.example.com"));
        assert!(signed.authorize.is_some());
        assert!(Secrets::new(root, None, None).is_err());
        assert!(Secrets::new(None, None, credentials()).is_err());
    }
}
