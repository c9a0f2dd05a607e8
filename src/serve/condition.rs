//! Which part of some content a request wants, if any of it (RFC 9110, sections 13 and 14).

use axum::http::{
    HeaderMap, HeaderName,
    header::{IF_NONE_MATCH, IF_RANGE, RANGE},
};
use std::ops::Range;

/// What to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// Some bytes of it, at least one.
    Part(Range<u64>),
    /// Nothing: the client has it.
    Nothing,
    /// Nothing: there are no such bytes.
    Unsatisfiable,
}

impl Wanted {
    /// Reads a request for content of this size and with this strong tag, which does not change.
    pub(super) fn of(headers: &HeaderMap, size: u64, tag: &str) -> Self {
        if text(headers, &IF_NONE_MATCH).is_some_and(|tags| matches(tags, tag)) {
            return Self::Nothing;
        }
        // A date is never that of content whose date is not told.
        if text(headers, &IF_RANGE).is_some_and(|condition| condition.trim() != tag) {
            return Self::Whole;
        }
        match text(headers, &RANGE) {
            Some(range) => part(range, size),
            None => Self::Whole,
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a list of tags has this one. Weak tags count, too: what they say is enough to send nothing.
fn matches(tags: &str, tag: &str) -> bool {
    tags.split(',')
        .map(str::trim)
        .any(|listed| listed == "*" || listed.strip_prefix("W/").unwrap_or(listed) == tag)
}

/// Reads a range. One that is malformed is ignored, and so are several at once, as S3 does: the whole is an answer to
/// any of these.
fn part(range: &str, size: u64) -> Wanted {
    let Some((unit, range)) = range.split_once('=') else {
        return Wanted::Whole;
    };
    let Some((first, last)) = range.trim().split_once('-') else {
        return Wanted::Whole;
    };
    let (first, last) = (number(first), number(last));
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    let part = match (first, last) {
        (Number::Given(first), Number::Given(last)) if first <= last => {
            first..last.saturating_add(1).min(size)
        }
        (Number::Given(first), Number::Absent) => first..size,
        // The last bytes.
        (Number::Absent, Number::Given(count)) => size.saturating_sub(count)..size,
        _ => return Wanted::Whole,
    };
    if part.is_empty() {
        Wanted::Unsatisfiable
    } else {
        Wanted::Part(part)
    }
}

enum Number {
    Given(u64),
    Absent,
    Malformed,
}

fn number(text: &str) -> Number {
    match text {
        "" => Number::Absent,
        digits if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            // More than there can be, however much more.
            Number::Given(digits.parse().unwrap_or(u64::MAX))
        }
        _ => Number::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::Wanted;
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    fn wanted(headers: &[(&'static str, &'static str)], size: u64) -> Wanted {
        let headers = headers.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        Wanted::of(&headers.collect::<HeaderMap>(), size, "\"tag\"")
    }

    #[test]
    fn one_range_is_a_part() {
        for (range, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=2-4", 2..5),
            ("bytes=2-", 2..10),
            ("bytes=2-99", 2..10),
            ("bytes=2-99999999999999999999", 2..10),
            ("bytes=-3", 7..10),
            ("bytes=-99", 0..10),
            ("Bytes = 9-9", 9..10),
        ] {
            assert_eq!(
                wanted(&[("range", range)], 10),
                Wanted::Part(part),
                "{range}"
            );
        }
    }

    #[test]
    fn bytes_that_are_not_there_cannot_be_had() {
        for (range, size) in [
            ("bytes=10-", 10),
            ("bytes=10-20", 10),
            ("bytes=-0", 10),
            ("bytes=99999999999999999999-", 10),
            ("bytes=0-", 0),
            ("bytes=-5", 0),
        ] {
            let wanted = wanted(&[("range", range)], size);
            assert_eq!(wanted, Wanted::Unsatisfiable, "{range}");
        }
    }

    #[test]
    fn what_is_malformed_or_several_is_ignored() {
        for range in [
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=a-b",
            "bytes=+1-2",
            "lines=0-1",
            "bytes=0-1,3-4",
            "bytes=0-1, 3-4",
        ] {
            assert_eq!(wanted(&[("range", range)], 10), Wanted::Whole, "{range}");
        }
    }

    #[test]
    fn a_range_depends_on_its_condition() {
        let range = ("range", "bytes=2-4");
        for (condition, holds) in [
            ("\"tag\"", true),
            ("\"other\"", false),
            ("W/\"tag\"", false),
            ("Sat, 01 Feb 2020 00:00:00 GMT", false),
        ] {
            let part = wanted(&[range, ("if-range", condition)], 10);
            assert_eq!(part == Wanted::Part(2..5), holds, "{condition}");
        }
    }

    #[test]
    fn what_the_client_has_is_not_sent() {
        for (tags, has) in [
            ("\"tag\"", true),
            ("W/\"tag\"", true),
            ("\"a\", \"tag\"", true),
            ("*", true),
            ("\"a\"", false),
            ("tag", false),
        ] {
            let nothing = wanted(&[("if-none-match", tags), ("range", "bytes=0-1")], 10);
            assert_eq!(nothing == Wanted::Nothing, has, "{tags}");
        }
    }
}
