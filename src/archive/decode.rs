//! Decompression of whole streams: every member, stream or frame to the end, checks included. An early end is an error,
//! and so is what follows the end and is not padding. Here as elsewhere the programs' rules hold: zeros may follow gzip
//! members, and in fours xz streams; nothing may follow zstd frames and `.lzma`; behind bzip2 anything is ignored. Only
//! garbage behind gzip, of which the program warns, is refused.
//!
//! Tried for gzip and not kept (723 MB of GCC's sources with their CRC take zlib-rs 0.60 s on one core): an inflate of our
//! own in safe code, after libdeflate's (0.67 s); ISA-L (0.52 s, and an assembler to build it); libdeflate's CRC-32, which
//! takes half of the time of zlib-rs's: no difference in the end.

use crate::{
    archive::{bzip2::ParallelBzip2, format::Compression, limits::Limits},
    stream::copy_out,
};
use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::GzDecoder;
use liblzma::{
    bufread::XzDecoder,
    stream::{Error as LzmaError, MtStreamBuilder, Stream},
};
use std::{
    io::{self, BufRead, ErrorKind, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Memory that liblzma may use to decode xz blocks in parallel, in bytes. Beyond it, it goes on with one thread. A
/// block of the default settings takes about 35 MB; more would not help two cores.
const XZ_PARALLEL_MEMORY: u64 = 80 << 20;

/// Memory that liblzma may use beside its dictionary, in bytes.
const XZ_BUFFERS: u64 = 32 << 20;

/// What zstd says of a frame with a window that is too large.
const ZSTD_WINDOW_TOO_LARGE: &str = "Frame requires too much memory for decoding";

/// Decodes with up to `threads` threads where the format allows it, and no more than the limits allow.
pub(crate) fn parallel(
    compression: Compression,
    source: impl BufRead + Send + 'static,
    threads: u32,
    limits: &Limits,
) -> io::Result<Box<dyn Read + Send>> {
    let packed = Arc::new(AtomicU64::new(0));
    let source = Counted {
        source,
        count: Arc::clone(&packed),
    };
    let decoded = match compression {
        Compression::Bzip2 => Box::new(ParallelBzip2::start(source, threads)?),
        _ => decoder(compression, source, threads, limits)?,
    };
    Ok(Box::new(Bounded {
        decoded,
        packed,
        expanded: 0,
        limits: limits.clone(),
    }))
}

/// Decodes on the thread that reads, without a limit on how much.
pub(crate) fn serial<'a>(
    compression: Compression,
    source: impl BufRead + Send + 'a,
    limits: &Limits,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    decoder(compression, source, 1, limits)
}

/// Returns whether decoding failed because it would take a window that is too large.
pub(crate) fn is_window_too_large(err: &io::Error) -> bool {
    let cause = err.get_ref();
    cause
        .and_then(|cause| cause.downcast_ref())
        .is_some_and(|err| matches!(err, LzmaError::MemLimit))
        || cause.is_some_and(|cause| cause.to_string() == ZSTD_WINDOW_TOO_LARGE)
}

fn decoder<'a>(
    compression: Compression,
    source: impl BufRead + Send + 'a,
    threads: u32,
    limits: &Limits,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let lzma_memory = limits.window.saturating_add(XZ_BUFFERS);
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(Members::new(source, Follower::Gzip, |source| {
            Ok(GzDecoder::new(source))
        })?),
        Compression::Xz => Box::new(Members::new(source, Follower::Xz, move |source| {
            let stream = MtStreamBuilder::new()
                .threads(threads)
                .memlimit_threading(XZ_PARALLEL_MEMORY)
                .memlimit_stop(lzma_memory)
                .decoder()?;
            Ok(XzDecoder::new_stream(source, stream))
        })?),
        Compression::Lzma => Box::new(Members::new(source, Follower::Nothing, move |source| {
            let stream = Stream::new_lzma_decoder(lzma_memory)?;
            Ok(XzDecoder::new_stream(source, stream))
        })?),
        Compression::Bzip2 => Box::new(MultiBzDecoder::new(source)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            // A window of another size counts as the next larger power of two.
            decoder.window_log_max(limits.window.checked_ilog2().unwrap_or(0).clamp(10, 31))?;
            Box::new(decoder)
        }
    })
}

