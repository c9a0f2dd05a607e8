//! [`Decoder`]: one whole block decoded by ourselves, from the magic to the CRC.

use super::{
    bits::Bits,
    burrows_wheeler::{MAX_ROWS, Ring, Run},
    crc::crc,
    huffman::{BitReader, Code, MAX_LENGTH, MAX_SYMBOLS},
    move_to_front::MoveToFront,
    scan::BLOCK_MAGIC,
};

/// Bytes that a block holds for each level, before its runs of equal bytes are expanded.
pub(super) const LEVEL_UNIT: usize = 100_000;

/// Symbols that are read with the same code.
const GROUP: usize = 50;

/// The most groups that a block can have. What more there are of their numbers is ignored, as libbz2 does.
const MAX_GROUPS: usize = 9 * LEVEL_UNIT / GROUP + 2;

/// The most codes that a block may have.
const MAX_CODES: usize = 6;

/// Equal bytes that a count follows.
const RUN: usize = 4;

/// Takes its memory along from block to block: 8 MB, most of which is for the inverse transform.
pub(super) struct Decoder {
    codes: Vec<Code>,
    /// For each group the number of its code.
    selectors: Vec<u8>,
    runs: Vec<Run>,
    ring: Ring,
    plain: Vec<u8>,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            codes: (0..MAX_CODES).map(|_| Code::empty()).collect(),
            selectors: Vec::new(),
            runs: vec![0; MAX_ROWS],
            ring: Ring::new(),
            plain: Vec::new(),
        }
    }

    /// Decodes bits that are exactly one block of at most `most` bytes. `None` for whatever is not plainly that.
    pub(super) fn decode(&mut self, bits: &Bits, level: u8, most: usize) -> Option<Vec<u8>> {
        let room = LEVEL_UNIT * usize::from(level);
        let mut reader = BitReader::new(bits.bytes());
        let magic = [reader.take(24), reader.take(24)];
        if magic.map(u64::from) != [BLOCK_MAGIC >> 24, BLOCK_MAGIC & 0xff_ffff] {
            return None;
        }
        let expected = reader.take(32);
        let randomised = reader.take(1) == 1;
        let origin = reader.take(24) as usize;
        if randomised {
            return None;
        }
        let used = read_used_bytes(&mut reader);
        if used.is_empty() {
            return None;
        }
        self.read_codes(&mut reader, used.len() + 2)?;
        let (count, end) = self.read_runs(reader, &used, room)?;
        if end != bits.len() {
            return None;
        }
        let runs = self.runs.get(..count)?;
        self.ring.invert(runs, origin, room, &mut self.plain)?;
        let content = expand(&self.plain, most)?;
        (crc(&content) == expected).then_some(content)
    }

    /// Reads the codes, and which of them is used when.
    fn read_codes(&mut self, reader: &mut BitReader<'_>, symbols: usize) -> Option<()> {
        let codes = reader.take(3);
        if !(2..=6).contains(&codes) {
            return None;
        }
        let mut list = MoveToFront::new(&[0, 1, 2, 3, 4, 5]);
        self.selectors.clear();
        for _ in 0..reader.take(15) {
            let position = reader.ones(codes - 1)?;
            self.selectors.push(list.take(u8::try_from(position).ok()?));
        }
        self.selectors.truncate(MAX_GROUPS);
        for code in self.codes.iter_mut().take(codes as usize) {
            let mut lengths = [0; MAX_SYMBOLS];
            let lengths = lengths.get_mut(..symbols)?;
            read_lengths(reader, lengths)?;
            code.assign(lengths)?;
        }
        Some(())
    }

    /// Reads the symbols, and makes of them runs of `used` bytes; returns how many.
    ///
    /// A symbol is a position in the list, or a digit of how often the byte from the last position is repeated. Each of
    /// them writes down a run. That of a digit is written over the last one, which saves a branch.
    fn read_runs(
        &mut self,
        mut reader: BitReader<'_>,
        used: &[u8],
        room: usize,
    ) -> Option<(usize, usize)> {
        let codes: &[Code; MAX_CODES] = self.codes.first_chunk()?;
        let runs: &mut [Run; MAX_ROWS] = self.runs.first_chunk_mut()?;
        let room = u32::try_from(room).ok()?;
        let end = u16::try_from(used.len() + 1).ok()?;
        let mut list = MoveToFront::new(used);
        let (mut current, mut length, mut digit) = (0, 0, 1);
        runs[0] = Run::from(list.take(0));
        for selector in &self.selectors {
            let code = codes.get(usize::from(*selector))?;
            for _ in 0..GROUP / 2 {
                reader.refill();
                for _ in 0..2 {
                    let symbol = code.next(&mut reader)?;
                    if symbol == end {
                        return Some((current + 1, reader.position()));
                    }
                    // No more than 255: the symbol that is one more is `end`.
                    let [position, _] = symbol.saturating_sub(1).to_le_bytes();
                    let byte = list.take(position);
                    let is_digit = symbol < 2;
                    (length, digit) = match symbol {
                        0 | 1 => (length + (digit << symbol), 2 * digit),
                        _ => (1, 1),
                    };
                    current += usize::from(!is_digit);
                    if length > room {
                        return None;
                    }
                    runs[current % MAX_ROWS] = length << 8 | Run::from(byte);
                }
            }
        }
        None
    }
}

