//! The name of a member as the two headers have it: in one of three encodings, and with the separators of two systems.

use super::{
    fields::{Fields, UNICODE_PATH},
    header::{Header, UTF8},
};
use std::borrow::Cow;

/// Host systems, as far as names depend on them.
pub(super) const UNIX: u8 = 3;

/// What code page 437 has from 0x80 on.
const CODE_PAGE_437: &str = "\
    ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐\
    └┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// Returns the name that a header gives, for a member of an archive made on `host`.
///
/// Unix tools write names as they are. Others flag them as UTF-8, or write UTF-8 without saying so, or code page 437;
/// where such a name has backslashes and no slash, those are the separators, to unzip and bsdtar alike. A Unicode path
/// that belongs to the name replaces it; one of another name is left from before a renaming.
pub(super) fn decode<'a>(header: &Header<'a>, host: u8) -> Result<Cow<'a, [u8]>, &'static str> {
    let utf8_flag = header.flags & UTF8 != 0;
    if let Some(path) = unicode_path(header) {
        if utf8_flag && path != header.name {
            return Err("it has two names in UTF-8");
        }
        return Ok(Cow::Borrowed(path));
    }
    if host == UNIX {
        return Ok(Cow::Borrowed(header.name));
    }
    let mut name = match str::from_utf8(header.name) {
        Err(_) if !utf8_flag => Cow::Owned(from_code_page(header.name).into_bytes()),
        _ => Cow::Borrowed(header.name),
    };
    if name.contains(&b'\\') && !name.contains(&b'/') {
        for byte in name.to_mut() {
            if *byte == b'\\' {
                *byte = b'/';
            }
        }
    }
    Ok(name)
}

/// Returns the Unicode path of a header, if it is one of its name: version 1, or none for unzip and bsdtar, and the
/// CRC-32 of the name.
fn unicode_path<'a>(header: &Header<'a>) -> Option<&'a [u8]> {
    let mut fields = Fields::of(header.extra.get(UNICODE_PATH)?);
    let (version, crc) = (fields.u8()?, fields.u32()?);
    let path = fields.rest();
    let current = version <= 1 && crc == libdeflater::crc32(header.name);
    (current && str::from_utf8(path).is_ok()).then_some(path)
}

fn from_code_page(name: &[u8]) -> String {
    let upper: Vec<char> = CODE_PAGE_437.chars().collect();
    name.iter()
        .map(|&byte| match byte.checked_sub(0x80) {
            Some(index) => upper[usize::from(index)],
            None => char::from(byte),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{CODE_PAGE_437, UNIX, UTF8, decode};
    use crate::archive::zip::{fields::Extra, header::Header};

    const DOS: u8 = 0;

    fn decoded(host: u8, flags: u16, name: &[u8], extra: &[u8]) -> Option<Vec<u8>> {
        let header = Header {
            flags,
            method: 0,
            dos_date: 0,
            dos_time: 0,
            crc: 0,
            packed_size: 0,
            size: 0,
            name,
            extra: Extra::parse(extra).unwrap(),
        };
        decode(&header, host).ok().map(std::borrow::Cow::into_owned)
    }

    fn unicode_path(version: u8, of: &[u8], path: &str) -> Vec<u8> {
        let length = u16::try_from(5 + path.len()).unwrap();
        let mut field = b"\x75\x70".to_vec();
        field.extend(length.to_le_bytes());
        field.push(version);
        field.extend(libdeflater::crc32(of).to_le_bytes());
        field.extend(path.as_bytes());
        field
    }

    #[test]
    fn the_code_page_is_complete() {
        assert_eq!(CODE_PAGE_437.chars().count(), 128);
        let name = decoded(DOS, 0, b"caf\x82 \xe1\xff", b"").unwrap();
        assert_eq!(name, "café ß\u{a0}".as_bytes());
    }

    #[test]
    fn names_of_unix_are_bytes_and_others_text() {
        for (host, flags, name, expected) in [
            (UNIX, 0, &b"caf\xe9\\x"[..], &b"caf\xe9\\x"[..]),
            (UNIX, UTF8, b"caf\xe9", b"caf\xe9"),
            (DOS, UTF8, b"caf\xe9", b"caf\xe9"),
            (DOS, 0, "café".as_bytes(), "café".as_bytes()),
            (DOS, UTF8, "café".as_bytes(), "café".as_bytes()),
            (DOS, 0, b"a\\b\\", b"a/b/"),
            (DOS, 0, b"a/b\\c", b"a/b\\c"),
        ] {
            let shown = name.escape_ascii();
            assert_eq!(
                decoded(host, flags, name, b"").unwrap(),
                expected,
                "{shown} of {host}"
            );
        }
    }

    #[test]
    fn a_unicode_path_counts_if_it_is_one_of_the_name() {
        let path = |version, of: &[u8]| unicode_path(version, of, "café");
        let of = |flags, extra: &[u8]| decoded(UNIX, flags, b"caf_", extra);
        assert_eq!(of(0, &path(1, b"caf_")).unwrap(), "café".as_bytes());
        assert_eq!(of(0, &path(0, b"caf_")).unwrap(), "café".as_bytes());
        assert_eq!(of(0, &path(1, b"before")).unwrap(), b"caf_");
        assert_eq!(of(0, &path(2, b"caf_")).unwrap(), b"caf_");
        assert_eq!(of(UTF8, &path(1, b"caf_")), None);
    }
}
