//! [`Reference`]: what people call an image at a registry.

use crate::oci::Digest;
use std::{fmt, net::IpAddr, str::FromStr};
use url::Url;

/// The registry of names without one, and the host that answers for it.
const DEFAULT_HOST: &str = "docker.io";
const DEFAULT_API: &str = "registry-1.docker.io";

/// Where the default registry has images without a namespace.
const DEFAULT_NAMESPACE: &str = "library/";

/// The longest name of a repository that registries take, in bytes, and the longest tag.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`, as Docker reads it: what comes before the first slash is a registry if it has
/// a dot or a colon, or is `localhost`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The registry, with its port if it has one.
    pub host: String,
    /// The repository.
    pub repository: String,
    /// The tag.
    pub tag: Option<String>,
    /// The digest of the manifest.
    pub digest: Option<Digest>,
}

/// A text is not a [`Reference`].
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not the name of an image: {problem}")]
pub struct ParseReferenceError {
    text: String,
    problem: &'static str,
}

impl Reference {
    /// Returns what its manifest is asked for by: the digest, or else the tag, or else `latest`.
    #[must_use]
    pub fn target(&self) -> String {
        match &self.digest {
            Some(digest) => digest.to_string(),
            None => self.tag_or_latest().to_owned(),
        }
    }

    /// Returns the tag, or `latest`.
    #[must_use]
    pub fn tag_or_latest(&self) -> &str {
        self.tag.as_deref().unwrap_or("latest")
    }

    /// Returns where the registry's API is, with a slash at its end. Registries on this machine have no certificate.
    #[must_use]
    pub fn api(&self, plain_http: bool) -> Option<Url> {
        let host = match self.host.as_str() {
            DEFAULT_HOST => DEFAULT_API,
            host => host,
        };
        let scheme = if plain_http || is_loopback(host) {
            "http"
        } else {
            "https"
        };
        Url::parse(&format!("{scheme}://{host}/v2/")).ok()
    }

    /// Returns the names that credentials for it may be filed under, the most particular first.
    #[must_use]
    pub fn account_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut name = format!("{}/{}", self.host, self.repository);
        while let Some((parent, _)) = name.rsplit_once('/') {
            let parent = parent.to_owned();
            names.push(std::mem::replace(&mut name, parent));
        }
        names.push(name);
        if self.host == DEFAULT_HOST {
            names.extend(["index.docker.io", DEFAULT_API].map(str::to_owned));
        }
        names
    }

    /// Returns what a credential helper knows the registry as.
    #[must_use]
    pub fn server_name(&self) -> &str {
        match self.host.as_str() {
            DEFAULT_HOST => "https://index.docker.io/v1/",
            host => host,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, ParseReferenceError> {
        parse(text).map_err(|problem| ParseReferenceError {
            text: text
                .chars()
                .take(300)
                .flat_map(char::escape_debug)
                .collect(),
            problem,
        })
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if text.contains("://") {
        return Err("it is given without a scheme, as HOST/REPOSITORY:TAG");
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let digest = digest.map(str::parse).transpose();
    let digest = digest.map_err(|_malformed| "what follows the `@` is no SHA-256 digest")?;
    let (host, path) = match rest.split_once('/') {
        Some((host, path)) if is_host(host) => (host, path),
        _ => (DEFAULT_HOST, rest),
    };
    let (path, tag) = match path.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (path, None),
    };
    let host = match host {
        "index.docker.io" | DEFAULT_API => DEFAULT_HOST,
        host => host,
    };
    let repository = if host == DEFAULT_HOST && !path.contains('/') {
        format!("{DEFAULT_NAMESPACE}{path}")
    } else {
        path.to_owned()
    };
    check_host(host)?;
    check_repository(&repository)?;
    if !tag.is_none_or(is_tag) {
        return Err(
            "a tag has up to 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two",
        );
    }
    Ok(Reference {
        host: host.to_owned(),
        repository,
        tag: tag.map(str::to_owned),
        digest,
    })
}

/// Returns whether what comes before the first slash is a registry.
fn is_host(text: &str) -> bool {
    text == "localhost"
        || text.contains(['.', ':'])
        || text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn check_host(host: &str) -> Result<(), &'static str> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
    // Also tells whether a port is a number.
    let url = Url::parse(&format!("https://{host}/"));
    match url {
        Ok(url) if host.bytes().all(known) && url.has_host() && url.path() == "/" => Ok(()),
        _ => Err("what comes before the first slash is no host"),
    }
}

/// Checks the name of a repository: lower-case words with single `.` or `_`, `__` or any number of `-` in between.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_repository(name: &str) -> Result<(), &'static str> {
    if name.len() > MAX_NAME {
        return Err("its repository has more than 255 characters");
    }
    if name.split('/').all(is_component) {
        Ok(())
    } else {
        Err(
            "a repository is made of lower-case letters and digits, with `.`, `_`, `__`, `-` or `/` in between",
        )
    }
}

fn is_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut rest = text;
    loop {
        let word = rest.bytes().take_while(|&byte| is_word(byte)).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        let separator = rest.bytes().take_while(|&byte| !is_word(byte)).count();
        match &rest[..separator] {
            "" => return rest.is_empty(),
            "." | "_" | "__" => {}
            dashes if dashes.bytes().all(|byte| byte == b'-') => {}
            _ => return false,
        }
        rest = &rest[separator..];
    }
}

