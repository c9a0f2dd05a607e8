//! The server's side of Hawk, written from its description and from nothing of the program: HMAC is spelled out here.

use std::collections::BTreeMap;
use std::time::SystemTime;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::server::{Reply, Seen};

/// A client that the platform knows.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) id: &'static str,
    pub(crate) token: &'static str,
    /// What temporary credentials come with.
    pub(crate) certificate: Option<Value>,
}

impl Account {
    /// Returns `reply` if the client has signed the request, and else what the platform answers.
    pub(crate) fn guard(&self, seen: &Seen, reply: Reply) -> Reply {
        match self.check(seen) {
            Ok(()) => reply,
            Err(problem) => Reply::api_error(
                401,
                "AuthenticationFailed",
                &format!("Unauthorized: {problem}"),
            ),
        }
    }

    fn check(&self, seen: &Seen) -> Result<(), String> {
        let header = seen.header("authorization").ok_or("not signed")?;
        let attributes = attributes(header)?;
        let get = |name: &str| attributes.get(name).map_or("", String::as_str);
        if get("id") != self.id {
            return Err(format!("{} is not known", get("id")));
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = since.expect("a time after 1970").as_secs();
        let signed_at: u64 = get("ts").parse().map_err(|_malformed| "Stale timestamp")?;
        if now.abs_diff(signed_at) > 60 || get("nonce").is_empty() {
            return Err("Stale timestamp".into());
        }
        let ext = BASE64_STANDARD
            .decode(get("ext"))
            .map_err(|_malformed| "Bad ext")?;
        let certificate = self.certificate.as_ref();
        let expected = certificate.map(|certificate| json!({"certificate": certificate}));
        if serde_json::from_slice(&ext).ok() != expected {
            return Err("Bad certificate".into());
        }
        let host = seen.header("host").ok_or("no host")?;
        let (host, port) = host.split_once(':').unwrap_or((host, "80"));
        let lines = [
            "hawk.1.header",
            get("ts"),
            get("nonce"),
            &seen.method,
            &seen.path,
            host,
            port,
            get("hash"),
            get("ext"),
            "",
        ];
        let mac = hmac_sha256(self.token.as_bytes(), lines.join("\n").as_bytes());
        if BASE64_STANDARD.encode(mac) != get("mac") {
            return Err("Bad mac".into());
        }
        Ok(())
    }
}

/// Returns what nobody else may learn of the signatures of requests.
pub(crate) fn secrets_of(requests: &[Seen]) -> Vec<String> {
    let headers = requests
        .iter()
        .filter_map(|seen| seen.header("authorization"));
    let signed = headers.map(|header| attributes(header).expect("a Hawk header"));
    let parts = signed.flat_map(|mut signed| {
        let parts = ["mac", "ext", "nonce"].into_iter();
        parts.filter_map(move |name| signed.remove(name))
    });
    parts.collect()
}

/// The attributes of an `Authorization: Hawk` header.
pub(crate) fn attributes(header: &str) -> Result<BTreeMap<String, String>, String> {
    let list = header.strip_prefix("Hawk ").ok_or("not Hawk")?;
    let pairs = list.split(", ").map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let value = value.strip_prefix('"')?.strip_suffix('"')?;
        Some((name.to_owned(), value.to_owned()))
    });
    let pairs: Option<BTreeMap<_, _>> = pairs.collect();
    pairs.ok_or_else(|| format!("malformed: {header}"))
}

/// RFC 2104.
fn hmac_sha256(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let padded = |pad: u8| block.map(|byte| byte ^ pad).to_vec();
    let inner = Sha256::digest([padded(0x36), text.to_vec()].concat());
    Sha256::digest([padded(0x5c), inner.to_vec()].concat()).to_vec()
}

/// Test case 2 of RFC 4231.
#[test]
fn the_hmac_here_is_that_of_the_rfc() {
    let mac = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
    assert_eq!(
        BASE64_STANDARD.encode(mac),
        "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM="
    );
}
