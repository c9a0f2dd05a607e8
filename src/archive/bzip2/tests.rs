//! Whole streams through [`ParallelBzip2`], against the `bzip2` crate decoding serially.

mod decoder;

use super::{
    ParallelBzip2,
    block::{MAX_AHEAD, level_of},
    scan::{BLOCK_MAGIC, END_MAGIC, MAX_PIECE},
};
use bzip2::{Compression, bufread::BzDecoder, write::BzEncoder};
use std::{
    fmt,
    io::{self, ErrorKind, Read, Write},
    panic,
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// Random numbers that are the same each time (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 1).unwrap() % limit
    }

    fn byte(&mut self) -> u8 {
        self.below(256).to_le_bytes()[0]
    }

    /// Words of a small vocabulary, with runs of equal bytes.
    fn text(&mut self, length: usize) -> Vec<u8> {
        let mut text = Vec::new();
        while text.len() < length {
            let word = &b"aaaaabracadabra simsalabim"[self.below(20)..][..=self.below(5)];
            text.extend(word.repeat(1 + self.below(3)));
        }
        text.truncate(length);
        text
    }
}

fn pack(content: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = BzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Returns a number as zeros and ones.
fn number(value: impl Into<u64>, length: usize) -> String {
    format!("{:0length$b}", value.into())
}

fn to_bits(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| number(byte, 8)).collect()
}

fn to_bytes(bits: &str) -> Vec<u8> {
    let value = |byte| u8::from_str_radix(&format!("{byte:0<8}"), 2).unwrap();
    let bits: Vec<char> = bits.chars().collect();
    bits.chunks(8)
        .map(|byte| value(byte.iter().collect::<String>()))
        .collect()
}

fn to_number(bits: &str) -> usize {
    usize::from_str_radix(bits, 2).unwrap()
}

/// Returns the only block of a packed content, as zeros and ones.
fn block_of(packed: &[u8]) -> String {
    let stream = to_bits(packed);
    let end = stream.rfind(&number(END_MAGIC, 48)).unwrap();
    stream[32..end].to_owned()
}

fn block(content: &[u8]) -> String {
    block_of(&pack(content, 1))
}

/// Makes a stream of blocks.
fn stream(blocks: &[String]) -> Vec<u8> {
    let crc = |block: &String| u32::from_str_radix(&block[48..80], 2).unwrap();
    let combined = blocks
        .iter()
        .fold(0u32, |combined, block| combined.rotate_left(1) ^ crc(block));
    let header = to_bits(b"BZh1");
    to_bytes(&(header + &blocks.concat() + &number(END_MAGIC, 48) + &number(combined, 32)))
}

/// Returns where in a block begin: the map of used bytes, the counts of tables and of selectors, the selectors, and
/// the tables.
fn layout(block: &str) -> [usize; 4] {
    let map = 48 + 32 + 1 + 24;
    let counts = map + 16 + 16 * block[map..map + 16].matches('1').count();
    let selectors = counts + 3 + 15;
    let mut tables = selectors;
    for _ in 0..to_number(&block[counts + 3..selectors]) {
        tables += block[tables..].find('0').unwrap() + 1;
    }
    [map, counts, selectors, tables]
}

/// Rewrites a block to the same content with `inserted` inside, which must not have more than five ones in a row.
///
/// A block may have more selectors than it uses. They are numbers below the number of code tables (so it gets six),
/// each as that many ones and a zero.
fn with_inserted(block: &str, inserted: &str) -> String {
    let [map, counts, selectors, tables] = layout(block);
    let symbols = block[map + 16..counts].matches('1').count() + 2;
    let table_count = to_number(&block[counts..counts + 3]);
    let mut symbol_bits = tables;
    for _ in 0..table_count {
        symbol_bits += 5;
        for _ in 0..symbols {
            while &block[symbol_bits..=symbol_bits] == "1" {
                symbol_bits += 2;
            }
            symbol_bits += 1;
        }
    }
    let extra = format!("{inserted}0");
    let selector_count = to_number(&block[counts + 3..selectors]) + extra.matches('0').count();
    let more_tables = format!("00101{:0symbols$}", 0).repeat(6 - table_count);
    [
        &block[..counts],
        &format!("110{selector_count:015b}"),
        &block[selectors..tables],
        &extra,
        &block[tables..symbol_bits],
        &more_tables,
        &block[symbol_bits..],
    ]
    .concat()
}

fn decode(data: &[u8], workers: u32) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let mut reader = ParallelBzip2::start(io::Cursor::new(data.to_vec()), workers)?;
    reader.read_to_end(&mut content)?;
    Ok(content)
}

fn error_of(data: &[u8]) -> ErrorKind {
    decode(data, 2).unwrap_err().kind()
}

