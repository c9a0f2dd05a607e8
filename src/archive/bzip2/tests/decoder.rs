//! Single blocks through [`Decoder`], against the `bzip2` crate.

use super::{
    super::{
        bits::Bits,
        block,
        crc::crc,
        decoder::{Decoder, LEVEL_UNIT, expand},
        scan::BLOCK_MAGIC,
    },
    Random, block_of, layout, mutate, number, pack, to_bytes, with_inserted,
};

/// More than a block of these tests unpacks to.
const MOST: usize = 1 << 20;

/// Returns a block given as zeros and ones.
fn bits(block: &str) -> Bits {
    Bits::copy(&to_bytes(block), 0..block.len())
}

/// Returns contents of one block of level 1 that have each something of their own.
fn contents() -> Vec<Vec<u8>> {
    let mut random = Random(11);
    // Some bytes are thousands of times as frequent as others, whose codes are long.
    let skewed = (0..60_000).map(|_| random.byte() & random.byte() & random.byte() & random.byte());
    let skewed: Vec<u8> = skewed.collect();
    let noise: Vec<u8> = (0..60_000).map(|_| random.byte()).collect();
    let all: Vec<u8> = (0..=255).rev().collect();
    let mut contents = vec![
        b"x".to_vec(),
        b"\0\0\0\0".to_vec(),
        b"aaaaaaaa".repeat(500),
        b"abc".repeat(30_000),
        vec![0xff; 255 * 1000],
        all.repeat(200),
        random.text(90_000),
        skewed,
        noise,
    ];
    for length in 1..30 {
        contents.push([&b"before"[..], &vec![b'='; length], b"behind"].concat());
        contents.push(vec![b'='; 254 + length]);
    }
    contents
}

#[test]
fn blocks_of_all_kinds_are_decoded_without_the_crate() {
    let mut decoder = Decoder::new();
    for content in contents() {
        let packed = pack(&content, 1);
        let block = block_of(&packed);
        for level in [1, 9] {
            let result = decoder.decode(&bits(&block), level, MOST);
            assert!(result.unwrap() == content, "{}", content.len());
        }
        assert!(decoder.decode(&bits(&block), 1, content.len()).is_some());
        assert!(
            decoder
                .decode(&bits(&block), 1, content.len() - 1)
                .is_none()
        );
    }
}

#[test]
fn blocks_are_as_large_as_their_level_allows() {
    let mut random = Random(12);
    let mut decoder = Decoder::new();
    for level in [1, 4, 9] {
        let content: Vec<u8> = (0..LEVEL_UNIT * usize::from(level) - 50)
            .map(|_| random.byte() & 0x1f)
            .collect();
        let packed = pack(&content, level.into());
        let block = bits(&block_of(&packed));
        assert!(
            decoder.decode(&block, level, MOST).unwrap() == content,
            "{level}"
        );
        if level > 1 {
            assert!(decoder.decode(&block, level - 1, MOST).is_none());
        }
    }
}

#[test]
fn what_is_not_plainly_one_block_is_left_alone() {
    let mut decoder = Decoder::new();
    let mut decode = |block: &str| decoder.decode(&bits(block), 1, MOST);
    let whole = block_of(&pack(b"some content", 1));
    let [map, counts, selectors, tables] = layout(&whole);
    assert_eq!(decode(&whole).unwrap(), b"some content");
    assert_eq!(
        decode(&with_inserted(&whole, "0")).unwrap(),
        b"some content"
    );

    let replaced =
        |place: usize, with: &str| [&whole[..place], with, &whole[place + with.len()..]].concat();
    let origin = map - 24;
    for (what, block) in [
        ("longer", whole.clone() + "0"),
        ("shorter", whole[..whole.len() - 1].to_owned()),
        ("another magic", replaced(47, "0")),
        (
            "another CRC",
            replaced(
                48,
                if whole[48..].starts_with('0') {
                    "1"
                } else {
                    "0"
                },
            ),
        ),
        ("randomised", replaced(origin - 1, "1")),
        (
            "an origin that is no row",
            replaced(origin, &number(12_u32, 24)),
        ),
        ("no bytes", replaced(map, &number(0_u32, 16))),
        ("one code", replaced(counts, "001")),
        ("seven codes", replaced(counts, "111")),
        ("no selectors", replaced(counts + 3, &number(0_u32, 15))),
        ("a selector without a code", replaced(selectors, "111111")),
        ("a code of no bits", replaced(tables, "000000")),
        ("a code of 21 bits", replaced(tables, "101010")),
        ("nothing behind the magic", whole[..48].to_owned()),
        ("nothing", String::new()),
    ] {
        assert_eq!(decode(&block), None, "{what}");
    }
}

#[test]
fn a_block_without_bytes_is_left_alone() {
    // Two codes of a bit each for a digit and the end; then one digit, and the end.
    let block = number(BLOCK_MAGIC, 48)
        + &number(crc(&[0]), 32)
        + &number(0_u32, 1 + 24 + 16)
        + &["010", "000000000000001", "0", "0000100", "0000100", "01"].concat();
    assert_eq!(Decoder::new().decode(&bits(&block), 1, MOST), None);
    assert!(block::decode(&bits(&block), 1).is_err());
}

#[test]
fn four_equal_bytes_without_a_count_are_left_alone() {
    let content = [&b"ab".repeat(100)[..], b"\x07\x07\x07\x07"].concat();
    assert_eq!(expand(&content, MOST), None);
    let counted = [&content[..], b"\x02\x07"].concat();
    let expanded = [&content[..], b"\x07\x07\x07"].concat();
    assert_eq!(expand(&counted, MOST), Some(expanded));
}

#[test]
fn whatever_the_bits_the_outcome_is_that_of_the_crate_or_none() {
    let mut random = Random(13);
    let mut decoder = Decoder::new();
    let samples: Vec<Vec<u8>> = (0..8)
        .map(|n| to_bytes(&block_of(&pack(&random.text(n * n * 20 + 1), 1))))
        .collect();
    let mut good = 0;
    for sample in samples.iter().cycle().take(4000) {
        let mut data = sample.clone();
        // Behind the magic, and mostly behind the CRC.
        let kept = data[..6 + 4 * random.below(2)].to_vec();
        for _ in 0..random.below(3) {
            mutate(&mut data, &mut random);
            data.resize(data.len().max(kept.len()), 0);
        }
        data[..kept.len()].copy_from_slice(&kept);
        for spare in 0..8 {
            let block = Bits::copy(&data, 0..8 * data.len() - spare);
            if let Some(content) = decoder.decode(&block, 1, MOST) {
                assert!(block::decode(&block, 1).unwrap() == content);
                good += 1;
            }
        }
    }
    assert!((1000..4000).contains(&good), "{good}");
}
