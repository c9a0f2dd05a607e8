//! [`Header`]: what a caller wants to be sent along.

use crate::error::{Error, Result};
use reqwest::header::{HeaderName, HeaderValue};
use std::str::FromStr;

/// A request header a caller asked for, such as `Authorization: token`. Sent to the origin of the URL it was given
/// for, and never to another one that it redirects to.
#[derive(Clone)]
pub struct Header {
    pub(super) name: HeaderName,
    pub(super) value: HeaderValue,
}

impl FromStr for Header {
    type Err = Error;

    /// Parses `Key: value`. The value may hold colons.
    fn from_str(text: &str) -> Result<Self> {
        let malformed = |problem: &str| Error::Usage {
            what: format!(
                "malformed header `{}`: {problem}",
                text.split(':').next().unwrap_or_default().escape_debug()
            ),
            hint: Some("give headers as `Key: value`".into()),
        };
        let (name, value) = text
            .split_once(':')
            .ok_or_else(|| malformed("there is no colon"))?;
        let name = HeaderName::from_str(name.trim())
            .map_err(|_invalid| malformed("the name has characters that cannot be sent"))?;
        let mut value = HeaderValue::from_str(value.trim())
            .map_err(|_invalid| malformed("the value has characters that cannot be sent"))?;
        value.set_sensitive(true);
        Ok(Self { name, value })
    }
}

#[cfg(test)]
mod tests {
    use super::Header;

    #[test]
    fn header_values_may_hold_colons() {
        let header: Header = "Authorization: Bearer a:b".parse().unwrap();
        assert_eq!(
            (header.name.as_str(), header.value.as_bytes()),
            ("authorization", &b"Bearer a:b"[..])
        );
    }

    #[test]
    fn malformed_headers_are_named_without_their_value() {
        for text in ["no colon", "bad name: x", "X: secret\nY: z"] {
            let err = text.parse::<Header>().err().unwrap().to_string();
            assert!(
                err.starts_with("malformed header `") && !err.contains("secret"),
                "{err}"
            );
        }
    }
}
