//! The object service: artifacts of storage type `object`, whose content it promises by digests.
//!
//! The queue's ordinary answer to such an artifact is a redirect without any, or a 404 where the storage cannot do that.
//! So the queue is asked for the object's name and for credentials to it, and the object service for a URL. This is done
//! for every attempt and just before the URL is used, so that neither the time at which it expires nor that of the
//! credentials (an hour) needs to be looked at.

use crate::{
    digest::Sha2Digest,
    error::{Error, Result},
    http::{Address, Body, Client},
    safe_url::SafeUrl,
    task::{credentials::Credentials, queue::api_url},
    verify::Expected,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, de::DeserializeOwned};
use std::{io, sync::Arc};
use url::Url;

/// What is not encoded in an object's name, which is one segment of a path.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// What this program can do with an object. The service prefers the first, which comes with digests.
const METHODS: &str = r#"{"acceptDownloadMethods":{"getUrl":true,"simple":true}}"#;

/// More than any answer of the API has, in bytes.
const LIMIT: usize = 1 << 20;

/// What the queue knows of an artifact's content.
#[derive(Deserialize)]
#[serde(tag = "storageType", rename_all = "lowercase")]
enum Content {
    Object {
        name: String,
        credentials: Given,
    },
    #[serde(other)]
    Elsewhere,
}

/// Credentials for one object.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given {
    client_id: String,
    access_token: String,
    certificate: Option<String>,
}

/// How to get an object.
#[derive(Deserialize)]
#[serde(tag = "method", rename_all = "camelCase")]
enum Download {
    GetUrl { url: String, hashes: Hashes },
    Simple { url: String },
}

/// The hashes that are good enough. Others may be there and are not looked at.
#[derive(Deserialize)]
struct Hashes {
    sha256: Option<String>,
    sha512: Option<String>,
}

/// Asks where an object is and what is promised of it. `content` is the queue's artifact-content method for the
/// artifact; `root` is the deployment, since a proxy would sign with other credentials than those for the object.
///
/// # Errors
/// Those of both requests; [`Error::Unverifiable`] when there is no digest where there must be one.
pub(super) async fn locate(client: &Client, content: &Address, root: &Url) -> Result<Address> {
    let asked = SafeUrl::from(&content.url);
    let (name, given) = match json(client.get(content).await?).await? {
        Content::Object { name, credentials } => (name, credentials),
        Content::Elsewhere => {
            let problem = "the artifact was an object in the answer before, and is none in this";
            return Err(broken(&asked, true, problem));
        }
    };
    let certificate = given.certificate.as_deref();
    let credentials = Credentials::new(given.client_id, &given.access_token, certificate)
        .map_err(|_malformed| broken(&asked, false, "it has malformed credentials"))?;
    let name = utf8_percent_encode(&name, KEPT);
    let start = Address {
        authorize: Some(Arc::new(credentials)),
        ..Address::from(api_url(root, &format!("object/v1/start-download/{name}")))
    };
    let asked = SafeUrl::from(&start.url);
    let body = client.put_json(&start, METHODS.into()).await?;
    let (url, promised) = match json(body).await? {
        Download::GetUrl { url, hashes } => (url, hashes.promise(&asked)?),
        Download::Simple { url } => (url, Expected::default()),
    };
    let url = Url::parse(&url)
        .map_err(|err| broken(&asked, false, &format!("its URL is none: {err}")))?;
    Ok(Address {
        handed_out: true,
        promised,
        ..Address::from(url)
    })
}

impl Hashes {
    /// Returns what has to be true of the content: every hash that is known here, and at least one.
    fn promise(&self, url: &SafeUrl) -> Result<Expected> {
        let promised = Expected {
            sha256: digest(self.sha256.as_deref(), url)?,
            sha512: digest(self.sha512.as_deref(), url)?,
            size: None,
        };
        if promised == Expected::default() {
            return Err(Error::Unverifiable {
                url: url.clone(),
                problem: "promises neither a sha256 nor a sha512 of the object".into(),
            });
        }
        Ok(promised)
    }
}

fn digest<const BYTES: usize>(
    text: Option<&str>,
    url: &SafeUrl,
) -> Result<Option<Sha2Digest<BYTES>>> {
    text.map(str::parse).transpose().map_err(|err| {
        let problem = format!("promises the object by a malformed hash: {err}");
        Error::Unverifiable {
            url: url.clone(),
            problem,
        }
    })
}

/// Reads an answer of the API. Its text, which may be repeated by an error of the parser, may hold credentials.
async fn json<T: DeserializeOwned>(body: Body) -> Result<T> {
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

fn broken(url: &SafeUrl, transient: bool, problem: &str) -> Error {
    let text = format!("the answer is not what the API describes: {problem}");
    Error::Http {
        url: url.clone(),
        transient,
        source: io::Error::new(io::ErrorKind::InvalidData, text),
    }
}
