//! PAX records (POSIX.1-2017, pax, "pax Extended Header"): `length keyword=value` and a newline each, where the length
//! counts all of it. Values may have newlines and any other byte.

use crate::fs::Mtime;

/// A keyword and its value.
pub(crate) type Record = (Vec<u8>, Vec<u8>);

/// Reads records to the last byte. None if they are malformed in any way: parsers go on differently then, and what one
/// takes for a name another one does not see.
pub(super) fn records(mut header: &[u8]) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    while !header.is_empty() {
        let space = header.iter().position(|&byte| byte == b' ')?;
        let length = usize::try_from(decimal(&header[..space])?).ok()?;
        let record = header.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|&byte| byte == b'=')?;
        if equals == 0 {
            return None;
        }
        records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        header = &header[length..];
    }
    Some(records)
}

/// Returns the value of a keyword: the last one counts.
pub(crate) fn value<'a>(records: &'a [Record], keyword: &str) -> Option<&'a [u8]> {
    let of_keyword = |(other, _): &&Record| other == keyword.as_bytes();
    records.iter().rfind(of_keyword).map(|(_, value)| &**value)
}

/// Reads a number of nothing but digits.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

/// Parses a PAX time: seconds as a decimal fraction, possibly negative. Digits beyond nanoseconds are dropped towards
/// the past, as GNU tar does.
pub(super) fn time(text: &[u8]) -> Option<Mtime> {
    let text = str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    if !whole.starts_with('-') || fraction.bytes().all(|byte| byte == b'0') {
        return Some(Mtime { seconds, nanos });
    }
    let lost = u32::from(fraction.bytes().skip(9).any(|byte| byte != b'0'));
    Some(Mtime {
        seconds: seconds.checked_sub(1)?,
        nanos: 1_000_000_000 - nanos - lost,
    })
}

#[cfg(test)]
mod tests {
    use super::{records, time as time_of, value};
    use crate::fs::Mtime;

    #[test]
    fn values_may_have_newlines_and_the_last_of_a_keyword_counts() {
        let header = b"13 path=a\nb=\n11 size=12\n10 path=c\n5 k=\n";
        let records = records(header).unwrap();
        assert_eq!(records.len(), 4);
        assert_eq!(records[0].1, b"a\nb=");
        assert_eq!(value(&records, "path"), Some(&b"c"[..]));
        assert_eq!(value(&records, "size"), Some(&b"12"[..]));
        assert_eq!(value(&records, "k"), Some(&b""[..]));
        assert_eq!(value(&records, "pat"), None);
    }

    #[test]
    fn whatever_is_not_exact_is_malformed() {
        for header in [
            &b"10 path=a"[..],
            b"11 path=a\n",
            b"8 path=a\n",
            b"10 path=a\n\0",
            b"10 path=a\n\n",
            b" 10 path=a\n",
            b"+10 path=a\n",
            b"-10 path=a\n",
            b"path=a\n",
            b"7 path\n",
            b"5 =a\n",
            b"2 \n",
            b"0 \n",
            b"99999999999999999999 a=b\n",
        ] {
            assert_eq!(records(header), None, "{}", header.escape_ascii());
        }
        assert_eq!(records(b""), Some(Vec::new()));
    }

    #[test]
    fn times_keep_nanoseconds_and_round_to_the_past() {
        let time = |seconds, nanos| Some(Mtime { seconds, nanos });
        assert_eq!(time_of(b"1577934246"), time(1_577_934_246, 0));
        assert_eq!(time_of(b"1577934246.0"), time(1_577_934_246, 0));
        assert_eq!(time_of(b"1.5"), time(1, 500_000_000));
        assert_eq!(time_of(b"1.1234567899"), time(1, 123_456_789));
        assert_eq!(time_of(b"-1.25"), time(-2, 750_000_000));
        assert_eq!(time_of(b"-0.5"), time(-1, 500_000_000));
        assert_eq!(time_of(b"-3"), time(-3, 0));
        for text in [
            &b"soon"[..],
            b"1.x",
            b"",
            b"\xff",
            b"-9223372036854775808.5",
        ] {
            assert_eq!(time_of(text), None);
        }
    }
}
