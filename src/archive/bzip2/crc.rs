//! The CRC of bzip2: that of zlib with the bits the other way round, the highest first.

const POLYNOMIAL: u32 = 0x04c1_1db7;

/// Bytes that are taken at once, with one table for each.
const STEP: usize = 16;

/// What a byte does to the sum, by how many bytes follow it in the step.
static TABLES: [[u32; 256]; STEP] = tables();

const fn tables() -> [[u32; 256]; STEP] {
    let mut tables = [[0; 256]; STEP];
    let mut byte = 0_u32;
    while byte < 256 {
        let mut sum = byte << 24;
        let mut followers = 0;
        while followers < STEP {
            let mut bit = 0;
            while bit < 8 {
                sum = (sum << 1) ^ (POLYNOMIAL * (sum >> 31));
                bit += 1;
            }
            tables[followers][byte as usize] = sum;
            followers += 1;
        }
        byte += 1;
    }
    tables
}

/// Returns the CRC of the content of a block.
pub(super) fn crc(content: &[u8]) -> u32 {
    let (steps, rest) = content.as_chunks::<STEP>();
    let mut sum = u32::MAX;
    for step in steps {
        let mut step = *step;
        for (byte, high) in step.iter_mut().zip(sum.to_be_bytes()) {
            *byte ^= high;
        }
        let tables = TABLES.iter().rev();
        sum = tables
            .zip(step)
            .fold(0, |sum, (table, byte)| sum ^ table[usize::from(byte)]);
    }
    for byte in rest {
        let [high, ..] = sum.to_be_bytes();
        sum = (sum << 8) ^ TABLES[0][usize::from(high ^ byte)];
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::crc;

    #[test]
    fn the_sum_is_that_of_the_standard_at_every_length() {
        // The check value of CRC-32/BZIP2.
        assert_eq!(crc(b"123456789"), 0xfc89_1918);
        let content: Vec<u8> = (0..=99).collect();
        for length in 0..content.len() {
            let mut sum = u32::MAX;
            for byte in &content[..length] {
                sum ^= u32::from(*byte) << 24;
                for _ in 0..8 {
                    sum = (sum << 1) ^ if sum >> 31 == 1 { super::POLYNOMIAL } else { 0 };
                }
            }
            assert_eq!(crc(&content[..length]), !sum, "{length}");
        }
    }
}
