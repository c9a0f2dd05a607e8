//! Fields of a tar header, read the way GNU tar and bsdtar agree on. The tar crate knows where they are, but reads
//! numbers and names more loosely than either.

use tar::Header;

/// Length of a header, and what content is padded to.
pub(crate) const BLOCK: usize = 512;

/// The field that holds the checksum.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Returns whether a block has a right checksum. Old tars took bytes for signed.
pub(crate) fn has_checksum(block: &[u8; BLOCK]) -> bool {
    let stated = number(&block[CHECKSUM]);
    stated == Some(sum(block, i32::from))
        || stated == Some(sum(block, |byte| byte.cast_signed().into()))
}

/// Gives a header, which is complete but for that, its checksum.
pub(crate) fn set_checksum(header: &mut Header) {
    let sum = sum(header.as_bytes(), i32::from).unsigned_abs();
    set_number(&mut header.as_old_mut().cksum, sum);
}

/// Sums up the bytes of a header, with the checksum itself as spaces.
fn sum(block: &[u8; BLOCK], value: impl Fn(u8) -> i32) -> i64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| value(byte)).sum::<i32>();
    let spaces = [b' '; CHECKSUM.end - CHECKSUM.start];
    i64::from(sum(block) - sum(&block[CHECKSUM]) + sum(&spaces))
}

/// Reads a number: octal digits that end with the field, a space or a NUL, or two's complement behind a byte of 0x80 or
/// 0xff. None if it is blank, malformed or too large.
pub(crate) fn number(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first == 0x80 || first == 0xff {
        return complement(rest, first == 0xff);
    }
    let start = field.iter().position(|&byte| byte != b' ')?;
    let digits = &field[start..];
    let end = digits.iter().position(|byte| matches!(byte, b' ' | 0));
    let digits = &digits[..end.unwrap_or(digits.len())];
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0, |value: i64, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// Fills a field with a number that fits: octal digits, with zeros in front of them and a NUL behind.
pub(crate) fn set_number(field: &mut [u8], mut number: u64) {
    field.fill(0);
    for digit in field.iter_mut().rev().skip(1) {
        *digit = b'0' + (number.to_le_bytes()[0] & 7);
        number >>= 3;
    }
}

fn complement(bytes: &[u8], negative: bool) -> Option<i64> {
    let sign = if negative { -1 } else { 0 };
    let value = bytes.iter().try_fold(sign, |value: i64, &byte| {
        value
            .checked_mul(256)
            .and_then(|value| value.checked_add(i64::from(byte)))
    })?;
    ((value < 0) == negative).then_some(value)
}

/// Returns the name in the header: with the prefix in front, where the format has one. None if the header claims to be
/// in a format that nobody knows, of which parsers make different things.
pub(super) fn name(header: &Header) -> Option<Vec<u8>> {
    let old = header.as_old();
    let name = text(&old.name);
    let prefix = match &header.as_bytes()[257..] {
        [b'u', b's', b't', b'a', b'r', 0, _, _, rest @ ..] => text(&rest[80..235]),
        [b'u', b's', b't', b'a', b'r', b' ', b' ', 0, ..] => b"",
        [b'u', b's', b't', b'a', b'r', ..] => return None,
        _ => b"",
    };
    if prefix.is_empty() {
        return Some(name.to_vec());
    }
    Some([prefix, b"/", name].concat())
}

/// Returns a field up to its first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0);
    &field[..end.unwrap_or(field.len())]
}

#[cfg(test)]
mod tests {
    use super::{has_checksum, name, number, set_checksum, set_number};
    use tar::Header;

    #[test]
    fn numbers_are_octal_or_binary_and_nothing_else() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"77777777", Some(0o7777_7777)),
            (b"644\0junk", Some(0o644)),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\0", Some(256)),
            (
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe",
                Some(-2),
            ),
            (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"\x81\0\0\0\0\0\0\0\0\0\0\0", None),
            (b"        ", None),
            (b"\0\0\0\0", None),
            (b"64x\0", None),
            (b"648\0", None),
            (b"-644\0", None),
            (b"+644\0", None),
            (b"", None),
        ] {
            assert_eq!(number(field), value, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn numbers_are_written_as_they_are_read() {
        for value in [0, 7, 8, 0o644, 0o777_7777] {
            let mut field = [b'x'; 8];
            set_number(&mut field, value);
            assert_eq!(field[7], 0);
            assert!(field[..7].iter().all(u8::is_ascii_digit), "{field:?}");
            assert_eq!(number(&field), i64::try_from(value).ok());
        }
    }

    #[test]
    fn checksums_are_those_of_the_tar_crate() {
        let mut header = Header::new_ustar();
        header.as_old_mut().name.fill(b'\xff');
        set_checksum(&mut header);
        let ours = header.as_old().cksum;
        header.set_cksum();
        assert_eq!(ours, header.as_old().cksum);
    }

    #[test]
    fn checksums_may_be_of_signed_bytes() {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..2].copy_from_slice(b"\xff\xfe");
        header.set_cksum();
        assert!(has_checksum(header.as_bytes()));
        let signed = format!("{:06o}\0 ", header.cksum().unwrap() - 512);
        header.as_old_mut().cksum.copy_from_slice(signed.as_bytes());
        assert!(has_checksum(header.as_bytes()));
        header.as_old_mut().mode[0] ^= 1;
        assert!(!has_checksum(header.as_bytes()));
    }

    #[test]
    fn prefixes_count_in_ustar_whatever_its_version_and_nowhere_else() {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..4].copy_from_slice(b"name");
        header.as_mut_bytes()[345..348].copy_from_slice(b"pre");
        for (magic, expected) in [
            (b"ustar\x0000", Some(&b"pre/name"[..])),
            (b"ustar\0\0\0", Some(b"pre/name")),
            (b"ustar  \0", Some(b"name")),
            (b"\0\0\0\0\0\0\0\0", Some(b"name")),
            (b"ustar 00", None),
            (b"ustarx00", None),
        ] {
            header.as_mut_bytes()[257..265].copy_from_slice(magic);
            let shown = magic.escape_ascii();
            assert_eq!(name(&header).as_deref(), expected, "{shown}");
        }
    }
}