/// Makes what looks like the end of a stream and the beginning of another, at each phase, as a footer is padded.
fn false_streams(level: u8) -> String {
    let crc = "0".repeat(32);
    let stream = |pad| {
        number(END_MAGIC, 48) + &crc + &"0".repeat(pad) + &to_bits(&[b'B', b'Z', b'h', level])
    };
    (0..8)
        .map(|pad| stream(pad) + &number(BLOCK_MAGIC, 48))
        .collect()
}

/// Decodes as bzip2(1) does. The crate's `MultiBzDecoder` differs: to it, garbage behind a stream is an error.
fn decode_serially(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let mut rest = data;
    loop {
        let mut decoder = BzDecoder::new(rest);
        decoder.read_to_end(&mut content)?;
        rest = decoder.into_inner();
        let cut_off = !rest.is_empty() && b"BZh".starts_with(rest);
        if level_of(rest).is_none() && !cut_off {
            return Ok(content);
        }
    }
}

/// Streams of several kinds, all small.
fn samples() -> Vec<Vec<u8>> {
    let mut random = Random(7);
    let blocks: Vec<String> = (0..6).map(|n| block(&random.text(n * n * 9 + 1))).collect();
    let several = stream(&blocks);
    let false_magics = [BLOCK_MAGIC, END_MAGIC]
        .map(|magic| number(magic, 48))
        .concat();
    let inserted = blocks
        .iter()
        .map(|block| with_inserted(block, &false_magics));
    let with_false_magics = stream(&inserted.collect::<Vec<_>>());
    let empty = pack(b"", 3);
    vec![
        [&several[..], &empty, &pack(b"x", 2)].concat(),
        with_false_magics.clone(),
        [&empty[..], &with_false_magics, &several, b"garbage"].concat(),
    ]
}

#[test]
fn all_levels_are_decoded_with_any_number_of_workers() {
    let content = Random(1).text(450_000);
    for level in 1..=9 {
        let packed = pack(&content, level);
        for workers in [0, 1, 2, 5] {
            assert!(
                decode(&packed, workers).unwrap() == content,
                "{level} {workers}"
            );
        }
    }
}

#[test]
fn incompressible_content_and_long_runs_are_decoded() {
    let mut random = Random(2);
    let noise: Vec<u8> = (0..250_000).map(|_| random.byte()).collect();
    assert!(decode(&pack(&noise, 1), 2).unwrap() == noise);
    let run = vec![b'x'; 12_000_000];
    assert!(decode(&pack(&run, 1), 2).unwrap() == run);
}

#[test]
fn blocks_that_unpack_to_very_much_are_decoded_between_others() {
    let mut random = Random(3);
    let content = [
        random.text(2_000_000),
        vec![0; 6 * MAX_AHEAD],
        random.text(2_000_000),
    ]
    .concat();
    let packed = [pack(&content, 9), pack(&content, 1)].concat();
    assert!(decode(&packed, 3).unwrap() == content.repeat(2));
    // Long runs at that, but not so long.
    let content = vec![0; MAX_AHEAD - 1];
    assert!(decode(&pack(&content, 9), 3).unwrap() == content);
}

#[test]
fn streams_and_empty_streams_follow_each_other() {
    let empty = pack(b"", 9);
    let data = [
        &empty[..],
        &pack(b"one ", 1),
        &empty,
        &empty,
        &pack(b"two", 9),
        &empty,
    ]
    .concat();
    assert_eq!(decode(&data, 2).unwrap(), b"one two");
    assert_eq!(decode(&empty, 2).unwrap(), b"");
}

#[test]
fn every_truncation_is_an_early_end() {
    for data in samples() {
        let mut ends = vec![data.len()];
        let mut rest = &data[..];
        while level_of(rest).is_some() {
            let mut decoder = BzDecoder::new(rest);
            decoder.read_to_end(&mut Vec::new()).unwrap();
            rest = decoder.into_inner();
            ends.push(data.len() - rest.len());
        }
        let garbage = data.len() - rest.len()..;
        for length in 0..data.len() {
            if !ends.contains(&length) && !garbage.contains(&length) {
                assert_eq!(
                    error_of(&data[..length]),
                    ErrorKind::UnexpectedEof,
                    "{length}"
                );
            } else {
                assert!(decode(&data[..length], 2).is_ok());
            }
        }
    }
}

