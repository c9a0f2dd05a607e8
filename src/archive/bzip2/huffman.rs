//! Huffman codes: [`BitReader`] reads bits, [`Code`] reads symbols from them.

/// Length of the longest code, in bits.
pub(super) const MAX_LENGTH: u8 = 20;

/// The largest alphabet: two for runs, 255 for positions, and the end.
pub(super) const MAX_SYMBOLS: usize = 258;

/// Bits that are looked up at once. Longer codes are rare.
const TABLE_BITS: u8 = 10;

/// Reads bits, the first of which is the highest of the first byte. Behind the last are zeros without end.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Where the next byte is.
    next: usize,
    /// The next bits, from the highest on.
    buffer: u64,
    /// How many of them are accounted for; there may be more.
    count: u32,
}

impl<'a> BitReader<'a> {
    /// Begins with the first bit.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            next: 0,
            buffer: 0,
            count: 0,
        }
    }

    /// Returns how many bits were taken.
    pub(super) fn position(&self) -> usize {
        8 * self.next - self.count as usize
    }

    /// Makes sure that 56 bits or more are there, which are two symbols.
    #[inline]
    pub(super) fn refill(&mut self) {
        let rest = self.bytes.get(self.next..).unwrap_or_default();
        let word = match rest.first_chunk() {
            Some(word) => u64::from_be_bytes(*word),
            None => last_word(rest),
        };
        self.buffer |= word >> self.count;
        self.next += ((63 - self.count) / 8) as usize;
        // That many whole bytes make 56 to 63 bits of it.
        self.count |= 0x38;
    }

    /// Returns the next 1 to 32 bits.
    #[expect(clippy::cast_possible_truncation, reason = "there are no more than 32")]
    pub(super) fn take(&mut self, length: u32) -> u32 {
        self.refill();
        let bits = self.buffer >> (64 - length);
        self.skip(length);
        bits as u32
    }

    /// Returns how many ones come before the next zero, which is taken, too; `None` if there are more than `most`.
    pub(super) fn ones(&mut self, most: u32) -> Option<u32> {
        let mut ones = 0;
        while self.take(1) == 1 {
            ones += 1;
            if ones > most {
                return None;
            }
        }
        Some(ones)
    }

    #[inline]
    fn skip(&mut self, length: u32) {
        self.buffer <<= length;
        self.count -= length;
    }
}

/// Returns the next eight bytes where there are fewer.
#[cold]
fn last_word(rest: &[u8]) -> u64 {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(rest) {
        *to = *from;
    }
    u64::from_be_bytes(word)
}

/// A canonical prefix code.
pub(super) struct Code {
    /// By the next bits: the symbol, and in the lowest five bits the length of its code; 0 for codes that are longer.
    table: [u16; 1 << TABLE_BITS],
    /// By length: what, at [`MAX_LENGTH`] bits, is behind all codes up to it.
    ends: [u32; MAX_LENGTH as usize + 1],
    /// By length: what turns a code into the place of its symbol. Wraps.
    offsets: [u32; MAX_LENGTH as usize + 1],
    /// Symbols in the order of their codes.
    symbols: [u16; MAX_SYMBOLS],
}

impl Code {
    /// Makes a code that knows no symbol.
    pub(super) fn empty() -> Self {
        Self {
            table: [0; 1 << TABLE_BITS],
            ends: [0; MAX_LENGTH as usize + 1],
            offsets: [0; MAX_LENGTH as usize + 1],
            symbols: [0; MAX_SYMBOLS],
        }
    }

    /// Becomes the code whose symbols have these lengths, from 1 to [`MAX_LENGTH`]. Not all bits need mean something,
    /// but `None` if some would mean two things.
    pub(super) fn assign(&mut self, lengths: &[u8]) -> Option<()> {
        self.table = [0; 1 << TABLE_BITS];
        let (mut code, mut place) = (0, 0_u32);
        for length in 1..=MAX_LENGTH {
            code <<= 1;
            self.offsets[usize::from(length)] = place.wrapping_sub(code);
            let same_length = (0..).zip(lengths).filter(|(_, other)| **other == length);
            for (symbol, _) in same_length {
                *self.symbols.get_mut(place as usize)? = symbol;
                if length <= TABLE_BITS {
                    let width = TABLE_BITS - length;
                    let first = (code << width) as usize;
                    let covered = self.table.get_mut(first..first + (1 << width))?;
                    covered.fill(entry(symbol, length));
                }
                code += 1;
                place += 1;
            }
            if code > 1 << length {
                return None;
            }
            self.ends[usize::from(length)] = code << (MAX_LENGTH - length);
        }
        Some(())
    }

