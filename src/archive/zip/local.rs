//! The local header and the data descriptor of a member, which say what the table of contents says, or the archive is
//! refused: half of all readers believe the one, half the other.

use super::{
    attributes,
    directory::Member,
    fields::Fields,
    header::{self, DESCRIPTOR, ENCRYPTED, Header, MASKED, STRONG},
    name,
};
use crate::{error::Result, fs::Mtime};

/// The signature of a data descriptor, which may be left out.
const DESCRIPTOR_SIGNATURE: &[u8] = b"PK\x07\x08";

/// The longest data descriptor, in bytes.
pub(super) const MAX_DESCRIPTOR: usize = 24;

/// What is known of a member only from its local header.
#[derive(Clone, Copy)]
pub(super) struct Local {
    /// The time of the extended timestamp, which the table of contents need not have.
    pub(super) mtime: Option<Mtime>,
    pub(super) descriptor: Descriptor,
}

/// Whether sizes and CRC-32 are there once more behind the content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Descriptor {
    None,
    /// Announced, but the local header says all that it could: there are writers that then leave it out.
    Redundant,
    Needed,
}

/// Checks a whole local header against the table of contents.
pub(super) fn check(member: &Member, header: &[u8]) -> Result<Local> {
    let local = header::parse_local(header).map_err(|problem| {
        member.refused(format!(
            "what stands before the member is damaged: {problem}"
        ))
    })?;
    check_identity(member, &local)?;
    let described = local.flags & DESCRIPTOR != 0;
    let mut complete = true;
    for (what, listed, stated) in [
        ("CRC-32", member.crc.into(), u64::from(local.crc)),
        ("packed size", member.packed_size, local.packed_size),
        ("size", member.size, local.size),
    ] {
        if listed != stated {
            complete = false;
            // Who writes to a pipe does not know these yet.
            if !described || stated != 0 {
                return Err(contradiction(member, what, &listed, &stated));
            }
        }
    }
    Ok(Local {
        mtime: attributes::extended_time(&local),
        descriptor: match (described, complete) {
            (false, _) => Descriptor::None,
            (true, true) => Descriptor::Redundant,
            (true, false) => Descriptor::Needed,
        },
    })
}

fn check_identity(member: &Member, local: &Header<'_>) -> Result<()> {
    let name = name::decode(local, member.host).map_err(|problem| member.refused(problem))?;
    if *name != *member.name {
        let local = crate::rel_path::shown_name(&name).to_string();
        return Err(member.refused(format!(
            "its two headers contradict each other: before the member its name is `{local}`"
        )));
    }
    if local.method != member.method {
        return Err(contradiction(
            member,
            "compression method",
            &member.method,
            &local.method,
        ));
    }
    let flags = |flags: u16| flags & (ENCRYPTED | DESCRIPTOR | STRONG | MASKED);
    if flags(local.flags) != flags(member.flags) {
        return Err(contradiction(
            member,
            "flags",
            &format_args!("{:#06x}", member.flags),
            &format_args!("{:#06x}", local.flags),
        ));
    }
    Ok(())
}

fn contradiction(
    member: &Member,
    what: &str,
    listed: &dyn std::fmt::Display,
    stated: &dyn std::fmt::Display,
) -> crate::Error {
    member.refused(format!(
        "its two headers contradict each other: the {what} is {listed} in the table of contents, \
         and {stated} before the member"
    ))
}

/// Checks what follows the content, up to [`MAX_DESCRIPTOR`] bytes of it, against the table of contents. A descriptor
/// has a signature or not, and sizes of 32 or of 64 bits, and nothing says which.
pub(super) fn check_descriptor(
    member: &Member,
    descriptor: Descriptor,
    bytes: &[u8],
) -> Result<()> {
    let signed = bytes.strip_prefix(DESCRIPTOR_SIGNATURE);
    let agrees = [Some(bytes), signed].into_iter().flatten().any(|bytes| {
        says_the_same(member, bytes, |fields| {
            Some([fields.u32()?.into(), fields.u32()?.into()])
        }) || says_the_same(member, bytes, |fields| Some([fields.u64()?, fields.u64()?]))
    });
    match descriptor {
        Descriptor::None => Ok(()),
        _ if agrees => Ok(()),
        Descriptor::Redundant if signed.is_none() => Ok(()),
        Descriptor::Redundant | Descriptor::Needed => Err(member.refused(
            "what follows its content does not have the sizes and the CRC-32 of the table of contents",
        )),
    }
}

fn says_the_same(
    member: &Member,
    bytes: &[u8],
    sizes: fn(&mut Fields<'_>) -> Option<[u64; 2]>,
) -> bool {
    let mut fields = Fields::of(bytes);
    fields.u32() == Some(member.crc)
        && sizes(&mut fields) == Some([member.packed_size, member.size])
}
