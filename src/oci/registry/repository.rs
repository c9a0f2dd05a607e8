//! [`Repository`]: what can be asked of a registry about one of its repositories.

use super::{Logins, Reference, gate::Gate, scope::Scopes};
use crate::archive::Placing;
use crate::{
    error::{Error, Result},
    fetch::{Context, Request, fetch},
    http::{Address, Attempts, Call, Client, Content, Header, Method, Reply, RetryPolicy, Source},
    observe::Observer,
    oci::{Descriptor, Digest, MAX_MANIFEST, media_type},
    safe_url::SafeUrl,
    verify::Expected,
};
use serde::Deserialize;
use std::{path::PathBuf, sync::Arc};
use url::Url;

/// What manifests may be.
const MANIFESTS: [&str; 4] = [
    media_type::INDEX,
    media_type::MANIFEST,
    media_type::DOCKER_LIST,
    media_type::DOCKER_MANIFEST,
];

/// How registries are talked to.
#[derive(Clone)]
pub struct Connection {
    /// Talks to servers.
    pub client: Client,
    /// How often and when to try again.
    pub retry: RetryPolicy,
    /// Where credentials are.
    pub logins: Logins,
    /// Whether to do without TLS also for registries of other machines.
    pub plain_http: bool,
}

/// A repository of a registry.
#[derive(Clone)]
pub struct Repository {
    pub(super) client: Client,
    pub(super) retry: RetryPolicy,
    pub(super) reference: Reference,
    pub(super) scopes: Scopes,
    api: Url,
    gate: Arc<Gate>,
}

/// A manifest or an index, as it was sent.
#[derive(Clone, Debug)]
pub struct Document {
    /// What it is.
    pub descriptor: Descriptor,
    /// Its bytes, which the digest is of.
    pub bytes: Vec<u8>,
}

impl Repository {
    /// Prepares to read images. Asks nobody.
    ///
    /// # Errors
    /// [`Error::Usage`] for a host that is none.
    pub fn reading(reference: &Reference, connection: &Connection) -> Result<Self> {
        Self::new(reference, connection, Scopes::pull(&reference.repository))
    }

    /// Prepares to write images. Asks nobody.
    ///
    /// # Errors
    /// As [`Repository::reading`].
    pub fn writing(reference: &Reference, connection: &Connection) -> Result<Self> {
        Self::new(reference, connection, Scopes::push(&reference.repository))
    }

    fn new(reference: &Reference, connection: &Connection, scopes: Scopes) -> Result<Self> {
        let api = reference.api(connection.plain_http);
        let api = api.ok_or_else(|| Error::usage(format!("`{reference}` has no host")))?;
        let logins = connection.logins.clone();
        Ok(Self {
            client: connection.client.clone(),
            retry: connection.retry.clone(),
            reference: reference.clone(),
            scopes,
            gate: Gate::new(api.clone(), reference.clone(), logins),
            api,
        })
    }

    /// Returns what is called by its reference.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Returns the manifest or index that the reference names.
    ///
    /// # Errors
    /// [`Error::Registry`].
    pub async fn manifest(&self, observer: &dyn Observer) -> Result<Document> {
        let digest = self.reference.digest.as_ref();
        let target = self.reference.target();
        let document = self.document(&target, digest, observer).await;
        document.map_err(|err| self.failed("read", err))
    }

    /// Returns a manifest or an index that another one names.
    ///
    /// # Errors
    /// [`Error::Registry`].
    pub async fn manifest_of(
        &self,
        descriptor: &Descriptor,
        observer: &dyn Observer,
    ) -> Result<Document> {
        let digest = &descriptor.digest;
        let target = digest.to_string();
        let document = self.document(&target, Some(digest), observer).await;
        document.map_err(|err| self.failed("read", err))
    }

    async fn document(
        &self,
        target: &str,
        digest: Option<&Digest>,
        observer: &dyn Observer,
    ) -> Result<Document> {
        let url = self.url(&format!("manifests/{target}"))?;
        let accept = format!("Accept: {}", MANIFESTS.join(", ")).parse()?;
        let call = Call {
            method: Method::GET,
            content: Content::None,
            limit: usize::try_from(MAX_MANIFEST).unwrap_or(usize::MAX),
        };
        let (url, headers) = (&url, vec![accept]);
        Attempts::new(&self.retry, observer)
            .run(|| async {
                let address = self.address(url.clone(), headers.clone()).await?;
                read_document(self.client.call(&address, &call).await?, digest)
            })
            .await
    }

    /// Returns where a blob can be downloaded.
    ///
    /// # Errors
    /// [`Error::Usage`] for credentials that cannot be sent.
    pub async fn blob_source(&self, digest: &Digest) -> Result<Source> {
        let address = self.address(self.blob_url(digest)?, Vec::new()).await?;
        Ok(Source::Url(Box::new(address)))
    }

