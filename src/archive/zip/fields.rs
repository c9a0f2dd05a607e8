//! [`Fields`]: what records of a zip archive are made of, little-endian numbers and texts one after the other; and
//! [`Extra`], the typed fields at the end of a header.

/// Bytes that are taken apart from the front. What is not there is `None`.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Returns what is left.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Real sizes and offsets of large archives, where the header's own fields are full.
pub(super) const ZIP64: u16 = 0x0001;
/// Extended timestamp, "UT".
const TIMES: u16 = 0x5455;
/// Info-ZIP's Unicode path.
pub(super) const UNICODE_PATH: u16 = 0x7075;

/// The extra fields of a header, of which no one that is read here may come twice: readers differ in which they take.
#[derive(Clone, Copy)]
pub(super) struct Extra<'a>(&'a [u8]);

impl<'a> Extra<'a> {
    /// Checks the form of the fields.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let mut fields = Fields::of(bytes);
        let mut seen = Vec::new();
        // Less than a field is padding, as zipalign leaves it.
        while fields.0.len() >= 4 {
            let (Some(id), Some(length)) = (fields.u16(), fields.u16()) else {
                break;
            };
            if fields.bytes(length.into()).is_none() {
                return Err("an extra field is longer than all of them together");
            }
            if [ZIP64, TIMES, UNICODE_PATH].contains(&id) {
                if seen.contains(&id) {
                    return Err("an extra field is there twice");
                }
                seen.push(id);
            }
        }
        Ok(Self(bytes))
    }

    /// Returns the content of a field.
    pub(super) fn get(self, wanted: u16) -> Option<&'a [u8]> {
        let mut fields = Fields::of(self.0);
        loop {
            let (id, length) = (fields.u16()?, fields.u16()?);
            let content = fields.bytes(length.into())?;
            if id == wanted {
                return Some(content);
            }
        }
    }

    /// Returns the modification time of the extended timestamp, in seconds since the epoch, if it has one.
    pub(super) fn modified(self) -> Option<i64> {
        let mut fields = Fields::of(self.get(TIMES)?);
        let present = fields.u8()?;
        // Signed: times before 1970 exist, and those beyond 2038 do not.
        (present & 1 == 1).then_some(i64::from(fields.u32()?.cast_signed()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Extra, ZIP64};

    #[test]
    fn extra_fields_are_found_behind_others_and_before_padding() {
        let bytes = b"\xfe\xca\x00\x00UT\x05\x00\x01\x00\x00\x00\x80\0\0\0";
        let extra = Extra::parse(bytes).unwrap();
        assert_eq!(extra.modified(), Some(i64::from(i32::MIN)));
        assert_eq!(extra.get(ZIP64), None);
        assert_eq!(Extra::parse(b"").unwrap().modified(), None);
        // Only the time of the last access.
        let extra = Extra::parse(b"UT\x05\x00\x02\x01\x00\x00\x00").unwrap();
        assert_eq!(extra.modified(), None);
    }

    #[test]
    fn malformed_and_repeated_fields_are_refused() {
        assert!(Extra::parse(b"UT\x06\x00\x01\x00\x00\x00\x80").is_err());
        assert!(Extra::parse(b"\x01\x00\x00\x00\x01\x00\x00\x00").is_err());
        // Of the others nobody reads more than one, or any.
        assert!(Extra::parse(b"\xfe\xca\x00\x00\xfe\xca\x00\x00").is_ok());
    }
}