/// Counts what is taken out of it.
struct Counted<R> {
    source: R,
    count: Arc<AtomicU64>,
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.source.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.count.fetch_add(amount as u64, Ordering::Relaxed);
        self.source.consume(amount);
    }
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        copy_out(self, buf)
    }
}

/// Stops decoding when more comes out than the limits allow for what went in.
struct Bounded {
    decoded: Box<dyn Read + Send>,
    packed: Arc<AtomicU64>,
    expanded: u64,
    limits: Limits,
}

impl Read for Bounded {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let length = self.decoded.read(buf).map_err(|err| {
            if is_window_too_large(&err) {
                io::Error::other(self.limits.window_error())
            } else {
                err
            }
        })?;
        self.expanded += length as u64;
        self.limits
            .check_expanded(self.expanded, self.packed.load(Ordering::Relaxed))
            .map_err(io::Error::other)?;
        Ok(length)
    }
}

/// A decoder of one member of a format whose files may hold several.
trait Member: Read {
    type Source: BufRead;

    fn into_source(self) -> Self::Source;
}

impl<R: BufRead> Member for GzDecoder<R> {
    type Source = R;

    fn into_source(self) -> R {
        self.into_inner()
    }
}

impl<R: BufRead> Member for XzDecoder<R> {
    type Source = R;

    fn into_source(self) -> R {
        self.into_inner()
    }
}

/// What may follow a member.
#[derive(Clone, Copy)]
enum Follower {
    Gzip,
    Xz,
    Nothing,
}

impl Follower {
    /// Returns the first byte of the next member.
    fn magic(self) -> Option<u8> {
        match self {
            Self::Gzip => Some(0x1f),
            Self::Xz => Some(0xfd),
            Self::Nothing => None,
        }
    }

    /// Returns whether so many zero bytes may be between and behind members.
    fn allows_padding(self, zeros: usize) -> bool {
        match self {
            Self::Gzip => true,
            Self::Xz => zeros.is_multiple_of(4),
            Self::Nothing => zeros == 0,
        }
    }
}

/// Decodes one member after the other.
struct Members<M, B> {
    member: Option<M>,
    begin: B,
    follower: Follower,
}

impl<M: Member, B: Fn(M::Source) -> io::Result<M>> Members<M, B> {
    fn new(source: M::Source, follower: Follower, begin: B) -> io::Result<Self> {
        Ok(Self {
            member: Some(begin(source)?),
            begin,
            follower,
        })
    }
}

impl<M: Member, B: Fn(M::Source) -> io::Result<M>> Read for Members<M, B> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let length = member.read(buf)?;
            if length > 0 || buf.is_empty() {
                return Ok(length);
            }
            if let Some(mut source) = self.member.take().map(M::into_source)
                && another_follows(&mut source, self.follower)?
            {
                self.member = Some((self.begin)(source)?);
            }
        }
        Ok(0)
    }
}

