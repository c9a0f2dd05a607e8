//! [`Wanted`]: a request that makes sense.

use crate::{
    archive::is_tar_zst,
    error::{Error, Result},
    http::Address,
    rel_path::RelPath,
    vcs::{
        Request,
        repository::{Repository, last_segment},
    },
};
use std::{ffi::OsStr, fmt, path::Path};

/// A [`Request`] in which everything is parsed.
pub(super) struct Wanted<'a> {
    /// The repository as it was typed.
    pub(super) typed: &'a str,
    pub(super) repository: Repository,
    pub(super) revision: Revision,
    pub(super) prefix: RelPath,
    pub(super) include_dot_git: bool,
    pub(super) ssh_key: Option<&'a Address>,
    pub(super) known_hosts: Option<&'a Path>,
    pub(super) file_name: &'a OsStr,
}

/// Which commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Revision {
    /// The full hash, in lower case.
    Exact(String),
    /// Anything else that git understands.
    Name(String),
}

impl<'a> Wanted<'a> {
    pub(super) fn parse(request: &'a Request) -> Result<Self> {
        let dest = request.file_name.to_string_lossy();
        if !is_tar_zst(&dest) {
            return Err(Error::Usage {
                what: format!(
                    "cannot pack a checkout as `{dest}`: only .tar.zst archives can be produced"
                ),
                hint: Some("give DEST a name that ends in .tar.zst".into()),
            });
        }
        let repository = Repository::parse(&request.repo)?;
        let given = request
            .path_prefix
            .as_deref()
            .filter(|given| !given.is_empty());
        let prefix = given.unwrap_or_else(|| last_segment(&request.repo));
        Ok(Self {
            typed: &request.repo,
            repository,
            revision: Revision::parse(&request.revision)?,
            prefix: parse_prefix(prefix)?,
            include_dot_git: request.include_dot_git,
            ssh_key: request.ssh_key.as_ref(),
            known_hosts: request.known_hosts.as_deref(),
            file_name: &request.file_name,
        })
    }
}

fn parse_prefix(text: &str) -> Result<RelPath> {
    let wrong = |problem: String| Error::Usage {
        what: format!("the path prefix `{}` {problem}", text.escape_debug()),
        hint: Some("--path-prefix is a relative path, such as `widget`".into()),
    };
    let prefix = RelPath::parse(text.as_bytes()).map_err(|err| wrong(err.to_string()))?;
    if prefix.is_empty() {
        return Err(wrong("is empty".into()));
    }
    Ok(prefix)
}

impl Revision {
    fn parse(typed: &str) -> Result<Self> {
        let is_hash =
            |length| typed.len() == length && typed.bytes().all(|b| b.is_ascii_hexdigit());
        if is_hash(40) || is_hash(64) {
            return Ok(Self::Exact(typed.to_ascii_lowercase()));
        }
        if typed.is_empty() || typed.starts_with('-') || typed.contains(char::is_control) {
            return Err(Error::Usage {
                what: format!("`{}` is not a commit", typed.escape_debug()),
                hint: Some("give the full hash of a commit: 40 hexadecimal digits".into()),
            });
        }
        Ok(Self::Name(typed.to_owned()))
    }

    /// Whether it means the same for ever.
    pub(super) fn is_exact(&self) -> bool {
        matches!(self, Self::Exact(_))
    }

    /// The name of the hash that a repository with this commit must use.
    pub(super) fn object_format(&self) -> &'static str {
        match self {
            Self::Exact(hash) if hash.len() == 64 => "sha256",
            Self::Exact(_) | Self::Name(_) => "sha1",
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Exact(text) | Self::Name(text)) = self;
        f.write_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::{Revision, parse_prefix};

    #[test]
    fn full_hashes_are_exact_and_options_are_refused() {
        let hash = "0123456789ABCDEF0123456789abcdef01234567";
        let exact = Revision::parse(hash).unwrap();
        assert_eq!(exact, Revision::Exact(hash.to_lowercase()));
        assert_eq!(exact.object_format(), "sha1");
        let long = Revision::parse(&"ab".repeat(32)).unwrap();
        assert_eq!(long.object_format(), "sha256");
        for name in ["main", "v1.0", &hash[1..], &format!("{hash}^"), "a b"] {
            assert!(!Revision::parse(name).unwrap().is_exact(), "{name}");
        }
        for wrong in ["", "-x", "--upload-pack=x", "a\nb"] {
            assert!(Revision::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn prefixes_stay_inside() {
        assert_eq!(parse_prefix("a/./b/").unwrap().to_string(), "a/b");
        for wrong in ["..", "a/../b", "/a", ".", ""] {
            assert!(parse_prefix(wrong).is_err(), "{wrong}");
        }
    }
}
