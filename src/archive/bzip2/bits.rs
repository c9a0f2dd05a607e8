//! [`Bits`]: a piece of a bzip2 stream, which may begin and end at any bit, moved to where a byte begins.

use super::scan::MAGIC_BITS;
use std::ops::Range;

/// Bits in the footer of a stream: the end magic and the combined CRC.
const FOOTER_BITS: usize = MAGIC_BITS + 32;

/// Bits, the first of which is the highest of the first byte. Those behind the last are zero.
#[derive(Debug, Default)]
pub(super) struct Bits {
    bytes: Vec<u8>,
    length: usize,
    /// Where the first bit stood within its byte in the source.
    phase: usize,
}

impl Bits {
    /// Copies a range of bits. Shifting pairs of bytes looks slow, but the compiler makes vectors of it.
    pub(super) fn copy(source: &[u8], range: Range<usize>) -> Self {
        let phase = range.start % 8;
        let length = range.len();
        let touched = &source[range.start / 8..range.end.div_ceil(8)];
        let mut bytes = Vec::with_capacity(touched.len());
        if phase == 0 {
            bytes.extend_from_slice(touched);
        } else {
            let joined = |pair: &[u8]| (pair[0] << phase) | (pair[1] >> (8 - phase));
            bytes.extend(touched.windows(2).map(joined));
            bytes.extend(touched.last().map(|last| last << phase));
        }
        let mut bits = Self {
            bytes,
            length,
            phase,
        };
        bits.clear_behind();
        bits
    }

    /// Returns the bits from `start` on; none if there are fewer.
    pub(super) fn tail(&self, start: usize) -> Self {
        let mut tail = Self::copy(&self.bytes, start.min(self.length)..self.length);
        tail.phase = (self.phase + start) % 8;
        tail
    }

    /// Adds what followed in the source.
    pub(super) fn append(&mut self, next: &Self) {
        let used = self.length % 8;
        if used == 0 {
            self.bytes.extend_from_slice(&next.bytes);
        } else {
            for byte in &next.bytes {
                if let Some(last) = self.bytes.last_mut() {
                    *last |= byte >> used;
                }
                self.bytes.push(byte << (8 - used));
            }
        }
        self.length += next.length;
        self.clear_behind();
    }

    /// Drops what is behind the last bit.
    fn clear_behind(&mut self) {
        self.bytes.truncate(self.length.div_ceil(8));
        if let Some(last) = self.bytes.last_mut()
            && !self.length.is_multiple_of(8)
        {
            *last &= !(0xff >> (self.length % 8));
        }
    }

    /// Returns the number of bits.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Returns the bytes that are complete, and the 0 to 7 bits behind them.
    pub(super) fn split(&self) -> (&[u8], Option<u8>) {
        let (whole, rest) = self.bytes.split_at(self.length / 8);
        (whole, rest.first().copied())
    }

    /// Returns the bytes, the last of which may not be complete.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the bytes that are complete.
    pub(super) fn whole(&self) -> &[u8] {
        self.split().0
    }

    /// Returns the CRC behind the magic, with which both a block and the footer of a stream begin.
    pub(super) fn crc(&self) -> Option<u32> {
        let behind_magic = self.whole().get(MAGIC_BITS / 8..)?;
        behind_magic.first_chunk().copied().map(u32::from_be_bytes)
    }

    /// Returns the bit behind a footer with which these bits begin. A stream is padded to a whole byte.
    pub(super) fn footer_end(&self) -> usize {
        (self.phase + FOOTER_BITS).next_multiple_of(8) - self.phase
    }
}

#[cfg(test)]
mod tests {
    use super::Bits;

    /// Returns the bits as a text of zeros and ones.
    fn text(bits: &Bits) -> String {
        let all: Vec<String> = bits.bytes.iter().map(|b| format!("{b:08b}")).collect();
        let all = all.concat();
        assert!(!all[bits.len()..].contains('1'));
        all[..bits.len()].to_owned()
    }

    #[test]
    fn any_range_of_bits_can_be_cut_out_and_joined_again() {
        let source = [0x31, 0x41, 0x59, 0x26, 0x53, 0x59, 0xff];
        let all = text(&Bits::copy(&source, 0..56));
        for end in 0..=56 {
            for start in 0..=end {
                let piece = Bits::copy(&source, start..end);
                assert_eq!(text(&piece), all[start..end]);
                let mut joined = Bits::copy(&source, 0..start);
                joined.append(&piece);
                assert_eq!(text(&joined), all[..end]);
                let tail = joined.tail(start);
                assert_eq!(text(&tail), all[start..end]);
                assert_eq!(tail.phase, piece.phase);
            }
        }
    }

    #[test]
    fn the_end_of_a_footer_is_the_end_of_a_byte_of_the_source() {
        for start in 0..8 {
            let end = Bits::copy(&[0; 12], start..96).footer_end();
            assert_eq!((start + end) % 8, 0);
            assert!((80..88).contains(&end));
        }
    }
}
