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
    /// Whether nobody begins anything any more.
    ended: bool,
}

#[derive(Clone, Copy, Default, PartialEq, PartialOrd)]
enum Stage {
    #[default]
    Arriving,
    #[cfg(any(test, feature = "fuzzing"))]
    Whole,
    /// Whole, and nothing should be begun any more.
    Closed,
    /// Nobody wants to have it any more.
    Abandoned,
}

impl Arrival {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn wait_while(&self, condition: impl FnMut(&mut State) -> bool) -> MutexGuard<'_, State> {
        let state = self.changed.wait_while(self.lock(), condition);
        state.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn arrived(&self, more: u64) {
        self.change(|state| state.length += more);
    }

    /// Ends the arrival, and returns what was begun before.
    pub(super) fn close(&self) -> HashSet<u64> {
        self.change(|state| state.stage = Stage::Closed);
        self.lock().begun.clone()
    }

    pub(super) fn abandon(&self) {
        self.change(|state| state.stage = Stage::Abandoned);
    }

    /// Returns whether anything may still be begun.
    pub(super) fn is_open(&self) -> bool {
        self.lock().stage < Stage::Closed
    }

    /// Notes that the member is begun which starts there, and returns whether it may be.
    pub(super) fn begin(&self, start: u64) -> bool {
        let mut begun = false;
        self.change(|state| begun = state.stage < Stage::Closed && state.begun.insert(start));
        begun
    }

    /// Notes that nothing will be begun any more.
    pub(super) fn end(&self) {
        self.change(|state| state.ended = true);
    }

    /// Waits until so many bytes are there, or all.
    fn wait_for(&self, end: u64) -> io::Result<()> {
        drop(self.wait_while(|state| state.stage == Stage::Arriving && state.length < end));
        self.check()
    }

    /// Fails if nobody wants to have the archive any more.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.lock().stage == Stage::Abandoned {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// Tells that all is there, and waits for the end of those who begin something.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn exhaust(&self) {
        self.change(|state| state.stage = Stage::Whole);
        drop(self.wait_while(|state| !state.ended));
    }

    #[cfg(test)]
    pub(super) fn wait_until_begun(&self, members: usize) {
        drop(self.wait_while(|state| state.begun.len() < members && !state.ended));
    }
}

#[cfg(test)]
mod tests {
    use super::{Arrival, SharedFile};
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
