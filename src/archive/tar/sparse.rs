//! Maps of sparse files: where in a file the bytes belong that are in the archive. There are four ways to write one:
//! in the header and blocks behind it (old GNU), in PAX records (versions 0.0 and 0.1), and in front of the content
//! (version 1.0). See "Storing Sparse Files" in GNU tar's manual.

use super::{
    header::{BLOCK, number},
    pax::{Record, decimal},
};

/// More segments than any sparse file worth the name has.
pub(super) const MAX_SEGMENTS: usize = 1 << 20;

/// Bytes of a file that are in the archive; those between segments are zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// Where the map of a member is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Map {
    /// In the records.
    Here(Vec<Segment>),
    /// At the beginning of the content.
    InContent,
}

/// What the records of a sparse file say ("GNU.sparse.…").
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PaxSparse {
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: u64,
    pub(super) map: Map,
}

/// Reads the records of a member; `Ok(None)` if they make it no sparse file.
///
/// # Errors
/// What is wrong with them.
pub(super) fn from_records(records: &[Record]) -> Result<Option<PaxSparse>, &'static str> {
    let mut found = false;
    let (mut version, mut name, mut real_size, mut map) = ((0, 0), None, None, None);
    let mut numbers = Vec::new();
    for (keyword, value) in records {
        let Some(keyword) = keyword.strip_prefix(b"GNU.sparse.") else {
            continue;
        };
        found = true;
        let number = || decimal(value).ok_or("a malformed number in the map of a sparse file");
        match keyword {
            b"major" => version.0 = number()?,
            b"minor" => version.1 = number()?,
            b"name" => name = Some(value.clone()),
            b"size" | b"realsize" => real_size = Some(number()?),
            b"map" => map = Some(value),
            b"offset" | b"numbytes" => {
                // They come in pairs.
                if (keyword == b"offset") != (numbers.len() % 2 == 0) {
                    return Err("the map of the sparse file is malformed");
                }
                numbers.push(number()?);
            }
            _ => {}
        }
    }
    if !found {
        return Ok(None);
    }
    let map = match (version, map) {
        ((1, 0), None) if numbers.is_empty() => Map::InContent,
        ((0, 0 | 1), Some(map)) if numbers.is_empty() => {
            let numbers = map.split(|&byte| byte == b',').map(decimal);
            Map::Here(segments(numbers.collect::<Option<Vec<_>>>())?)
        }
        ((0, 0 | 1), None) => Map::Here(segments(Some(numbers))?),
        _ => return Err("the format of the sparse file is not known"),
    };
    Ok(Some(PaxSparse {
        name,
        real_size: real_size.ok_or("the size of the sparse file is missing")?,
        map,
    }))
}

fn segments(numbers: Option<Vec<u64>>) -> Result<Vec<Segment>, &'static str> {
    let numbers = numbers
        .filter(|numbers| numbers.len() % 2 == 0 && numbers.len() / 2 <= MAX_SEGMENTS)
        .ok_or("the map of the sparse file is malformed")?;
    let pairs = numbers.chunks_exact(2);
    Ok(pairs
        .map(|pair| Segment {
            offset: pair[0],
            size: pair[1],
        })
        .collect())
}

/// The map in front of the content, in the making: decimal numbers, one per line (how many segments, then offset and
/// size of each), padded to a block.
#[derive(Default)]
pub(super) struct ContentMap {
    numbers: Vec<u64>,
    digits: Vec<u8>,
}

impl ContentMap {
    /// Takes the next block. Returns the map when it is complete.
    pub(super) fn block(&mut self, block: &[u8]) -> Result<Option<Vec<Segment>>, &'static str> {
        const MALFORMED: &str = "the map of the sparse file is malformed";
        for &byte in block {
            match byte {
                b'0'..=b'9' if self.digits.len() < 20 => self.digits.push(byte),
                b'\n' if !self.digits.is_empty() => {
                    let number = decimal(&self.digits).ok_or(MALFORMED)?;
                    self.digits.clear();
                    self.numbers.push(number);
                }
                _ => return Err(MALFORMED),
            }
            let Some(&count) = self.numbers.first() else {
                continue;
            };
            if count > MAX_SEGMENTS as u64 {
                return Err("the sparse file has too many segments");
            }
            if (self.numbers.len() - 1) as u64 == 2 * count {
                return segments(Some(self.numbers.split_off(1))).map(Some);
            }
        }
        Ok(None)
    }
}

/// Reads entries of an old GNU map; behind those that are used, they are empty. Returns whether more can follow.
pub(super) fn old_entries(entries: &[u8], map: &mut Vec<Segment>) -> Result<bool, &'static str> {
    const MALFORMED: &str = "the map of the sparse file is malformed";
    let is_empty = |entry: &&[u8]| entry[0] == 0 && entry[12] == 0;
    let (size, whole) = (24, entries.len() / 24);
    let used = entries
        .chunks_exact(size)
        .take_while(|entry| !is_empty(entry));
    for entry in used.clone() {
        let field = |field| number(field).and_then(|number| u64::try_from(number).ok());
        let (offset, size) = field(&entry[..12])
            .zip(field(&entry[12..]))
            .ok_or(MALFORMED)?;
        map.push(Segment { offset, size });
    }
    if map.len() > MAX_SEGMENTS {
        return Err("the sparse file has too many segments");
    }
    let used = used.count();
    if !entries
        .chunks_exact(size)
        .skip(used)
        .all(|entry| is_empty(&entry))
    {
        return Err(MALFORMED);
    }
    Ok(used == whole)
}

