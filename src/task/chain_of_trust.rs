//! `public/chain-of-trust.json`: what a worker says about the digests of a task's artifacts.

use crate::{
    digest::Sha256Digest,
    error::{Error, Result},
    http::Body,
    safe_url::SafeUrl,
    task::id::ArtifactName,
    verify::Verifier,
};
use serde::Deserialize;
use std::collections::HashMap;

/// Where it is.
pub(super) const NAME: &str = "public/chain-of-trust.json";

/// More than any task has artifacts for, in bytes.
const LIMIT: usize = 64 << 20;

/// The part of it that is used. Its signature is not looked at.
#[derive(Debug)]
pub(super) struct ChainOfTrust {
    url: SafeUrl,
    artifacts: HashMap<String, Listed>,
}

#[derive(Debug, Deserialize)]
struct Document {
    artifacts: HashMap<String, Listed>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    sha256: Option<String>,
}

impl ChainOfTrust {
    /// Reads and parses it.
    pub(super) async fn read(body: Body) -> Result<Self> {
        let url = body.url().clone();
        let mut verifier = Verifier::new(body.promised());
        let content = body.read_all(LIMIT).await?;
        verifier.update(&content);
        verifier.finish(&url)?;
        let problem = |err: serde_json::Error| Error::ChainOfTrust {
            url: url.clone(),
            problem: format!("is not a chain of trust: {err}"),
        };
        let Document { artifacts } = serde_json::from_slice(&content).map_err(problem)?;
        Ok(Self { url, artifacts })
    }

    /// Returns what it says about one artifact, of the decoded content.
    pub(super) fn digest_of(&self, artifact: &ArtifactName) -> Result<Sha256Digest> {
        let problem = |problem: String| Error::ChainOfTrust {
            url: self.url.clone(),
            problem,
        };
        let listed = self
            .artifacts
            .get(artifact.as_str())
            .and_then(|listed| listed.sha256.as_deref());
        let text = listed.ok_or_else(|| problem(format!("does not list `{artifact}`")))?;
        text.parse()
            .map_err(|err| problem(format!("lists `{artifact}`, but {err}")))
    }

    /// Returns the error for an entry that pins another digest.
    pub(super) fn contradiction(&self, artifact: &ArtifactName, vouched: &Sha256Digest) -> Error {
        Error::ChainOfTrust {
            url: self.url.clone(),
            problem: format!("lists `{artifact}` with {vouched}, the entry pins another sha256"),
        }
    }
}