    /// Downloads a blob into staging and returns the path of the file, which is verified. Whoever wants to keep it moves
    /// it.
    ///
    /// # Errors
    /// [`Error::Registry`].
    ///
    /// # Cancel safety
    /// As [`fetch`].
    pub async fn fetch_blob(
        &self,
        descriptor: &Descriptor,
        context: &Context,
        observer: &dyn Observer,
    ) -> Result<PathBuf> {
        let digest = &descriptor.digest;
        let expected = Expected {
            sha256: Some(digest.0),
            size: Some(descriptor.size),
            ..Expected::default()
        };
        let request = Request {
            name: digest.to_string(),
            sources: vec![self.blob_source(digest).await?],
            expected: expected.known(),
            signed: None,
            placings: vec![Placing::Keep],
            file_name: digest.hex().into(),
        };
        let staged = fetch(&request, context, observer).await;
        let staged = staged.map_err(|err| self.failed(&format!("pull blob {digest} of"), err))?;
        let directory = staged.into_iter().next().map(|staged| staged.directory);
        Ok(directory.ok_or(Error::Cancelled)?.join(digest.hex()))
    }

    /// Returns whether a blob is there.
    pub(super) async fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let url = self.blob_url(digest)?;
        match self.ask(Method::HEAD, url, &self.scopes).await {
            Ok(_) => Ok(true),
            Err(err) if err.is_absence() => Ok(false),
            // A storage that the registry redirects to may refuse to be asked in this way. Then nobody knows.
            Err(Error::Status {
                code: 400..=499,
                handed_out: true,
                ..
            }) => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// Returns the URL of a part of the repository.
    pub(super) fn url(&self, path: &str) -> Result<Url> {
        // What names are made of means itself in a URL.
        let joined = format!("{}{}/{path}", self.api, self.reference.repository);
        Url::parse(&joined).map_err(|err| Error::usage(format!("`{}`: {err}", self.reference)))
    }

    fn blob_url(&self, digest: &Digest) -> Result<Url> {
        self.url(&format!("blobs/{digest}"))
    }

    /// Returns how to ask for something, with what is known so far of how to be let through.
    pub(super) async fn address(&self, url: Url, headers: Vec<Header>) -> Result<Address> {
        self.gate.address(url, headers, &self.scopes).await
    }

    /// Sends a request without content, whose answer is in its headers.
    pub(super) async fn ask(&self, method: Method, url: Url, scopes: &Scopes) -> Result<Reply> {
        let address = self.gate.address(url, Vec::new(), scopes).await?;
        let call = Call {
            method,
            content: Content::None,
            limit: 0,
        };
        self.client.call(&address, &call).await
    }

    /// Returns whether the registry's own answers may name this URL: not one in the clear in place of one with TLS.
    pub(super) fn may_lead_to(&self, url: &Url) -> bool {
        matches!(
            (self.api.scheme(), url.scheme()),
            (_, "https") | ("http", "http")
        )
    }

    /// Says what could not be done with the image. `verb` comes before its name.
    pub(super) fn failed(&self, verb: &str, err: Error) -> Error {
        match err {
            Error::Usage { .. } | Error::Cancelled | Error::Fs { .. } | Error::Registry { .. } => {
                err
            }
            err => Error::Registry {
                what: format!("{verb} {}", self.reference),
                host: self.reference.host.clone(),
                anonymous: self.gate.is_anonymous(),
                source: Box::new(err),
            },
        }
    }
}

/// Takes over an answer, if it is what was asked for and what it says to be.
fn read_document(reply: Reply, digest: Option<&Digest>) -> Result<Document> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Kind {
        media_type: Option<String>,
        schema_version: u64,
    }
    let url = SafeUrl::from(&reply.url);
    let actual = Digest::of(&reply.body);
    let said = reply.header("docker-content-digest");
    let said = said.and_then(|text| text.parse().ok());
    if let Some(expected) = digest.copied().or(said)
        && expected != actual
    {
        return Err(Error::Digest {
            url,
            algorithm: "sha256",
            expected: expected.0.to_string(),
            actual: actual.0.to_string(),
            received: reply.body.len() as u64,
        });
    }
    let unusable = |problem: String| Error::Unverifiable {
        url: url.clone(),
        problem,
    };
    let kind: Kind = serde_json::from_slice(&reply.body)
        .map_err(|err| unusable(format!("is no manifest: {err}")))?;
    let header = reply.header("content-type").unwrap_or_default();
    let header = header.split(';').next().unwrap_or_default().trim();
    let media_type = kind.media_type.as_deref().unwrap_or(header);
    if kind.schema_version != 2 || !MANIFESTS.contains(&media_type) {
        return Err(unusable(format!(
            "is a manifest of a kind that is not known here: `{}`, version {}",
            media_type.escape_debug(),
            kind.schema_version
        )));
    }
    // Two readers must not take the same bytes for different things.
    if MANIFESTS.contains(&header) && header != media_type {
        return Err(unusable(format!(
            "is sent as {header}, and calls itself {media_type}"
        )));
    }
    Ok(Document {
        descriptor: Descriptor::new(media_type, actual, reply.body.len() as u64),
        bytes: reply.body,
    })
}