    /// Returns the next symbol. The reader must have been refilled at most one symbol ago.
    #[inline]
    pub(super) fn next(&self, reader: &mut BitReader<'_>) -> Option<u16> {
        let mut entry = self.table[(reader.buffer >> (64 - TABLE_BITS)) as usize];
        if entry == 0 {
            entry = self.find_long(reader.buffer)?;
        }
        reader.skip(u32::from(entry & 31));
        Some(entry >> 5)
    }

    /// Finds the code with which the bits begin, and returns what would be its entry in the table.
    #[cold]
    #[inline(never)]
    fn find_long(&self, bits: u64) -> Option<u16> {
        let bits = u32::try_from(bits >> (64 - MAX_LENGTH)).ok()?;
        let mut lengths = TABLE_BITS + 1..=MAX_LENGTH;
        let length = lengths.find(|length| bits < self.ends[usize::from(*length)])?;
        let code = bits >> (MAX_LENGTH - length);
        let place = code.wrapping_add(self.offsets[usize::from(length)]);
        let symbol = self.symbols.get(place as usize)?;
        Some(entry(*symbol, length))
    }
}

/// Returns how a code is known in a table: its symbol, and in the lowest five bits its length.
fn entry(symbol: u16, length: u8) -> u16 {
    symbol << 5 | u16::from(length)
}

#[cfg(test)]
mod tests {
    use super::{BitReader, Code};

    /// Returns the symbols whose codes stand at the beginning of the bytes, and where the last of them ends.
    fn read(lengths: &[u8], bytes: &[u8], count: usize) -> Option<(Vec<u16>, usize)> {
        let mut code = Code::empty();
        // What was there before makes no difference.
        code.assign(&[3, 1, 2, 5, 5])?;
        code.assign(lengths)?;
        let mut reader = BitReader::new(bytes);
        let symbols = (0..count).map(|_| {
            reader.refill();
            code.next(&mut reader)
        });
        Some((symbols.collect::<Option<_>>()?, reader.position()))
    }

    #[test]
    fn codes_of_all_lengths_are_read() {
        // One symbol for each length, and another one for the last: n ones and a zero.
        let lengths: Vec<u8> = (1..=20).chain([20]).collect();
        for symbol in 0..21 {
            let bytes = (!(u64::MAX >> symbol)).to_be_bytes();
            let length = usize::from(lengths[symbol]);
            let expected = u16::try_from(symbol).unwrap();
            let read = read(&lengths, &bytes, 2).unwrap();
            assert_eq!(read, (vec![expected, 0], length + 1), "{symbol}");
        }
    }

    #[test]
    fn symbols_of_one_length_are_in_their_own_order() {
        let read = |lengths, bytes| read(lengths, bytes, 4);
        // The last code is completed by zeros from behind the end.
        assert_eq!(
            read(&[2, 3, 1, 3], &[0b1011_0011]),
            Some((vec![0, 1, 2, 1], 9))
        );
        assert_eq!(
            read(&[2, 3, 1, 3], &[0b1110_1111]),
            Some((vec![3, 2, 3, 0], 9))
        );
        assert_eq!(
            read(&[2, 2, 2, 2], &[0b0001_1011]),
            Some((vec![0, 1, 2, 3], 8))
        );
    }

    #[test]
    fn bits_that_mean_nothing_or_two_things_are_refused() {
        assert_eq!(read(&[2, 2], &[0b0001_0001], 4).unwrap().0, [0, 1, 0, 1]);
        assert_eq!(read(&[2, 2], &[0b0001_1001], 4), None);
        assert_eq!(read(&[15, 12], &[0xff; 8], 1), None);
        assert_eq!(read(&[1, 1, 1], &[0], 1), None);
        assert_eq!(read(&[1, 1, 20], &[0], 1), None);
        assert_eq!(read(&[9; 513], &[0], 1), None);
    }

    #[test]
    fn bits_are_read_at_any_place_and_are_zeros_behind_the_end() {
        let bytes: Vec<u8> = (1..=20).collect();
        let bit =
            |place: usize| u32::from(bytes.get(place / 8).unwrap_or(&0) >> (7 - place % 8) & 1);
        for length in 1..=32 {
            let mut reader = BitReader::new(&bytes);
            while reader.position() < 300 {
                let place = reader.position();
                let bits = place..place + length as usize;
                let expected = bits.fold(0, |bits, place| bits << 1 | bit(place));
                assert_eq!(reader.take(length), expected, "{length} at {place}");
            }
        }
        let mut reader = BitReader::new(&[0b1101_1110, 0b1111_1110]);
        assert_eq!(
            [2, 4, 7].map(|most| reader.ones(most)),
            [Some(2), Some(4), Some(7)]
        );
        assert_eq!(BitReader::new(&[0b1110_0000]).ones(2), None);
    }
}