#[test]
fn what_follows_the_last_stream_is_ignored_unless_it_begins_like_one() {
    let packed = pack(b"content", 1);
    let magics = [BLOCK_MAGIC, END_MAGIC]
        .map(|magic| number(magic, 48))
        .concat();
    let magics = to_bytes(&("001".to_owned() + &magics));
    let long = [
        vec![0x55; 2 * MAX_PIECE],
        magics.clone(),
        vec![0; MAX_PIECE],
    ]
    .concat();
    let zeros = &[0; 1000];
    for garbage in [
        &b"\0"[..],
        b"A",
        b"Bz",
        b"BZx",
        b"BZh0",
        b"BZhA",
        zeros,
        &magics,
        &long,
    ] {
        let data = [&packed[..], garbage].concat();
        assert_eq!(decode(&data, 2).unwrap(), b"content", "{}", garbage.len());
    }
    for (begun, kind) in [
        (&b"B"[..], ErrorKind::UnexpectedEof),
        (b"BZ", ErrorKind::UnexpectedEof),
        (b"BZh", ErrorKind::UnexpectedEof),
        (b"BZh9", ErrorKind::UnexpectedEof),
        (b"BZh9\x31\x41", ErrorKind::UnexpectedEof),
        (b"BZh9\x31\x42", ErrorKind::InvalidData),
        (b"BZh1AY&SY", ErrorKind::InvalidData),
        (b"BZh1AY&SY and more", ErrorKind::InvalidData),
        (b"BZh9 and more", ErrorKind::InvalidData),
    ] {
        assert_eq!(error_of(&[&packed[..], begun].concat()), kind, "{begun:?}");
        assert_eq!(error_of(begun), kind, "{begun:?}");
    }
}

#[test]
fn what_does_not_begin_with_a_stream_is_an_error() {
    for data in [
        &b"A"[..],
        b"BZh0",
        b"\0\0\0\0",
        b"1AY&SY1AY&SY",
        &vec![b'x'; 100_000],
    ] {
        assert_eq!(error_of(data), ErrorKind::InvalidData, "{}", data.len());
    }
    assert_eq!(error_of(b""), ErrorKind::UnexpectedEof);
}

#[test]
fn wrong_checksums_and_levels_are_found() {
    let blocks = [block(b"one"), block(b"two")];
    let good = stream(&blocks);
    assert_eq!(decode(&good, 2).unwrap(), b"onetwo");

    let mut combined = good.clone();
    let last = combined.len() - 2;
    combined[last] ^= 1;
    assert_eq!(error_of(&combined), ErrorKind::InvalidData);

    let mut of_block = good;
    of_block[10] ^= 1;
    assert_eq!(error_of(&of_block), ErrorKind::InvalidData);

    let swapped = to_bits(&stream(&[blocks[1].clone(), blocks[0].clone()]));
    let footer = 32 + blocks.concat().len() + 48;
    let swapped = to_bits(b"BZh1") + &blocks.concat() + &number(END_MAGIC, 48) + &swapped[footer..];
    assert_eq!(error_of(&to_bytes(&swapped)), ErrorKind::InvalidData);

    let mut level = pack(&Random(3).text(150_000), 2);
    let too_large = block_of(&level);
    level[3] = b'1';
    assert_eq!(error_of(&level), ErrorKind::InvalidData);
    let misleading = with_inserted(&blocks[0], &false_streams(b'9'));
    let level = stream(&[misleading, too_large]);
    assert_eq!(error_of(&level), ErrorKind::InvalidData);
}

#[test]
fn false_magics_inside_a_block_are_part_of_it() {
    let contents = [b"first".to_vec(), Random(4).text(5000), b"last".to_vec()];
    let [a, b, c] = contents.clone().map(|content| block(&content));
    let content = contents.concat();
    let (begin, end) = (number(BLOCK_MAGIC, 48), number(END_MAGIC, 48));
    let cases = [
        begin.clone(),
        end.clone(),
        begin.repeat(300),
        end.repeat(300),
        false_streams(b'2'),
    ];
    for inserted in cases {
        for shift in ["", "0", "010"] {
            let inserted = shift.to_owned() + &inserted;
            let [b, c] = [&b, &c].map(|block| with_inserted(block, &inserted));
            let data = stream(&[a.clone(), b, c]);
            assert_eq!(decode_serially(&data).unwrap(), content);
            for workers in [1, 3] {
                let twice = [&data[..], &data].concat();
                assert!(decode(&twice, workers).unwrap() == content.repeat(2));
            }
        }
    }
}

#[test]
fn a_block_without_an_end_is_refused() {
    let begin = number(BLOCK_MAGIC, 48);
    let endless = [
        &to_bytes(&(to_bits(b"BZh9") + &begin))[..],
        &vec![0x55; 3 * MAX_PIECE],
    ]
    .concat();
    assert_eq!(error_of(&endless), ErrorKind::InvalidData);
    // Code lengths that go up and down until the end are right up to there.
    let whole = block(b"some content");
    let [.., tables] = layout(&whole);
    let begin = to_bits(b"BZh9") + &whole[..tables + 5] + &"1011".repeat(4);
    let mut wandering = to_bytes(&begin)[..begin.len() / 8].to_vec();
    wandering.resize(2 * MAX_PIECE, wandering[wandering.len() - 1]);
    let err = decode(&wandering, 2).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidData);
    assert!(err.to_string().contains("without an end"), "{err}");
}