fn is_tag(tag: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    !tag.is_empty()
        && tag.len() <= MAX_TAG
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(known)
}

/// Returns whether a host, with or without a port, is this machine.
fn is_loopback(host: &str) -> bool {
    let Ok(url) = Url::parse(&format!("http://{host}/")) else {
        return false;
    };
    let name = url.host_str().unwrap_or_default();
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let address: Result<IpAddr, _> = name.parse();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::Reference;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(text: &str) -> Reference {
        text.parse().unwrap_or_else(|err| panic!("{err}"))
    }

    #[test]
    fn names_are_read_as_docker_reads_them() {
        for (text, shown, api) in [
            (
                "debian",
                "docker.io/library/debian",
                "https://registry-1.docker.io/v2/",
            ),
            (
                "me/x:1",
                "docker.io/me/x:1",
                "https://registry-1.docker.io/v2/",
            ),
            (
                "docker.io/x",
                "docker.io/library/x",
                "https://registry-1.docker.io/v2/",
            ),
            (
                "index.docker.io/a/b",
                "docker.io/a/b",
                "https://registry-1.docker.io/v2/",
            ),
            (
                "ghcr.io/a/b/c:V1.2",
                "ghcr.io/a/b/c:V1.2",
                "https://ghcr.io/v2/",
            ),
            ("host:5000/x", "host:5000/x", "https://host:5000/v2/"),
            ("localhost/x", "localhost/x", "http://localhost/v2/"),
            (
                "127.0.0.1:5000/x:1",
                "127.0.0.1:5000/x:1",
                "http://127.0.0.1:5000/v2/",
            ),
            ("[::1]:5000/x", "[::1]:5000/x", "http://[::1]:5000/v2/"),
            (
                "a.b/c__d-e---f.g_h/i",
                "a.b/c__d-e---f.g_h/i",
                "https://a.b/v2/",
            ),
        ] {
            let reference = parse(text);
            assert_eq!(reference.to_string(), shown);
            assert_eq!(reference.api(false).unwrap().as_str(), api);
            let plain = api.replace("https://", "http://");
            assert_eq!(reference.api(true).unwrap().as_str(), plain);
        }
        let both = parse(&format!("a.b/c:t@{DIGEST}"));
        assert_eq!(
            (both.target().as_str(), both.tag_or_latest()),
            (DIGEST, "t")
        );
        assert_eq!(parse("x").target(), "latest");
    }

    #[test]
    fn what_is_no_name_is_told_why() {
        let long = format!("a.b/{}", "c".repeat(256));
        let long_tag = format!("x:{}", "c".repeat(129));
        for (text, problem) in [
            ("docker://a.b/c", "without a scheme"),
            ("", "a repository is made of"),
            ("a.b/", "a repository is made of"),
            ("a.b/C", "a repository is made of"),
            ("a.b/c..d", "a repository is made of"),
            ("a.b/c___d", "a repository is made of"),
            ("a.b/c-", "a repository is made of"),
            ("a.b/../c", "a repository is made of"),
            ("a.b//c", "a repository is made of"),
            ("a.b:x/c", "is no host"),
            ("u@a.b/c", "is no SHA-256 digest"),
            ("a.b?/c", "is no host"),
            ("x:", "a tag has up to"),
            ("x:.y", "a tag has up to"),
            ("x:a/b", "is no host"),
            ("x@sha512:00", "is no SHA-256 digest"),
            (long.as_str(), "more than 255"),
            (long_tag.as_str(), "a tag has up to"),
        ] {
            let err = text.parse::<Reference>().unwrap_err().to_string();
            assert!(err.contains(problem), "{text}: {err}");
        }
        let err = "a\u{1b}b".parse::<Reference>().unwrap_err().to_string();
        assert!(err.starts_with("`a\\u{1b}b` is not"), "{err}");
    }

    #[test]
    fn credentials_may_be_filed_under_a_namespace() {
        assert_eq!(
            parse("h:1/a/b:t").account_names(),
            ["h:1/a/b", "h:1/a", "h:1"]
        );
        assert_eq!(
            parse("x").account_names(),
            [
                "docker.io/library/x",
                "docker.io/library",
                "docker.io",
                "index.docker.io",
                "registry-1.docker.io"
            ]
        );
        assert_eq!(parse("x").server_name(), "https://index.docker.io/v1/");
        assert_eq!(parse("h:1/a").server_name(), "h:1");
    }
}
