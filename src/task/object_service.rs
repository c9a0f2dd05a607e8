//! The object service: artifacts of storage type `object`, whose content it promises by digests.
//!
//! The queue's ordinary answer to such an artifact is a redirect without any, or a 404 where the storage cannot do that.
//! So the queue is asked for the object's name and for credentials to it, and the object service for a URL. This is done
//! for every attempt and just before the URL is used, so that neither the time at which it expires nor that of the
//! credentials (an hour) needs to be looked at.

use crate::{
    digest::Sha2Digest,
    error::{Error, Result},
    http::{Address, Client},
    safe_url::SafeUrl,
    task::{
        answer::{Given, broken, json},
        queue::{api_url, segment},
    },
    verify::Expected,
};
use serde::Deserialize;
use std::sync::Arc;
use url::Url;

/// What this program can do with an object. The service prefers the first, which comes with digests.
const METHODS: &str = r#"{"acceptDownloadMethods":{"getUrl":true,"simple":true}}"#;

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
    let credentials = given.credentials(&asked)?;
    let name = segment(&name);
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
