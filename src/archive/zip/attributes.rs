//! Type, permissions and times of members, as unzip understands them.

use super::{
    header::{Central, Header},
    name::UNIX,
};
use crate::fs::{Mtime, umask};

/// File type bits of a Unix mode.
const S_IFMT: u32 = 0o170_000;

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::archive) enum MemberKind {
    File,
    Directory,
    Symlink,
}

/// Returns what a member is. The slash at the end of the name counts more than the mode.
pub(super) fn kind(central: &Central<'_>, name: &[u8]) -> Result<MemberKind, String> {
    match (central.host == UNIX).then_some((central.attributes >> 16) & S_IFMT) {
        _ if name.ends_with(b"/") => Ok(MemberKind::Directory),
        Some(0o120_000) => Ok(MemberKind::Symlink),
        Some(0o040_000) => Ok(MemberKind::Directory),
        Some(0 | 0o100_000) | None => Ok(MemberKind::File),
        Some(0o020_000 | 0o060_000) => Err("devices are not extracted".into()),
        // What `zip a.zip -` calls the pipe that it read its content from.
        Some(0o010_000) if central.header.size > 0 => Ok(MemberKind::File),
        Some(0o010_000) => Err("named pipes are not extracted".into()),
        Some(other) => Err(format!("unsupported file mode {other:o}")),
    }
}

/// Returns the permission bits as they are, of archives made on Unix.
pub(super) fn unix_mode(central: &Central<'_>) -> Option<u32> {
    (central.host == UNIX).then_some((central.attributes >> 16) & 0o7777)
}

/// Returns the permission bits that unzip gives a member. Archives made on Unix have them; for others unzip believes
/// the Unix half of the attributes only if its owner bits agree with the DOS half.
pub(super) fn permissions(host: u8, attributes: u32, directory: bool) -> u32 {
    let unix = (attributes >> 16) & 0o777;
    let owner = 4 | if attributes & 1 == 0 { 2 } else { 0 } | u32::from(directory);
    if host == UNIX || unix >> 6 == owner {
        return unix;
    }
    (owner * 0o111) & !umask().bits()
}

/// Returns the time of the extended timestamp, which is in UTC, if a header has one.
pub(super) fn extended_time(header: &Header<'_>) -> Option<Mtime> {
    let seconds = header.extra.modified()?;
    Some(Mtime { seconds, nanos: 0 })
}

/// Returns the DOS time, which is in nobody knows which zone and taken for UTC, as containers have it.
pub(super) fn dos_time(header: &Header<'_>) -> Option<Mtime> {
    let dos = zip::DateTime::try_from_msdos(header.dos_date, header.dos_time).ok()?;
    let days = days_from_epoch(
        i64::from(dos.year()),
        i64::from(dos.month()),
        i64::from(dos.day()),
    );
    let seconds = ((days * 24 + i64::from(dos.hour())) * 60 + i64::from(dos.minute())) * 60
        + i64::from(dos.second());
    Some(Mtime { seconds, nanos: 0 })
}

/// Days from 1970-01-01 to a date of the Gregorian calendar: years begin in March, so that the leap day is the last.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469
}

#[cfg(test)]
mod tests {
    use super::{UNIX, days_from_epoch, permissions};

    const DOS: u8 = 0;

    #[test]
    fn dates_become_days() {
        for (date, days) in [
            ((1970, 1, 1), 0),
            ((1980, 1, 1), 3652),
            ((2000, 2, 29), 11016),
            ((2107, 12, 31), 50402),
        ] {
            assert_eq!(days_from_epoch(date.0, date.1, date.2), days, "{date:?}");
        }
    }

    #[test]
    fn unix_modes_are_believed_where_unzip_believes_them() {
        assert_eq!(permissions(UNIX, 0o100_775 << 16, false), 0o775);
        assert_eq!(permissions(DOS, 0o600 << 16, false), 0o600);
        assert_eq!(permissions(DOS, 0o755 << 16, false) & 0o111, 0);
        assert_eq!(permissions(DOS, 0x01, false) & 0o222, 0);
    }
}
