//! [`TarWriter`]: a tar under construction, the same bytes for the same members; and [`TarZst`], one that is compressed
//! into a file.

use super::member::Member;
use crate::{
    archive::tar::read_error,
    error::{Error, Result},
    fs::{self, Context},
};
use std::{
    fs::File,
    io::{BufRead, Read, Write},
    path::{Path, PathBuf},
};
use tar::EntryType;

/// The Python tool's level, and that of the `zstd` program.
const LEVEL: i32 = 3;

/// What the size of a header is, and what content is padded to.
const BLOCK: usize = 512;

/// What the size of an archive is a multiple of: POSIX's default, 20 blocks.
const RECORD: usize = 20 * BLOCK;

/// Size of one read of content, in bytes.
const READ: usize = 256 * 1024;

/// A `.tar.zst` file under construction.
pub(super) type TarZst = TarWriter<zstd::Encoder<'static, File>>;

/// A tar under construction.
pub(super) struct TarWriter<W> {
    out: W,
    /// What people call it.
    path: PathBuf,
    /// Where in a record the next byte goes.
    position: usize,
    buffer: Vec<u8>,
}

impl TarZst {
    /// Creates the file.
    ///
    /// `workers` threads compress. There is always one at least: with none zstd compresses in the caller's thread and
    /// cuts blocks differently, whereas the number of workers does not change a byte of the output.
    pub(super) fn create(path: &Path, workers: u32) -> Result<Self> {
        let file = fs::create_new(path)?;
        let encoder = || {
            let mut encoder = zstd::Encoder::new(file, LEVEL)?;
            encoder.multithread(workers.max(1))?;
            encoder.include_checksum(true)?;
            Ok::<_, std::io::Error>(encoder)
        };
        Ok(Self::new(encoder().context("write", path)?, path))
    }

    /// Ends the file.
    pub(super) fn finish(self) -> Result<()> {
        self.out.finish().context("write", &self.path)?;
        Ok(())
    }
}

impl<W: Write> TarWriter<W> {
    /// Begins a tar that is called `path`.
    pub(super) fn new(out: W, path: &Path) -> Self {
        Self {
            out,
            path: path.to_owned(),
            position: 0,
            buffer: vec![0; READ],
        }
    }

