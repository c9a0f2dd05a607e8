//! [`Credentials`] for Taskcluster, permanent or temporary. They sign requests and cannot be shown.

use crate::{
    error::{Error, Result},
    http::Authorize,
    task::hawk::{Moment, Signer},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use ring::hmac;
use serde_json::{Map, Value};
use std::fmt;
use url::Url;

const CLIENT_ID: &str = "TASKCLUSTER_CLIENT_ID";
const ACCESS_TOKEN: &str = "TASKCLUSTER_ACCESS_TOKEN";
const CERTIFICATE: &str = "TASKCLUSTER_CERTIFICATE";

/// Signs requests. Neither the token nor the certificate can be had back from it.
#[derive(Clone)]
pub struct Credentials {
    client_id: String,
    key: hmac::Key,
    /// The certificate of temporary credentials, as it is sent.
    ext: Option<String>,
}

/// Which part of credentials makes no sense. Says nothing of what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("has characters that no client id has")]
    ClientId,
    #[error("is not a JSON object")]
    Certificate,
}

impl Credentials {
    /// Reads `TASKCLUSTER_CLIENT_ID`, `TASKCLUSTER_ACCESS_TOKEN` and, for temporary credentials,
    /// `TASKCLUSTER_CERTIFICATE` by `variable`; returns `None` if none of them is set.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the variable that is missing or malformed.
    pub fn from_variables(
        variable: impl Fn(&'static str) -> Result<Option<String>>,
    ) -> Result<Option<Self>> {
        let [id, token, certificate] = [
            variable(CLIENT_ID)?,
            variable(ACCESS_TOKEN)?,
            variable(CERTIFICATE)?,
        ];
        let incomplete = |missing: &str, set: &str| {
            Err(Error::Usage {
                what: format!("{missing} is not set, but {set} is"),
                hint: Some(format!(
                    "set both {CLIENT_ID} and {ACCESS_TOKEN} to read private artifacts, or neither"
                )),
            })
        };
        let (id, token) = match (id, token) {
            (Some(id), Some(token)) => (id, token),
            (None, None) if certificate.is_none() => return Ok(None),
            (None, None) => return incomplete(CLIENT_ID, CERTIFICATE),
            (None, Some(_)) => return incomplete(CLIENT_ID, ACCESS_TOKEN),
            (Some(_), None) => return incomplete(ACCESS_TOKEN, CLIENT_ID),
        };
        let credentials = Self::new(id, &token, certificate.as_deref());
        credentials.map(Some).map_err(|malformed| {
            let variable = match malformed {
                Malformed::ClientId => CLIENT_ID,
                Malformed::Certificate => CERTIFICATE,
            };
            Error::usage(format!("{variable} {malformed}"))
        })
    }

    /// Takes over credentials. `certificate` is the JSON of temporary ones.
    pub(super) fn new(
        client_id: String,
        access_token: &str,
        certificate: Option<&str>,
    ) -> Result<Self, Malformed> {
        let sendable = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        if !client_id.bytes().all(sendable) {
            return Err(Malformed::ClientId);
        }
        let ext = certificate.map(|text| {
            // Only looked at: it is sent as it is, since its maker signed it.
            serde_json::from_str::<Map<String, Value>>(text)
                .map_err(|_secret| Malformed::Certificate)?;
            Ok(BASE64_STANDARD.encode(format!(r#"{{"certificate":{text}}}"#)))
        });
        Ok(Self {
            client_id,
            key: hmac::Key::new(hmac::HMAC_SHA256, access_token.as_bytes()),
            ext: ext.transpose()?,
        })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Authorize for Credentials {
    fn authorization(&self, method: &str, url: &Url) -> Result<String> {
        let signer = Signer {
            id: &self.client_id,
            key: &self.key,
            ext: self.ext.as_deref(),
        };
        Ok(signer.authorization(method, url, &Moment::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::Credentials;
    use crate::error::Result;

    const CERTIFICATE: &str = r#"{"version":1,"signature":"s1gnature"}"#;

    fn of(
        id: Option<&str>,
        token: Option<&str>,
        certificate: Option<&str>,
    ) -> Result<Option<Credentials>> {
        Credentials::from_variables(|variable| {
            let value = match variable {
                "TASKCLUSTER_CLIENT_ID" => id,
                "TASKCLUSTER_ACCESS_TOKEN" => token,
                "TASKCLUSTER_CERTIFICATE" => certificate,
                _ => panic!("{variable}"),
            };
            Ok(value.map(str::to_owned))
        })
    }

    #[test]
    fn they_are_complete_or_absent() {
        assert!(of(None, None, None).unwrap().is_none());
        assert!(of(Some("id"), Some("token"), None).unwrap().is_some());
        assert!(
            of(Some("id"), Some("token"), Some(CERTIFICATE))
                .unwrap()
                .is_some()
        );
        for (id, token, certificate, missing) in [
            (Some("id"), None, None, "TASKCLUSTER_ACCESS_TOKEN"),
            (
                Some("id"),
                None,
                Some(CERTIFICATE),
                "TASKCLUSTER_ACCESS_TOKEN",
            ),
            (None, Some("t0ken"), None, "TASKCLUSTER_CLIENT_ID"),
            (None, None, Some(CERTIFICATE), "TASKCLUSTER_CLIENT_ID"),
        ] {
            let err = of(id, token, certificate).unwrap_err().to_string();
            assert!(err.starts_with(&format!("{missing} is not set")), "{err}");
        }
    }

    #[test]
    fn malformed_parts_are_named_and_not_shown() {
        for (id, certificate, variable) in [
            ("s3cret\"", None, "TASKCLUSTER_CLIENT_ID"),
            ("s3cret\n", None, "TASKCLUSTER_CLIENT_ID"),
            ("id", Some("s3cret"), "TASKCLUSTER_CERTIFICATE"),
            ("id", Some(r#"["s3cret"]"#), "TASKCLUSTER_CERTIFICATE"),
            ("id", Some(r#"{"a": "s3cret"#), "TASKCLUSTER_CERTIFICATE"),
        ] {
            let err = of(Some(id), Some("t0ken"), certificate).unwrap_err();
            let text = format!("{err} {err:?}");
            assert!(text.starts_with(variable), "{text}");
            assert!(!text.contains("s3cret") && !text.contains("t0ken"));
        }
    }

    #[test]
    fn they_cannot_be_shown() {
        let credentials = of(Some("id"), Some("t0ken"), Some(CERTIFICATE));
        let shown = format!("{credentials:?}");
        assert_eq!(shown, "Ok(Some(Credentials { .. }))");
    }
}
