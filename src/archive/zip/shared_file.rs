//! [`SharedFile`]: a file that several threads read, each at its own position, and possibly before all of it is there.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
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
    pub(super) fn new(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self {
            file: Arc::new(file),
            position: 0,
            length,
            arrival: None,
        })
    }

    /// Returns a file of which nothing is there yet, and whose length is not known.
    pub(super) fn arriving(file: File, arrival: Arc<Arrival>) -> Self {
        Self {
            file: Arc::new(file),
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

/// How much of a file is there, and which members of it are in work before it is whole.
#[derive(Default)]
pub(super) struct Arrival {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// In bytes.
    length: u64,
    stage: Stage,
    begun: HashSet<u64>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Stage {
    #[default]
    Arriving,
    Whole,
    /// Nobody wants to have it any more.
    Abandoned,
}

impl Arrival {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn arrived(&self, more: u64) {
        self.lock().length += more;
        self.changed.notify_all();
    }

    /// Ends the arrival, and returns what was begun before.
    pub(super) fn close(&self) -> HashSet<u64> {
        let mut state = self.lock();
        state.stage = Stage::Whole;
        self.changed.notify_all();
        std::mem::take(&mut state.begun)
    }

    pub(super) fn abandon(&self) {
        self.lock().stage = Stage::Abandoned;
        self.changed.notify_all();
    }

    /// Returns whether the member that starts there may be begun: as long as more arrives.
    pub(super) fn begin(&self, start: u64) -> bool {
        let mut state = self.lock();
        state.stage == Stage::Arriving && state.begun.insert(start)
    }

    #[cfg(test)]
    pub(super) fn begun(&self) -> usize {
        self.lock().begun.len()
    }

    /// Waits until so many bytes are there, or all.
    fn wait_for(&self, end: u64) -> io::Result<()> {
        let missing = |state: &mut State| state.stage == Stage::Arriving && state.length < end;
        let state = self.changed.wait_while(self.lock(), missing);
        match state.unwrap_or_else(PoisonError::into_inner).stage {
            Stage::Abandoned => Err(io::ErrorKind::ConnectionAborted.into()),
            Stage::Arriving | Stage::Whole => Ok(()),
        }
    }
}
