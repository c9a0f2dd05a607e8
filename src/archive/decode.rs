//! Decompression of whole streams: every member, stream or frame to the end, checks included. An early end is an error,
//! and so is what follows the end and is not padding (behind bzip2 it is ignored, as by the program).

use crate::archive::{bzip2::ParallelBzip2, format::Compression};
use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::GzDecoder;
use liblzma::{bufread::XzDecoder, stream::MtStreamBuilder};
use std::io::{self, BufRead, ErrorKind, Read};

/// Memory that liblzma may use to decode xz blocks in parallel, in bytes. Beyond it, it goes on with one thread. A
/// block of the default settings takes about 35 MB; more would not help two cores.
const XZ_PARALLEL_MEMORY: u64 = 80 << 20;

/// Memory that liblzma may use at all, in bytes: enough for a dictionary of 128 MiB, twice that of `xz -9`.
const XZ_MEMORY: u64 = 160 << 20;

/// The largest zstd window, as a power of two: 128 MiB, which is also the limit of the `zstd` program.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Decodes with up to `threads` threads where the format allows it.
pub(crate) fn parallel(
    compression: Compression,
    source: impl BufRead + Send + 'static,
    threads: u32,
) -> io::Result<Box<dyn Read + Send>> {
    match compression {
        Compression::Bzip2 => Ok(Box::new(ParallelBzip2::start(source, threads)?)),
        _ => decoder(compression, source, threads),
    }
}

/// Decodes on the thread that reads.
pub(crate) fn serial<'a>(
    compression: Compression,
    source: impl BufRead + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    decoder(compression, source, 1)
}

fn decoder<'a>(
    compression: Compression,
    source: impl BufRead + Send + 'a,
    threads: u32,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(Members::<GzDecoder<_>>::new(source, threads)?),
        Compression::Xz => Box::new(Members::<XzDecoder<_>>::new(source, threads)?),
        Compression::Bzip2 => Box::new(MultiBzDecoder::new(source)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

/// A decoder of one member of a format whose files may hold several.
trait Member: Read + Sized {
    type Source: BufRead;

    fn begin(source: Self::Source, threads: u32) -> io::Result<Self>;

    fn into_source(self) -> Self::Source;

    /// First byte of a member.
    const MAGIC: u8;

    /// Zero bytes between and after members come in multiples of this.
    const PADDING: usize;
}

impl<R: BufRead> Member for GzDecoder<R> {
    type Source = R;
    const MAGIC: u8 = 0x1f;
    const PADDING: usize = 1;

    fn begin(source: R, _threads: u32) -> io::Result<Self> {
        Ok(Self::new(source))
    }

    fn into_source(self) -> R {
        self.into_inner()
    }
}

impl<R: BufRead> Member for XzDecoder<R> {
    type Source = R;
    const MAGIC: u8 = 0xfd;
    const PADDING: usize = 4;

    fn begin(source: R, threads: u32) -> io::Result<Self> {
        let stream = MtStreamBuilder::new()
            .threads(threads)
            .memlimit_threading(XZ_PARALLEL_MEMORY)
            .memlimit_stop(XZ_MEMORY)
            .decoder()?;
        Ok(Self::new_stream(source, stream))
    }

    fn into_source(self) -> R {
        self.into_inner()
    }
}

/// Decodes one member after the other.
struct Members<M: Member> {
    member: Option<M>,
    threads: u32,
}

impl<M: Member> Members<M> {
    fn new(source: M::Source, threads: u32) -> io::Result<Self> {
        Ok(Self {
            member: Some(M::begin(source, threads)?),
            threads,
        })
    }
}

impl<M: Member> Read for Members<M> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let length = member.read(buf)?;
            if length > 0 || buf.is_empty() {
                return Ok(length);
            }
            if let Some(mut source) = self.member.take().map(M::into_source)
                && another_follows::<M>(&mut source)?
            {
                self.member = Some(M::begin(source, self.threads)?);
            }
        }
        Ok(0)
    }
}

/// Skips padding and returns whether there is another member behind it.
fn another_follows<M: Member>(source: &mut M::Source) -> io::Result<bool> {
    let mut padding = 0;
    loop {
        let next = source.fill_buf()?;
        let zeros = next.iter().take_while(|&&byte| byte == 0).count();
        let behind = next.get(zeros).copied();
        let at_end = next.is_empty();
        source.consume(zeros);
        padding += zeros;
        if (at_end || behind.is_some()) && padding % M::PADDING != 0 {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "the padding behind the compressed data has an odd length",
            ));
        }
        match behind {
            Some(byte) if byte == M::MAGIC => return Ok(true),
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
    use super::{Compression, serial};
    use std::io::{Read, Write};

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(content: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(compression: Compression, data: &[u8]) -> std::io::Result<String> {
        let mut text = String::new();
        serial(compression, std::io::BufReader::with_capacity(5, data))?
            .read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn all_members_are_decoded_with_padding_between_and_behind() {
        for (compression, pack) in [
            (Compression::Gzip, gzip as fn(&[u8]) -> Vec<u8>),
            (Compression::Xz, xz),
        ] {
            let padded = [&pack(b"one ")[..], &[0; 8], &pack(b"two"), &[0; 4]].concat();
            assert_eq!(decode(compression, &padded).unwrap(), "one two");
        }
        let frames = [
            zstd::encode_all(&b"one "[..], 1).unwrap(),
            zstd::encode_all(&b"two"[..], 1).unwrap(),
        ]
        .concat();
        assert_eq!(decode(Compression::Zstd, &frames).unwrap(), "one two");
    }

    #[test]
    fn garbage_behind_the_end_is_an_error() {
        for (compression, mut data) in [
            (Compression::Gzip, gzip(b"one")),
            (Compression::Xz, xz(b"one")),
        ] {
            data.extend(b"garbage");
            assert!(decode(compression, &data).is_err(), "{compression:?}");
        }
        assert!(decode(Compression::Xz, &[&xz(b"one")[..], &[0; 3]].concat()).is_err());
    }

    #[test]
    fn a_dictionary_that_takes_too_much_memory_is_refused() {
        use liblzma::stream::{Check, Filters, LzmaOptions, Stream};
        for (dictionary, accepted) in [(64 << 20, true), (256 << 20, false)] {
            let mut options = LzmaOptions::new_preset(0).unwrap();
            options.dict_size(dictionary);
            let stream = Stream::new_stream_encoder(Filters::new().lzma2(&options), Check::Crc32);
            let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream.unwrap());
            encoder.write_all(b"small").unwrap();
            let decoded = decode(Compression::Xz, &encoder.finish().unwrap());
            assert_eq!(decoded.is_ok(), accepted, "{dictionary}: {decoded:?}");
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        let zstd = zstd::encode_all(&b"some content"[..], 1).unwrap();
        for (compression, data) in [
            (Compression::Gzip, gzip(b"some content")),
            (Compression::Xz, xz(b"some content")),
            (Compression::Zstd, zstd),
        ] {
            for length in 1..data.len() {
                assert!(
                    decode(compression, &data[..length]).is_err(),
                    "{compression:?} cut to {length} bytes"
                );
            }
        }
    }
}