/// Checks that segments are in order, inside of the file and as long as what is in the archive. Each but the last is
/// whole blocks: of others parsers make different things.
pub(super) fn check(map: &[Segment], real_size: u64, packed: u64) -> Result<(), &'static str> {
    let (mut end, mut sum) = (0, 0_u64);
    if i64::try_from(real_size).is_err() {
        return Err("the sparse file is larger than files can be");
    }
    for segment in map {
        if segment.offset < end || (segment.size > 0 && sum % BLOCK as u64 != 0) {
            return Err("the segments of the sparse file overlap or are not in order");
        }
        end = segment
            .offset
            .checked_add(segment.size)
            .filter(|end| *end <= real_size)
            .ok_or("a segment of the sparse file is outside of it")?;
        sum += segment.size;
    }
    if sum != packed {
        return Err("the segments of the sparse file are not what the archive has of it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{ContentMap, Map, PaxSparse, Segment, check, from_records};

    fn records(records: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let records = records.iter();
        records
            .map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect()
    }

    const MAP: [Segment; 2] = [
        Segment {
            offset: 0,
            size: 512,
        },
        Segment {
            offset: 4096,
            size: 7,
        },
    ];

    #[test]
    fn all_ways_to_write_a_map_are_read() {
        let name = Some(b"n".to_vec());
        for (given, name, map) in [
            (
                &[
                    ("GNU.sparse.size", "9000"),
                    ("GNU.sparse.numblocks", "2"),
                    ("GNU.sparse.offset", "0"),
                    ("GNU.sparse.numbytes", "512"),
                    ("GNU.sparse.offset", "4096"),
                    ("GNU.sparse.numbytes", "7"),
                ][..],
                None,
                Map::Here(MAP.to_vec()),
            ),
            (
                &[
                    ("GNU.sparse.name", "n"),
                    ("GNU.sparse.size", "9000"),
                    ("GNU.sparse.map", "0,512,4096,7"),
                ],
                name.clone(),
                Map::Here(MAP.to_vec()),
            ),
            (
                &[
                    ("GNU.sparse.major", "1"),
                    ("GNU.sparse.minor", "0"),
                    ("GNU.sparse.name", "n"),
                    ("GNU.sparse.realsize", "9000"),
                ],
                name,
                Map::InContent,
            ),
        ] {
            let sparse = PaxSparse {
                name,
                real_size: 9000,
                map,
            };
            assert_eq!(from_records(&records(given)), Ok(Some(sparse)), "{given:?}");
        }
        assert_eq!(from_records(&records(&[("path", "x")])), Ok(None));
    }

    #[test]
    fn malformed_records_are_refused() {
        for given in [
            &[("GNU.sparse.size", "x"), ("GNU.sparse.map", "")][..],
            &[("GNU.sparse.size", "9"), ("GNU.sparse.map", "1")],
            &[("GNU.sparse.size", "9"), ("GNU.sparse.map", "1,2,")],
            &[("GNU.sparse.size", "9"), ("GNU.sparse.map", "1,-2")],
            &[("GNU.sparse.size", "9"), ("GNU.sparse.numbytes", "1")],
            &[("GNU.sparse.size", "9"), ("GNU.sparse.offset", "1")],
            &[("GNU.sparse.map", "1,2")],
            &[("GNU.sparse.size", "9"), ("GNU.sparse.major", "2")],
            &[
                ("GNU.sparse.size", "9"),
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.map", "1,2"),
            ],
        ] {
            assert!(from_records(&records(given)).is_err(), "{given:?}");
        }
    }

    #[test]
    fn a_map_in_the_content_may_go_over_blocks() {
        let text = b"2\n0\n512\n4096\n7\n\0\0\0";
        for block in [1, 2, 3, 7, 18] {
            let mut map = ContentMap::default();
            let mut done = text.chunks(block).map(|block| map.block(block));
            assert_eq!(
                done.find_map(|step| step.unwrap()),
                Some(MAP.to_vec()),
                "{block}"
            );
        }
        for text in [
            &b"2\n\n"[..],
            b"x",
            b"1 ",
            b"9999999\n",
            b"123456789012345678901\n",
        ] {
            assert!(
                ContentMap::default().block(text).is_err(),
                "{}",
                text.escape_ascii()
            );
        }
        assert_eq!(ContentMap::default().block(b"0\n"), Ok(Some(Vec::new())));
    }

    #[test]
    fn segments_must_fit() {
        assert!(check(&MAP, 9000, 519).is_ok() && check(&MAP, 4103, 519).is_ok());
        assert!(check(&MAP, 4102, 519).is_err() && check(&MAP, 9000, 518).is_err());
        let segment = |offset, size| Segment { offset, size };
        for map in [
            [segment(0, 512), segment(511, 7)],
            [segment(0, 7), segment(512, 512)],
            [segment(0, 512), segment(u64::MAX, 7)],
            [segment(0, 512), segment(u64::MAX >> 1, 7)],
        ] {
            assert!(check(&map, u64::MAX >> 1, 519).is_err(), "{map:?}");
        }
        assert!(check(&[segment(0, 7), segment(512, 0)], 512, 7).is_ok());
    }
}
