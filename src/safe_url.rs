//! [`SafeUrl`]: a URL that can be shown. Everything in it that may be a secret is gone by construction.

use std::{fmt, path::Path};
use url::Url;

/// A URL for people: scheme, host, port and path. User information and fragment are dropped and a query is shown as
/// `?…`, because storage redirects carry their signature there and Taskcluster its bewit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SafeUrl(String);

impl SafeUrl {
    /// Names a local file, as a path.
    #[must_use]
    pub fn of_file(path: &Path) -> Self {
        Self(path.display().to_string())
    }
}

impl From<&Url> for SafeUrl {
    fn from(url: &Url) -> Self {
        let mut shown = url.clone();
        shown.set_fragment(None);
        shown.set_query(None);
        // Fails only for URLs that cannot have user information.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        let mut text = String::from(shown);
        if url.query().is_some() {
            text.push_str("?…");
        }
        Self(text)
    }
}

impl fmt::Display for SafeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::SafeUrl;
    use url::Url;

    #[test]
    fn secrets_are_not_shown() {
        let url =
            Url::parse("https://user:pass@host:8443/a%20b/c.tar.xz?X-Amz-Signature=secret#frag")
                .unwrap();
        assert_eq!(
            SafeUrl::from(&url).to_string(),
            "https://host:8443/a%20b/c.tar.xz?…"
        );
    }
}