/// Returns the bytes that occur in a block.
fn read_used_bytes(reader: &mut BitReader<'_>) -> Vec<u8> {
    let ranges = reader.take(16);
    let mut used = Vec::with_capacity(256);
    for range in (0..16_u8).filter(|range| ranges << range & 0x8000 != 0) {
        let bytes = reader.take(16);
        used.extend(
            (0..16)
                .filter(|byte| bytes << byte & 0x8000 != 0)
                .map(|byte| range << 4 | byte),
        );
    }
    used
}

/// Reads the lengths of codes, each as the difference to the one before.
fn read_lengths(reader: &mut BitReader<'_>, lengths: &mut [u8]) -> Option<()> {
    let mut current = reader.take(5);
    for length in lengths {
        loop {
            *length = u8::try_from(current).ok()?;
            if !(1..=MAX_LENGTH).contains(length) {
                return None;
            }
            if reader.take(1) == 0 {
                break;
            }
            current = match reader.take(1) {
                0 => current + 1,
                _ => current - 1,
            };
        }
    }
    Some(())
}

/// Expands the runs of four equal bytes and a count. `None` if there are more than `most` bytes, or no count.
pub(super) fn expand(plain: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut content = Vec::with_capacity(plain.len() + plain.len() / 16 + 256);
    let mut rest = plain;
    while let Some(begin) = find_run(rest) {
        let (before, behind) = rest.split_at_checked(begin + RUN)?;
        let (count, behind) = behind.split_first()?;
        content.extend_from_slice(before);
        content.resize(content.len() + usize::from(*count), *before.last()?);
        if content.len() > most {
            return None;
        }
        rest = behind;
    }
    content.extend_from_slice(rest);
    (content.len() <= most).then_some(content)
}

/// Returns where four equal bytes begin.
fn find_run(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(near) = bytes.get(at..).and_then(|near| near.first_chunk::<11>()) {
        let word = |from: usize| {
            near[from..]
                .first_chunk()
                .map_or(0, |word| u64::from_le_bytes(*word))
        };
        let first = word(0);
        let different = (first ^ word(1)) | (first ^ word(2)) | (first ^ word(3));
        // The lowest byte that is zero sets its highest bit here.
        let zeros =
            different.wrapping_sub(0x0101_0101_0101_0101) & !different & 0x8080_8080_8080_8080;
        if zeros != 0 {
            return Some(at + zeros.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let is_run = |bytes: &[u8]| bytes.iter().all(|byte| *byte == bytes[0]);
    bytes[at..]
        .windows(RUN)
        .position(is_run)
        .map(|found| at + found)
}
