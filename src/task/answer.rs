//! What the services of a deployment answer: JSON, which may hold credentials.

use crate::{
    error::{Error, Result},
    http::Body,
    safe_url::SafeUrl,
    task::credentials::Credentials,
};
use serde::{Deserialize, de::DeserializeOwned};
use std::io;

/// More than any answer has, in bytes: tasks have at most 1 MiB, and a thousand entries of an index less than that.
const LIMIT: usize = 4 << 20;

/// Credentials for one object.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Given {
    client_id: String,
    access_token: String,
    certificate: Option<String>,
}

impl Given {
    /// Takes them over. `url` is who gave them.
    pub(super) fn credentials(self, url: &SafeUrl) -> Result<Credentials> {
        let certificate = self.certificate.as_deref();
        Credentials::new(self.client_id, &self.access_token, certificate)
            .map_err(|_malformed| broken(url, false, "it has malformed credentials"))
    }
}

/// Reads an answer. Its text, which may be repeated by an error of the parser, may hold credentials.
pub(super) async fn json<T: DeserializeOwned>(body: Body) -> Result<T> {
    let url = body.head().url.clone();
    let text = body.read_all(LIMIT).await?;
    serde_json::from_slice(&text).map_err(|err| {
        let problem = if err.is_data() {
            "it is JSON of another shape"
        } else {
            "it is not JSON"
        };
        broken(&url, false, problem)
    })
}

pub(super) fn broken(url: &SafeUrl, transient: bool, problem: &str) -> Error {
    let text = format!("the answer is not what the API describes: {problem}");
    Error::Http {
        url: url.clone(),
        transient,
        source: io::Error::new(io::ErrorKind::InvalidData, text),
    }
}