/// Changes data in one place.
fn mutate(data: &mut Vec<u8>, random: &mut Random) {
    let place = random.below(data.len());
    let other = random.below(data.len());
    match random.below(7) {
        0 | 1 => data[place] ^= 1 << random.below(8),
        2 => data[place] = random.byte(),
        3 => drop(data.remove(place)),
        4 => data.insert(place, random.byte()),
        5 => data.truncate(place),
        _ => data.extend_from_within(place.min(other)..place.max(other)),
    }
}

#[test]
fn whatever_the_data_the_outcome_is_that_of_decoding_serially() {
    let mut random = Random(5);
    let mut good = 0;
    for (index, sample) in samples().iter().cycle().take(2000).enumerate() {
        let mut data = sample.clone();
        for _ in 0..=random.below(2) {
            mutate(&mut data, &mut random);
            // There must be something left to change.
            data.resize(data.len().max(1), 0);
        }
        match (
            decode(&data, 1 + u32::try_from(index).unwrap() % 3),
            decode_serially(&data),
        ) {
            (Ok(content), Ok(expected)) => {
                assert_eq!(content, expected);
                good += 1;
            }
            (Err(err), Err(_)) => {
                let kinds = [ErrorKind::InvalidData, ErrorKind::UnexpectedEof];
                assert!(kinds.contains(&err.kind()), "{err}");
            }
            (outcome, expected) => panic!("{index}: {outcome:?}, not {expected:?}"),
        }
    }
    assert!((100..1900).contains(&good), "{good}");
}

/// Gives what it is sent, and fails when that ends.
struct Sent {
    chunks: Receiver<Vec<u8>>,
    _alive: Arc<()>,
}

impl Read for Sent {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.chunks.recv() {
            Ok(chunk) if chunk.is_empty() => Err(ErrorKind::Interrupted.into()),
            Ok(chunk) => chunk.as_slice().read(buf),
            Err(_) => Err(io::Error::new(ErrorKind::ConnectionReset, Reset)),
        }
    }
}

#[derive(Debug, PartialEq)]
struct Reset;

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reset")
    }
}

impl std::error::Error for Reset {}

#[test]
fn an_error_of_the_source_arrives_as_it_is_behind_whole_blocks() {
    let blocks: Vec<String> = (0..9).map(|n| block(&[b'0' + n; 3])).collect();
    let data = stream(&blocks);
    for (length, expected) in [(0, 0), (data.len() - 20, 24), (data.len(), 27)] {
        let (sender, chunks) = channel();
        let source = Sent {
            chunks,
            _alive: Arc::default(),
        };
        let mut reader = ParallelBzip2::start(source, 2).unwrap();
        for byte in &data[..length] {
            sender.send(vec![*byte]).unwrap();
            sender.send(Vec::new()).unwrap();
        }
        drop(sender);
        let mut content = Vec::new();
        let err = reader.read_to_end(&mut content).unwrap_err();
        assert_eq!(content.len(), expected);
        assert_eq!(err.kind(), ErrorKind::ConnectionReset);
        assert_eq!(err.downcast::<Reset>().unwrap(), Reset);
        assert!(reader.read(&mut [0]).is_err());
    }
}

#[test]
fn a_source_that_panics_is_an_error() {
    struct Panics;
    impl Read for Panics {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic::resume_unwind(Box::new("on purpose, without a message"))
        }
    }
    let mut reader = ParallelBzip2::start(Panics, 1).unwrap();
    assert!(reader.read(&mut [0]).is_err());
}

#[test]
fn dropping_the_reader_ends_the_threads() {
    let data = stream(&(0..50).map(|n| block(&[n; 100])).collect::<Vec<_>>());
    for (sent, read) in [(0, 0), (1, 0), (1, 150), (9, 0), (9, 40_000)] {
        let (sender, chunks) = channel();
        let alive = Arc::new(());
        let source = Sent {
            chunks,
            _alive: Arc::clone(&alive),
        };
        let mut reader = ParallelBzip2::start(source, 2).unwrap();
        for _ in 0..sent {
            sender.send(data.clone()).unwrap();
        }
        reader.read_exact(&mut vec![0; read]).unwrap();
        // Does not wait for the source, which is still blocked here.
        drop(reader);
        drop(sender);
        let begin = Instant::now();
        while Arc::strong_count(&alive) > 1 {
            assert!(begin.elapsed() < Duration::from_secs(20));
            thread::yield_now();
        }
    }
}
