//! What the verbs that talk to registries have in common.

use crate::{
    cli::{args::RegistryWay, settings::Tunables},
    error::{Error, Result},
    http::Client,
    oci::{
        Digest,
        registry::{Connection, Logins, Reference},
    },
};

/// Returns the name that was typed.
pub(super) fn reference(typed: &str) -> Result<Reference> {
    typed.parse().map_err(|err| Error::Usage {
        what: format!("{err}"),
        hint: Some("give it as [REGISTRY/]REPOSITORY[:TAG][@DIGEST]".into()),
    })
}

/// Returns how registries are talked to.
pub(in crate::cli) fn connection(
    way: &RegistryWay,
    client: &Client,
    tunables: &Tunables,
) -> Connection {
    Connection {
        client: client.clone(),
        retry: tunables.retry.clone(),
        logins: Logins::of(|name| std::env::var_os(name)),
        plain_http: way.plain_http,
    }
}

/// Returns what a blob is called in lines and bars.
pub(super) fn short(digest: &Digest) -> String {
    let hex = digest.hex();
    hex.get(..12).unwrap_or(&hex).to_owned()
}
