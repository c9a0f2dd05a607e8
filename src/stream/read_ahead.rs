//! [`ReadAhead`]: a reader that runs on a thread of its own, some buffers ahead of whoever reads from it, so that
//! decoding and writing happen at the same time.

use crate::stream::copy_out;
use std::{
    io::{self, BufRead, Read},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::Scope,
};

/// Size of one buffer. With half of it, threads sleep and wake so often that the kernel at times leaves all of them on
/// one core: the .tar.gz of 116,000 files then takes 1.3 times as long on two cores.
const BUFFER: usize = 512 * 1024;

/// Buffers between the threads; bounds the memory to 2 MiB, and those in use. Tried with 8 to 64 MiB: the .tar.gz of
/// 116,000 files was 0 to 5 % faster in one series of runs, and not in another.
const DEPTH: usize = 4;

/// The reading end. An error of the source arrives after all whole buffers before it.
pub(crate) struct ReadAhead {
    filled: Receiver<io::Result<Vec<u8>>>,
    empty: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    ended: bool,
}

impl ReadAhead {
    /// Starts reading `source` on a thread of `scope`. The thread ends with the source, with an error, or when the
    /// `ReadAhead` is dropped, which must happen inside the scope.
    pub(crate) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        mut source: impl Read + Send + 'scope,
    ) -> Self {
        let (to_reader, filled) = sync_channel(DEPTH);
        let (empty, buffers) = sync_channel(DEPTH + 2);
        scope.spawn(move || {
            loop {
                let buffer = buffers.try_recv().unwrap_or_else(|_| vec![0; BUFFER]);
                let step = fill(&mut source, buffer);
                let last = !matches!(&step, Ok(buffer) if !buffer.is_empty());
                if to_reader.send(step).is_err() || last {
                    return;
                }
            }
        });
        Self {
            filled,
            empty,
            current: Vec::new(),
            position: 0,
            ended: false,
        }
    }
}

/// Fills the buffer as far as the source goes; empty at its end.
fn fill(source: &mut impl Read, mut buffer: Vec<u8>) -> io::Result<Vec<u8>> {
    buffer.resize(BUFFER, 0);
    let mut length = 0;
    while length < BUFFER {
        match source.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    buffer.truncate(length);
    Ok(buffer)
}

impl BufRead for ReadAhead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.current.len() && !self.ended {
            let next = match self.filled.recv() {
                Ok(step) => step?,
                // Only after an error that was passed on already.
                Err(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            };
            self.ended = next.is_empty();
            let used = std::mem::replace(&mut self.current, next);
            self.position = 0;
            if used.capacity() == BUFFER {
                let _ = self.empty.try_send(used);
            }
        }
        Ok(&self.current[self.position..])
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount;
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        copy_out(self, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::{BUFFER, ReadAhead};
    use std::io::{self, Read};

    /// Gives `left` bytes, then an error.
    struct Breaking {
        left: usize,
    }

    impl Read for Breaking {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let given = self.left.min(buf.len()).min(1000);
            self.left -= given;
            buf[..given].fill(7);
            if given == 0 {
                Err(io::Error::other("broken"))
            } else {
                Ok(given)
            }
        }
    }

    #[test]
    fn content_arrives_whole_and_in_order() {
        let content: Vec<u8> = (0..3 * BUFFER + 17)
            .map(|n| n.to_le_bytes()[n % 3])
            .collect();
        let mut out = Vec::new();
        std::thread::scope(|scope| ReadAhead::start(scope, &content[..]).read_to_end(&mut out))
            .unwrap();
        assert_eq!(out, content);
    }

    #[test]
    fn an_error_is_passed_on() {
        let mut out = Vec::new();
        let read = std::thread::scope(|scope| {
            ReadAhead::start(scope, Breaking { left: 2 * BUFFER }).read_to_end(&mut out)
        });
        assert_eq!(read.unwrap_err().to_string(), "broken");
        assert_eq!(out.len(), 2 * BUFFER);
    }

    #[test]
    fn dropping_it_early_ends_the_thread() {
        std::thread::scope(|scope| drop(ReadAhead::start(scope, io::repeat(1))));
    }
}
