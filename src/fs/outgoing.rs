//! [`Outgoing`]: a file that is sent somewhere, and must stay what it was meanwhile.

use crate::{
    error::{Error, Result},
    fs::{Context, open_async},
};
use std::{
    fs::Metadata,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};

/// A regular file, or a part of one, as it was when it was first looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    path: PathBuf,
    state: State,
    /// Where in the file it begins, in bytes.
    start: u64,
    /// In bytes.
    size: u64,
}

/// What changes when somebody writes to a file, or puts another one in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    device: u64,
    inode: u64,
    size: u64,
    /// In seconds and nanoseconds.
    modified: (i64, i64),
}

impl State {
    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
        }
    }
}

impl Outgoing {
    /// Looks at a file.
    ///
    /// # Errors
    /// [`Error::Fs`], also for what is no regular file: nobody can say how much will come out of it.
    #[expect(clippy::disallowed_methods, reason = "this is the room for them")]
    pub fn at(path: &Path) -> Result<Self> {
        let found = std::fs::metadata(path).context("look at", path)?;
        if !found.is_file() {
            return Err(not_usable(path, "it is not a regular file"));
        }
        let state = State::of(&found);
        Ok(Self {
            path: path.to_owned(),
            start: 0,
            size: state.size,
            state,
        })
    }

    /// Returns a part of it: `length` bytes from `start` on, or what there is of them.
    #[must_use]
    pub fn part(&self, start: u64, length: u64) -> Self {
        let start = start.min(self.size);
        Self {
            start: self.start + start,
            size: length.min(self.size - start),
            ..self.clone()
        }
    }

    /// Returns where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Opens it, if it is still the same.
    ///
    /// # Errors
    /// [`Error::Fs`].
    pub(crate) async fn open(&self) -> Result<Reading<'_>> {
        let mut reading = Reading {
            file: open_async(&self.path).await?,
            of: self,
            left: self.size,
        };
        reading.check().await?;
        if self.start > 0 {
            let begin = io::SeekFrom::Start(self.start);
            reading.file.seek(begin).await.context("read", &self.path)?;
        }
        Ok(reading)
    }
}

/// A file that is being read.
pub(crate) struct Reading<'a> {
    file: File,
    of: &'a Outgoing,
    /// In bytes.
    left: u64,
}

impl Reading<'_> {
    /// Returns whether all of it was read.
    pub(crate) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Fills `buffer` as far as the content goes, and returns how far that is. The last bytes are handed out only
    /// when the file is seen to be the same after they were read.
    ///
    /// # Errors
    /// [`Error::Fs`].
    pub(crate) async fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX);
        let wanted = wanted.min(buffer.len());
        let buffer = &mut buffer[..wanted];
        let read = self.file.read_exact(buffer).await;
        if let Err(err) = read {
            if err.kind() == io::ErrorKind::UnexpectedEof {
                return Err(self.changed());
            }
            return Err(err).context("read", &self.of.path);
        }
        self.left -= wanted as u64;
        if self.left == 0 {
            self.check().await?;
        }
        Ok(wanted)
    }

    async fn check(&self) -> Result<()> {
        let found = self.file.metadata().await;
        let found = found.context("look at", &self.of.path)?;
        if State::of(&found) == self.of.state {
            Ok(())
        } else {
            Err(self.changed())
        }
    }

    fn changed(&self) -> Error {
        not_usable(
            &self.of.path,
            "somebody has written to it or replaced it since this began",
        )
    }
}

fn not_usable(path: &Path, problem: &str) -> Error {
    Error::Fs {
        action: "upload",
        path: path.to_owned(),
        source: io::Error::other(problem.to_owned()),
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests write to the disk directly"
)]
mod tests {
    use super::Outgoing;
    use crate::error::Result;
    use std::{fs, path::Path};

    async fn read(file: &Outgoing, buffer: usize, meanwhile: impl FnOnce()) -> Result<Vec<u8>> {
        let (mut content, mut buffer) = (Vec::new(), vec![0; buffer]);
        let mut reading = file.open().await?;
        let first = reading.fill(&mut buffer).await?;
        content.extend_from_slice(&buffer[..first]);
        meanwhile();
        while !reading.is_over() {
            let length = reading.fill(&mut buffer).await?;
            content.extend_from_slice(&buffer[..length]);
        }
        Ok(content)
    }

    #[tokio::test]
    async fn a_file_that_stays_is_read_whole() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("f");
        for content in [&b""[..], b"a", b"abcd", b"abcdefghi"] {
            fs::write(&path, content).unwrap();
            let file = Outgoing::at(&path).unwrap();
            assert_eq!(file.size(), content.len() as u64);
            assert_eq!(read(&file, 4, || ()).await.unwrap(), content);
        }
    }

    #[tokio::test]
    async fn a_file_that_changes_is_not_read_to_its_end() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("f");
        let append = |path: &Path| fs::write(path, "abcdefghij!").unwrap();
        let truncate = |path: &Path| fs::write(path, "abcde").unwrap();
        let touch = |path: &Path| {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH)
                .unwrap();
        };
        let changes: [&dyn Fn(&Path); 3] = [&append, &truncate, &touch];
        for change in changes {
            fs::write(&path, "abcdefghij").unwrap();
            let file = Outgoing::at(&path).unwrap();
            let err = read(&file, 4, || change(&path)).await.unwrap_err();
            assert!(err.to_string().starts_with("cannot upload `"), "{err}");
            // Nor by another attempt.
            assert!(file.open().await.is_err());
        }
    }

    #[tokio::test]
    async fn parts_are_read_and_end_where_the_file_does() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("f");
        fs::write(&path, "abcdefghij").unwrap();
        let file = Outgoing::at(&path).unwrap();
        for (start, length, content) in [
            (0, 3, "abc"),
            (2, 5, "cdefg"),
            (7, 9, "hij"),
            (10, 1, ""),
            (11, 1, ""),
        ] {
            let part = file.part(start, length);
            assert_eq!(part.size(), content.len() as u64);
            assert_eq!(read(&part, 4, || ()).await.unwrap(), content.as_bytes());
        }
        let part = file.part(2, 6).part(1, 2);
        assert_eq!(read(&part, 4, || ()).await.unwrap(), b"de");
        let err = read(&file.part(0, 8), 4, || fs::write(&path, "x").unwrap()).await;
        assert!(err.is_err());
    }

    #[test]
    fn only_regular_files_are_taken() {
        let temp = tempfile::tempdir().unwrap();
        for path in [temp.path(), Path::new("/dev/null"), Path::new("/nowhere")] {
            assert!(Outgoing::at(path).is_err(), "{}", path.display());
        }
    }
}
