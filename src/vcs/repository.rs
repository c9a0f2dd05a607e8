//! [`Repository`]: where a repository is, as git is told and as people are.

use crate::{
    error::{Error, Result},
    safe_url::SafeUrl,
};
use std::{fmt, path::Path};
use url::Url;

/// The ways to a repository.
const SCHEMES: [&str; 7] = ["https", "http", "ssh", "git", "file", "git+ssh", "ssh+git"];

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Repository {
    /// What git is told: a URL, `host:path` of ssh, or an absolute path. Without user and password of an http URL, since
    /// git writes it into the `.git` that may be published.
    pub(super) location: String,
    /// What to put in place of a beginning of URLs on the way to a server, where there are a user and a password.
    pub(super) login: Option<Login>,
    shown: String,
}

/// A user and perhaps a password, for everything on one server.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    /// `https://host/`.
    pub(super) without: String,
    /// `https://user:password@host/`.
    pub(super) with: String,
    /// `user:password`.
    pub(super) secret: String,
}

impl Login {
    /// Returns what may not be shown, the longest text first: git may name one of the two alone.
    pub(super) fn secrets(&self) -> Vec<String> {
        let (user, password) = self.secret.split_once(':').unwrap_or((&self.secret, ""));
        let alone = if password.is_empty() { user } else { password };
        let mut secrets = vec![self.secret.clone(), alone.to_owned()];
        secrets.retain(|secret| !secret.is_empty() && secret != ":");
        secrets
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

impl Repository {
    /// Parses what was typed.
    ///
    /// # Errors
    /// [`Error::Usage`] for what git would take for an option or hand over to some helper.
    pub(super) fn parse(typed: &str) -> Result<Self> {
        let wrong = |what: String| {
            Error::Usage {
            what,
            hint: Some(
                "REPO is a URL (https, http, ssh, git or file), user@host:path for ssh, or a local path".into(),
            ),
        }
        };
        if typed.is_empty() || typed.starts_with('-') || typed.contains(char::is_control) {
            let typed = typed.escape_debug();
            return Err(wrong(format!("`{typed}` is not a repository")));
        }
        let before_slash = typed.split('/').next().unwrap_or_default();
        if let Some((scheme, rest)) = typed.split_once("://") {
            if !SCHEMES.contains(&scheme) {
                let scheme = scheme.escape_debug();
                return Err(wrong(format!(
                    "repositories by `{scheme}` are not supported"
                )));
            }
            return Ok(Self::of_url(scheme, rest, typed));
        }
        if before_slash.contains("::") {
            return Err(wrong(format!(
                "helpers such as `{before_slash}` are not supported"
            )));
        }
        if before_slash.contains(':') {
            return Ok(Self::plain(typed.to_owned()));
        }
        let path = std::path::absolute(Path::new(typed))
            .map_err(|err| wrong(format!("`{typed}` is not a repository: {err}")))?;
        let path = path.into_os_string().into_string();
        path.map(Self::plain)
            .map_err(|path| wrong(format!("{} is not valid UTF-8", path.display())))
    }

    fn plain(location: String) -> Self {
        Self {
            shown: location.clone(),
            location,
            login: None,
        }
    }

    /// Takes a URL apart as a text: what git gets is what was typed.
    fn of_url(scheme: &str, rest: &str, typed: &str) -> Self {
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let mut repository = Self::plain(typed.to_owned());
        if let ("http" | "https", Some((secret, host))) = (scheme, authority.rsplit_once('@')) {
            repository.location = format!("{scheme}://{host}{path}");
            repository.login = Some(Login {
                without: format!("{scheme}://{host}/"),
                with: format!("{scheme}://{authority}/"),
                secret: secret.to_owned(),
            });
        }
        // A URL that the other parser does not take is git's business.
        repository.shown = Url::parse(typed).map_or_else(
            |_| format!("{scheme}://…{path}"),
            |url| SafeUrl::from(&url).to_string(),
        );
        repository
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Returns the last segment of what was typed, which the Python tool takes for a prefix where none is given.
pub(super) fn last_segment(typed: &str) -> &str {
    let typed = typed.trim_end_matches('/');
    typed.rsplit('/').next().unwrap_or(typed)
}

#[cfg(test)]
mod tests {
    use super::{Repository, last_segment};

    #[test]
    fn logins_are_neither_shown_nor_told() {
        let repository = Repository::parse("https://me:t0ken@h:8443/a/b.git?x=y").unwrap();
        assert_eq!(repository.location, "https://h:8443/a/b.git?x=y");
        assert_eq!(repository.to_string(), "https://h:8443/a/b.git?…");
        assert!(!format!("{repository:?}").contains("t0ken"));
        let login = repository.login.unwrap();
        assert_eq!(
            (&*login.without, &*login.with, &*login.secret),
            ("https://h:8443/", "https://me:t0ken@h:8443/", "me:t0ken")
        );
        for (login, secrets) in [
            ("me:t0ken", &["me:t0ken", "t0ken"][..]),
            ("t0ken:", &["t0ken:", "t0ken"]),
            ("t0ken", &["t0ken", "t0ken"]),
            ("", &[]),
        ] {
            let repository = Repository::parse(&format!("https://{login}@h/a")).unwrap();
            assert_eq!(repository.login.unwrap().secrets(), secrets);
        }
        // The user is a part of the address here.
        let repository = Repository::parse("ssh://git@h/a").unwrap();
        assert_eq!(
            (&*repository.location, repository.login),
            ("ssh://git@h/a", None)
        );
    }

    #[test]
    fn all_ways_that_git_has_but_helpers() {
        for typed in ["git@h:a/b.git", "h:b", "file:///a/b", "git://h/b", "/a/b"] {
            assert_eq!(Repository::parse(typed).unwrap().location, typed);
        }
        let here = Repository::parse("a/b:c").unwrap().location;
        assert!(here.starts_with('/') && here.ends_with("/a/b:c"), "{here}");
        for typed in [
            "",
            "-u",
            "--upload-pack=x",
            "ext::sh -c x",
            "fd::3",
            "ftp://h/r",
            "a\nb",
        ] {
            assert!(Repository::parse(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn the_prefix_is_the_last_segment() {
        for (typed, segment) in [
            ("https://h/a/b.git", "b.git"),
            ("https://h/a/b//", "b"),
            ("git@h:a/b", "b"),
            ("b", "b"),
        ] {
            assert_eq!(last_segment(typed), segment);
        }
    }
}