    /// Appends bytes of the tar as they are.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.position = (self.position + bytes.len()) % RECORD;
        self.out.write_all(bytes).context("write", &self.path)
    }

    /// Appends a member with its content, which must be as long as the member says. It is read to its end, where
    /// readers check sums.
    ///
    /// # Errors
    /// [`Error::Archive`] naming the member, for what is wrong with the content; [`Error::Fs`].
    pub(super) fn append(&mut self, member: &Member, mut content: impl Read) -> Result<()> {
        self.headers(member)?;
        let mut left = member.size;
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let length = content
                .read(&mut buffer)
                .map_err(|err| read_error(err).of_member(&member.name))?;
            if length == 0 {
                self.buffer = buffer;
                return self.end_member(member, left);
            }
            self.content(member, &mut left, &buffer[..length])?;
        }
    }

    /// Does the same with content that is in memory already, which is not copied once more.
    pub(super) fn append_buffered(
        &mut self,
        member: &Member,
        mut content: impl BufRead,
    ) -> Result<()> {
        self.headers(member)?;
        let mut left = member.size;
        loop {
            let block = content
                .fill_buf()
                .map_err(|err| read_error(err).of_member(&member.name))?;
            if block.is_empty() {
                return self.end_member(member, left);
            }
            self.content(member, &mut left, block)?;
            let length = block.len();
            content.consume(length);
        }
    }

    fn headers(&mut self, member: &Member) -> Result<()> {
        let (header, records) = member.encode();
        if !records.is_empty() {
            // What the Python tool calls them; nobody should ever see it.
            let extended = Member {
                kind: EntryType::XHeader,
                size: records.len() as u64,
                ..Member::file(b"././@PaxHeader".to_vec())
            };
            self.write(extended.encode().0.as_bytes())?;
            self.write(&records)?;
            self.pad(BLOCK)?;
        }
        self.write(header.as_bytes())
    }

    fn content(&mut self, member: &Member, left: &mut u64, block: &[u8]) -> Result<()> {
        *left = left.checked_sub(block.len() as u64).ok_or_else(|| {
            let problem = format!("has more than {} bytes", member.size);
            Error::archive(problem).of_member(&member.name)
        })?;
        self.write(block)
    }

    fn end_member(&mut self, member: &Member, left: u64) -> Result<()> {
        if left > 0 {
            let problem = format!("ends {left} bytes early");
            return Err(Error::archive(problem).of_member(&member.name));
        }
        self.pad(BLOCK)
    }

    /// Appends zeros up to the next multiple of `unit`, which divides [`RECORD`].
    fn pad(&mut self, unit: usize) -> Result<()> {
        let missing = self.position.next_multiple_of(unit) - self.position;
        self.write(&[0; RECORD][..missing])
    }

    /// Appends the end of the archive, behind the last member.
    pub(super) fn end_archive(&mut self) -> Result<()> {
        self.write(&[0; 2 * BLOCK])?;
        self.pad(RECORD)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the disk directly")]
pub(super) mod tests {
    use super::{Member, RECORD, TarZst};
    use crate::{digest::Sha256Digest, error::Result};
    use sha2::{Digest as _, Sha256};

    /// Returns what `write` makes, as the file is.
    fn packed(workers: u32, write: impl FnOnce(&mut TarZst) -> Result<()>) -> Result<Vec<u8>> {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("x.tar.zst");
        let mut out = TarZst::create(&path, workers)?;
        write(&mut out)?;
        out.finish()?;
        Ok(std::fs::read(path).unwrap())
    }

    /// Returns the tar that `write` makes.
    pub(in super::super) fn written(
        write: impl FnOnce(&mut TarZst) -> Result<()>,
    ) -> Result<Vec<u8>> {
        packed(1, write).map(|packed| zstd::decode_all(&packed[..]).unwrap())
    }

    #[test]
    fn the_number_of_workers_does_not_change_the_bytes() {
        // Several times what one worker gets at once, which is 8 MiB.
        let content: Vec<u8> = (0..40u32 << 18)
            .flat_map(|n| (n.wrapping_mul(n) >> 9).to_le_bytes())
            .collect();
        let pack = |workers, chunk| {
            let write = |out: &mut TarZst| content.chunks(chunk).try_for_each(|c| out.write(c));
            packed(workers, write).unwrap()
        };
        let one = pack(1, 1 << 20);
        assert!(one == pack(2, 1 << 20) && one == pack(4, 77_777) && one == pack(0, 1 << 20));
        assert!(zstd::decode_all(&one[..]).unwrap() == content);
        // Nor does the machine. Another version of Zstandard may, and changes the digests of all repacked artifacts.
        let digest = Sha256Digest::from_bytes(Sha256::digest(&one).into());
        assert_eq!(
            digest.to_string(),
            "c7205232eebb5c3069c87cdb55d790d0211c0ea1f93849e76d751a6dee861936"
        );
    }

    #[test]
    fn archives_end_at_a_record() {
        for size in [0, 1, 512, 10240 - 512 - 1024, 10240 - 512 - 1023] {
            let member = Member {
                size,
                ..Member::file(b"f".to_vec())
            };
            let content = std::io::Read::take(std::io::repeat(7), size);
            let tar = written(|out| {
                out.append(&member, content)?;
                out.end_archive()
            });
            let tar = tar.unwrap();
            assert_eq!(tar.len() % RECORD, 0);
            assert!(tar[tar.len() - 1024..].iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn content_of_another_length_is_refused() {
        for (size, problem) in [(2, "has more than 2 bytes"), (5, "ends 2 bytes early")] {
            let member = Member {
                size,
                ..Member::file(b"f".to_vec())
            };
            let err = written(|out| out.append(&member, &b"abc"[..])).unwrap_err();
            assert!(err.to_string().contains(problem), "{err}");
        }
    }
}
