//! Hawk, the scheme by which requests to Taskcluster are signed: an HMAC over the request's method, path with query,
//! host and port, a time stamp and a nonce.
//!
//! Written out here, since these lines are all of it that a client without payload validation needs, and ring's HMAC is
//! in the program anyway; the `hawk` crate would add four crates, among them second versions of base64 and thiserror.
//!
//! Servers accept time stamps that are up to 15 minutes wrong and do not tell their own time when one is further off, so
//! that there is nothing to correct it by; see the hint of [`crate::Error`] for 401.

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::hmac;
use std::time::SystemTime;
use url::{Position, Url};

/// Who signs.
pub(super) struct Signer<'a> {
    pub(super) id: &'a str,
    pub(super) key: &'a hmac::Key,
    pub(super) ext: Option<&'a str>,
}

/// What makes a signature good for once.
pub(super) struct Moment {
    /// In seconds since 1970.
    timestamp: u64,
    nonce: String,
}

impl Moment {
    /// Returns this moment.
    pub(super) fn now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            timestamp: since.map_or(0, |since| since.as_secs()),
            // No secret: it only has to differ from others of the same second.
            nonce: std::iter::repeat_with(fastrand::alphanumeric)
                .take(12)
                .collect(),
        }
    }
}

impl Signer<'_> {
    /// Returns the value of the `Authorization` header.
    pub(super) fn authorization(&self, method: &str, url: &Url, moment: &Moment) -> String {
        let mac = hmac::sign(self.key, self.signed_text(method, url, moment).as_bytes());
        let Moment { timestamp, nonce } = moment;
        let ext = self
            .ext
            .map_or_else(String::new, |ext| format!(r#", ext="{ext}""#));
        format!(
            r#"Hawk id="{}", ts="{timestamp}", nonce="{nonce}"{ext}, mac="{}""#,
            self.id,
            BASE64_STANDARD.encode(mac)
        )
    }

    /// Returns what is signed. The path is as it is sent, with its query and without undoing its encoding.
    fn signed_text(&self, method: &str, url: &Url, moment: &Moment) -> String {
        let path = &url[Position::BeforePath..Position::AfterQuery];
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        let ext = self.ext.unwrap_or_default();
        let Moment { timestamp, nonce } = moment;
        // The empty line is the hash of the payload, which is optional.
        format!("hawk.1.header\n{timestamp}\n{nonce}\n{method}\n{path}\n{host}\n{port}\n\n{ext}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::{Moment, Signer};
    use ring::hmac;
    use url::Url;

    fn moment() -> Moment {
        Moment {
            timestamp: 1_353_832_234,
            nonce: "j4h3g2".into(),
        }
    }

    /// The protocol example of Hawk's own documentation.
    #[test]
    fn the_documented_example_is_reproduced() {
        let secret = b"werxhqb98rpaxn39848xrunpaw3489ruxnpa98w4rxn";
        let signer = Signer {
            id: "dh37fgj492je",
            key: &hmac::Key::new(hmac::HMAC_SHA256, secret),
            ext: Some("some-app-ext-data"),
        };
        let url = Url::parse("http://example.com:8000/resource/1?b=1&a=2").unwrap();
        assert_eq!(
            signer.authorization("GET", &url, &moment()),
            r#"Hawk id="dh37fgj492je", ts="1353832234", nonce="j4h3g2", ext="some-app-ext-data", mac="6R4rV5iE+NPoym+WwjeHzjAGXUtLNIxmo1vpMofpLAE=""#
        );
    }

    #[test]
    fn what_is_sent_is_what_is_signed() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        let signer = Signer {
            id: "id",
            key: &key,
            ext: None,
        };
        for (url, path, host, port) in [
            (
                "https://TC.Example.com/a%20b/50%25?x=1&y",
                "/a%20b/50%25?x=1&y",
                "tc.example.com",
                "443",
            ),
            ("http://user:pass@h/a%2Fb#f", "/a%2Fb", "h", "80"),
            ("http://[::1]:8080", "/", "[::1]", "8080"),
        ] {
            assert_eq!(
                signer.signed_text("PUT", &Url::parse(url).unwrap(), &moment()),
                format!("hawk.1.header\n1353832234\nj4h3g2\nPUT\n{path}\n{host}\n{port}\n\n\n")
            );
        }
    }

    #[test]
    fn no_two_moments_are_the_same() {
        assert_ne!(Moment::now().nonce, Moment::now().nonce);
    }
}
