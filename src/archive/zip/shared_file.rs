//! [`SharedFile`]: a file that several threads read, each at its own position, and possibly before all of it is there.

use super::arrival::Arrival;
use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::Arc,
};

/// A file with a position of its own; copies share the file, but not the position.
#[derive(Clone)]
pub(super) struct SharedFile {
    file: Arc<File>,
    position: u64,
    length: u64,
    /// Whoever reads what is not there yet waits for it.
    arrival: Option<Arc<Arrival>>,
}

impl SharedFile {
    /// Returns a file that is whole.
    pub(super) fn new(file: Arc<File>) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self {
            file,
            position: 0,
            length,
            arrival: None,
        })
    }

    /// Returns a file of which nothing is there yet, and whose length is not known.
    pub(super) fn arriving(file: Arc<File>, arrival: Arc<Arrival>) -> Self {
        Self {
            file,
            position: 0,
            length: 0,
            arrival: Some(arrival),
        }
    }

    /// Returns the length in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Returns this file as a reader that begins at `position`.
    pub(super) fn at(&self, position: u64) -> Self {
        Self {
            position,
            ..self.clone()
        }
    }

    /// Fills `buffer` with what is at `position`, wherever the reader is.
    pub(super) fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.wait_for(position.saturating_add(buffer.len() as u64))?;
        self.file.read_exact_at(buffer, position)
    }

    fn wait_for(&self, end: u64) -> io::Result<()> {
        let arrival = self.arrival.as_deref();
        arrival.map_or(Ok(()), |arrival| arrival.wait_for(end))
    }
}

impl Read for SharedFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.wait_for(self.position.saturating_add(1))?;
        let length = self.file.read_at(buf, self.position)?;
        self.position += length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::arrival::Arrival, SharedFile};
    use std::{
        io::{Read, Write},
        sync::{Arc, mpsc::channel},
        time::Duration,
    };

    #[test]
    fn what_has_not_arrived_is_waited_for() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let arrival = Arc::new(Arrival::default());
        let file = SharedFile::arriving(Arc::new(file), Arc::clone(&arrival));
        arrival.arrived(4);
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let (to, read) = channel();
        std::thread::scope(|scope| {
            let (to_other, mut other) = (to.clone(), file.at(4));
            scope.spawn(move || to_other.send(other.read(&mut [0]).map_err(|err| err.kind())));
            scope.spawn(move || {
                let read = file.read_exact_at(&mut [0; 4], 4).map(|()| 4);
                to.send(read.map_err(|err| err.kind()))
            });
            read.recv_timeout(Duration::from_millis(50)).unwrap_err();
            arrival.arrived(1);
            assert_eq!(read.recv().unwrap(), Ok(1));
            read.recv_timeout(Duration::from_millis(50)).unwrap_err();
            arrival.close();
            assert_eq!(read.recv().unwrap(), Ok(4));
        });
    }
}
