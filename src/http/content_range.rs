//! [`ContentRange`]: which part of a whole an answer holds.

use std::fmt;

/// The value of a `Content-Range` header (RFC 9110, section 14.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContentRange {
    /// The first byte.
    pub(crate) start: u64,
    /// The byte after the last.
    pub(crate) end: u64,
    /// The length of the whole, if the server knows it.
    pub(crate) total: Option<u64>,
}

impl ContentRange {
    /// Parses `bytes 0-499/1234` or `bytes 0-499/*`; `None` for anything else, ranges that make no sense included.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (unit, rest) = text.trim().split_once(' ')?;
        let (range, total) = rest.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let parsed = Self {
            start: number(first)?,
            end: number(last)?.checked_add(1)?,
            total: match total.trim() {
                "*" => None,
                total => Some(number(total)?),
            },
        };
        let sensible =
            parsed.start < parsed.end && parsed.total.is_none_or(|total| parsed.end <= total);
        (unit.eq_ignore_ascii_case("bytes") && sensible).then_some(parsed)
    }
}

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, end, total } = self;
        write!(f, "bytes {start} to {end} of ")?;
        match total {
            Some(total) => write!(f, "{total}"),
            None => f.write_str("an unknown number"),
        }
    }
}

/// Parses digits only: no sign, no space within.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(())?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::ContentRange;

    #[test]
    fn ranges_of_bytes_are_read() {
        let range = |start, end, total| Some(ContentRange { start, end, total });
        for (text, parsed) in [
            ("bytes 0-499/1234", range(0, 500, Some(1234))),
            ("Bytes 500-1233/1234", range(500, 1234, Some(1234))),
            ("bytes 7-7/*", range(7, 8, None)),
            ("bytes */1234", None),
            ("bytes 500-499/1234", None),
            ("bytes 0-1234/1234", None),
            ("bytes 0-18446744073709551615/*", None),
            ("bytes +1-2/3", None),
            ("bytes 0-1", None),
            ("items 0-1/2", None),
            ("", None),
        ] {
            assert_eq!(ContentRange::parse(text), parsed, "{text}");
        }
    }
}