/// Skips padding and returns whether there is another member behind it.
fn another_follows(source: &mut impl BufRead, follower: Follower) -> io::Result<bool> {
    let mut padding = 0;
    loop {
        let next = source.fill_buf()?;
        let zeros = next.iter().take_while(|&&byte| byte == 0).count();
        let behind = next.get(zeros).copied();
        let at_end = next.is_empty();
        source.consume(zeros);
        padding += zeros;
        if (at_end || behind.is_some()) && !follower.allows_padding(padding) {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "the padding behind the compressed data has an odd length",
            ));
        }
        match behind {
            Some(byte) if Some(byte) == follower.magic() => return Ok(true),
            Some(_) => {
                return Err(io::Error::new(
                    ErrorKind::InvalidData,
                    "something else follows the compressed data",
                ));
            }
            None if at_end => return Ok(false),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Compression, is_window_too_large, parallel, serial};
    use crate::{archive::limits::Limits, error::Error};
    use std::io::{self, BufReader, Read, Write};

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn bzip2(content: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(content: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn lzma(content: &[u8]) -> Vec<u8> {
        let options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
        let stream = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(content: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    type Pack = fn(&[u8]) -> Vec<u8>;

    const ALL: [(Compression, Pack); 5] = [
        (Compression::Gzip, gzip),
        (Compression::Bzip2, bzip2),
        (Compression::Xz, xz),
        (Compression::Lzma, lzma),
        (Compression::Zstd, zstd),
    ];

    fn decode(compression: Compression, data: &[u8]) -> io::Result<String> {
        let mut text = String::new();
        let source = BufReader::with_capacity(5, data);
        serial(compression, source, &Limits::default())?.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Decodes as for extraction, with threads.
    fn decode_bounded(compression: Compression, data: &[u8], limits: &Limits) -> io::Result<u64> {
        let source = BufReader::new(io::Cursor::new(data.to_vec()));
        let mut decoded = parallel(compression, source, 2, limits)?;
        io::copy(&mut decoded, &mut io::sink())
    }

    #[test]
    fn all_members_are_decoded_with_padding_between_and_behind() {
        for (compression, pack) in [(Compression::Gzip, gzip as Pack), (Compression::Xz, xz)] {
            let padded = [&pack(b"one ")[..], &[0; 8], &pack(b"two"), &[0; 4]].concat();
            assert_eq!(decode(compression, &padded).unwrap(), "one two");
        }
        for (compression, pack) in [
            (Compression::Bzip2, bzip2 as Pack),
            (Compression::Zstd, zstd),
        ] {
            let both = [pack(b"one "), pack(b"two")].concat();
            assert_eq!(decode(compression, &both).unwrap(), "one two");
        }
        let skippable = b"\x53\x2a\x4d\x18\x03\0\0\0abc";
        let frames = [
            &skippable[..],
            &zstd(b"one "),
            skippable,
            &zstd(b"two"),
            skippable,
        ];
        assert_eq!(
            decode(Compression::Zstd, &frames.concat()).unwrap(),
            "one two"
        );
    }

    #[test]
    fn all_fields_of_a_gzip_header_are_read_over() {
        let plain = gzip(b"content");
        for (flags, fields) in [
            (1, &b""[..]),
            (4, b"\x03\0abc"),
            (8, b"name\0"),
            (16, b"a comment\0"),
            (4 | 8 | 16, b"\0\0name\0comment\0"),
        ] {
            let head = [b"\x1f\x8b\x08", &[flags][..], &plain[4..10], fields].concat();
            let archive = [&head[..], &plain[10..]].concat();
            assert_eq!(
                decode(Compression::Gzip, &archive).unwrap(),
                "content",
                "{flags}"
            );
            let mut crc = flate2::Crc::new();
            let mut head = head;
            head[3] |= 2;
            crc.update(&head);
            for (flipped, right) in [(0, true), (1, false)] {
                let mut sum = crc.sum().to_le_bytes();
                sum[0] ^= flipped;
                let archive = [&head[..], &sum[..2], &plain[10..]].concat();
                assert_eq!(
                    decode(Compression::Gzip, &archive).is_ok(),
                    right,
                    "{flags}"
                );
            }
        }
        for reserved in [32, 64, 128] {
            let mut archive = plain.clone();
            archive[3] = reserved;
            assert!(decode(Compression::Gzip, &archive).is_err(), "{reserved}");
        }
    }

    #[test]
    fn garbage_behind_the_end_is_an_error_but_for_bzip2() {
        for (compression, pack) in ALL {
            for garbage in [&b"garbage"[..], b"\0\0\0\0X", b"\x1f", b"\xfd7"] {
                let data = [&pack(b"one"), garbage].concat();
                let decoded = decode_bounded(compression, &data, &Limits::default());
                let ignored = compression == Compression::Bzip2;
                assert_eq!(decoded.is_ok(), ignored, "{compression:?} {garbage:?}");
            }
        }
        for (compression, zeros, allowed) in [
            (Compression::Gzip, 3, true),
            (Compression::Xz, 3, false),
            (Compression::Xz, 8, true),
            (Compression::Zstd, 4, false),
            (Compression::Lzma, 4, false),
        ] {
            let pack = ALL
                .iter()
                .find(|(other, _)| *other == compression)
                .unwrap()
                .1;
            let data = [&pack(b"one")[..], &vec![0; zeros]].concat();
            assert_eq!(
                decode(compression, &data).is_ok(),
                allowed,
                "{compression:?}"
            );
        }
    }

    #[test]
    fn windows_that_take_too_much_memory_are_refused() {
        use liblzma::stream::{Check, Filters, LzmaOptions, Stream};
        let window = |log: u32| Limits {
            window: 1 << log,
            ..Limits::default()
        };
        for log in [22, 27, 28] {
            let mut options = LzmaOptions::new_preset(0).unwrap();
            options.dict_size(1 << log);
            let filters = {
                let mut filters = Filters::new();
                filters.lzma2(&options);
                filters
            };
            let xz = Stream::new_stream_encoder(&filters, Check::Crc32).unwrap();
            let mut xz = liblzma::write::XzEncoder::new_stream(Vec::new(), xz);
            xz.write_all(b"small").unwrap();
            let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
            zstd.window_log(log).unwrap();
            zstd.write_all(b"small").unwrap();
            for (compression, data) in [
                (Compression::Xz, xz.finish().unwrap()),
                (Compression::Zstd, zstd.finish().unwrap()),
            ] {
                for limit in [22, 27, 28] {
                    let decoded = decode_bounded(compression, &data, &window(limit));
                    // liblzma has some room beside the dictionary.
                    let small = compression == Compression::Xz && log == 22;
                    assert_eq!(
                        decoded.is_ok(),
                        log <= limit || small,
                        "{compression:?} {log}"
                    );
                    let Err(err) = decoded else { continue };
                    let hint = err.downcast::<Error>().unwrap().hint().unwrap();
                    assert!(hint.contains("FETCH_CONTENT_MAX_WINDOW"), "{hint}");
                }
                if log == 28 {
                    let err = decode(compression, &data).unwrap_err();
                    assert!(is_window_too_large(&err), "{err}");
                }
            }
        }
    }

    #[test]
    fn a_bomb_is_stopped_after_a_bounded_amount() {
        let limits = Limits {
            expanded_size: 100_000,
            expansion: 3,
            ..Limits::default()
        };
        for (compression, pack) in ALL {
            assert_eq!(
                decode_bounded(compression, &pack(&vec![0; 100_000]), &limits).unwrap(),
                100_000
            );
            let err = decode_bounded(compression, &pack(&vec![0; 1_000_000]), &limits).unwrap_err();
            let hint = err.downcast::<Error>().unwrap().hint().unwrap();
            assert!(hint.contains("FETCH_CONTENT_MAX_EXPANDED_SIZE"), "{hint}");
        }
        let noise: Vec<u8> = (0..400_000_u32)
            .map(|n| n.wrapping_mul(0x9E37_79B9).to_be_bytes()[0])
            .collect();
        assert_eq!(
            decode_bounded(Compression::None, &noise, &limits).unwrap(),
            400_000
        );
    }

    #[test]
    fn every_truncation_is_an_error_but_at_the_end_of_a_member() {
        for (compression, pack) in ALL {
            let first = pack(b"some content");
            let both = match compression {
                Compression::Lzma => first.clone(),
                _ => [&first[..], &pack(b"more")].concat(),
            };
            for length in (1..both.len()).filter(|length| *length != first.len()) {
                let decoded = decode(compression, &both[..length]);
                assert!(decoded.is_err(), "{compression:?} cut to {length} bytes");
            }
        }
        let frame = b"\x53\x2a\x4d\x18\x03\0\0\0abc";
        for length in 1..frame.len() {
            let data = [&zstd(b"x"), &frame[..length]].concat();
            assert!(
                decode(Compression::Zstd, &data).is_err(),
                "skippable frame cut to {length}"
            );
        }
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed_where_there_is_a_checksum() {
        for (compression, pack) in ALL {
            if compression == Compression::Lzma {
                continue;
            }
            let content = "some content that repeats, some content that repeats";
            let data = pack(content.as_bytes());
            for (byte, bit) in (0..data.len()).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
                let mut damaged = data.clone();
                damaged[byte] ^= 1 << bit;
                if let Ok(decoded) = decode(compression, &damaged) {
                    // Some fields of headers and unused bits mean nothing.
                    assert_eq!(decoded, content, "{compression:?} byte {byte} bit {bit}");
                }
            }
        }
    }
}
