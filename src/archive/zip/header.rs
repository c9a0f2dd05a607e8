//! [`Header`]: what an archive says about a member, once before the member (local) and once in the table of contents
//! (central). APPNOTE 4.3.7 and 4.3.12.

use super::fields::{Extra, Fields, ZIP64};

pub(super) const LOCAL: &[u8] = b"PK\x03\x04";
pub(super) const LOCAL_LENGTH: usize = 30;
pub(super) const CENTRAL: &[u8] = b"PK\x01\x02";
pub(super) const CENTRAL_LENGTH: usize = 46;

/// Flags: the content is encrypted; sizes and CRC-32 follow the content; the encryption is a strong one; the name is
/// UTF-8; headers are encrypted.
pub(super) const ENCRYPTED: u16 = 1;
pub(super) const DESCRIPTOR: u16 = 1 << 3;
pub(super) const STRONG: u16 = 1 << 6;
pub(super) const UTF8: u16 = 1 << 11;
pub(super) const MASKED: u16 = 1 << 13;

/// What both headers of a member have.
#[derive(Clone, Copy)]
pub(super) struct Header<'a> {
    pub(super) flags: u16,
    pub(super) method: u16,
    /// Date and time as DOS has them.
    pub(super) dos_date: u16,
    pub(super) dos_time: u16,
    pub(super) crc: u32,
    pub(super) packed_size: u64,
    pub(super) size: u64,
    pub(super) name: &'a [u8],
    pub(super) extra: Extra<'a>,
}

/// What only the central header has.
pub(super) struct Central<'a> {
    pub(super) header: Header<'a>,
    /// On what kind of system the archive was made.
    pub(super) host: u8,
    /// Permissions and type.
    pub(super) attributes: u32,
    /// Where the local header is, but for the directory's shift.
    pub(super) start: u64,
}

/// The fixed part of either header, from the flags on.
struct Fixed {
    flags: u16,
    method: u16,
    dos_time: u16,
    dos_date: u16,
    crc: u32,
    packed_size: u32,
    size: u32,
    name: usize,
    extra: usize,
}

impl Fixed {
    fn parse(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            flags: fields.u16()?,
            method: fields.u16()?,
            dos_time: fields.u16()?,
            dos_date: fields.u16()?,
            crc: fields.u32()?,
            packed_size: fields.u32()?,
            size: fields.u32()?,
            name: fields.u16()?.into(),
            extra: fields.u16()?.into(),
        })
    }

    /// Reads name and extra fields. `offset` and `disk` are those of a central header; they come back with their real
    /// values, as the sizes do.
    fn complete<'a>(
        &self,
        fields: &mut Fields<'a>,
        offset: &mut u64,
        disk: &mut u32,
    ) -> Result<Header<'a>, &'static str> {
        const CUT_OFF: &str = "the header is cut off";
        let name = fields.bytes(self.name).ok_or(CUT_OFF)?;
        let extra = Extra::parse(fields.bytes(self.extra).ok_or(CUT_OFF)?)?;
        let mut wide = Fields::of(extra.get(ZIP64).unwrap_or_default());
        let mut widen = |narrow: u64| match narrow {
            0xffff_ffff => wide.u64().ok_or("a Zip64 field is missing or too short"),
            small => Ok(small),
        };
        let size = widen(self.size.into())?;
        let packed_size = widen(self.packed_size.into())?;
        *offset = widen(*offset)?;
        if *disk == 0xffff {
            *disk = wide.u32().ok_or("a Zip64 field is missing or too short")?;
        }
        Ok(Header {
            flags: self.flags,
            method: self.method,
            dos_date: self.dos_date,
            dos_time: self.dos_time,
            crc: self.crc,
            packed_size,
            size,
            name,
            extra,
        })
    }
}

/// Returns how long the local header is that begins with `bytes`, if they are the beginning of one.
pub(super) fn local_length(bytes: &[u8]) -> Option<usize> {
    let mut fields = Fields::of(bytes);
    if fields.bytes(LOCAL.len())? != LOCAL {
        return None;
    }
    fields.u16()?;
    let fixed = Fixed::parse(&mut fields)?;
    Some(LOCAL_LENGTH + fixed.name + fixed.extra)
}

/// Returns how many bytes of name, extra fields and comment follow the fixed part of a central header, which `bytes`
/// are.
pub(super) fn central_rest(bytes: &[u8; CENTRAL_LENGTH]) -> Option<usize> {
    let mut fields = Fields::of(bytes);
    if fields.bytes(CENTRAL.len())? != CENTRAL {
        return None;
    }
    fields.u32()?;
    let fixed = Fixed::parse(&mut fields)?;
    Some(fixed.name + fixed.extra + usize::from(fields.u16()?))
}

/// Parses a whole local header, of [`local_length`].
pub(super) fn parse_local(bytes: &[u8]) -> Result<Header<'_>, &'static str> {
    let mut fields = Fields::of(bytes);
    fields.bytes(LOCAL.len() + 2);
    let fixed = Fixed::parse(&mut fields).ok_or("the header is cut off")?;
    fixed.complete(&mut fields, &mut 0, &mut 0)
}

/// Parses a central header: its fixed part, and its [`central_rest`].
pub(super) fn parse_central<'a>(
    fixed: &[u8; CENTRAL_LENGTH],
    rest: &'a [u8],
) -> Result<Central<'a>, &'static str> {
    let central = || {
        let mut fields = Fields::of(fixed);
        fields.bytes(CENTRAL.len() + 1)?;
        let host = fields.u8()?;
        fields.u16()?;
        let common = Fixed::parse(&mut fields)?;
        fields.u16()?;
        let disk = fields.u16()?;
        fields.u16()?;
        Some((host, common, disk, fields.u32()?, fields.u32()?))
    };
    let (host, common, disk, attributes, start) = central().ok_or("the header is cut off")?;
    let (mut start, mut disk) = (u64::from(start), u32::from(disk));
    let header = common.complete(&mut Fields::of(rest), &mut start, &mut disk)?;
    if disk != 0 {
        return Err("it is on another disk of the archive");
    }
    Ok(Central {
        header,
        host,
        attributes,
        start,
    })
}
