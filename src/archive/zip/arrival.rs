//! [`Arrival`]: what those who read an archive that is still on its way know of it.

use std::{
    collections::HashSet,
    io,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

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

impl State {
    /// Fails if nobody wants to have the archive any more.
    fn check(&self) -> io::Result<()> {
        if self.stage == Stage::Abandoned {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

impl Arrival {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.notify_all();
        changed
    }

    pub(super) fn arrived(&self, more: u64) {
        self.change(|state| state.length += more);
    }

    /// Ends the arrival, and returns what was begun before.
    pub(super) fn close(&self) -> HashSet<u64> {
        self.change(|state| {
            state.stage = Stage::Closed;
            std::mem::take(&mut state.begun)
        })
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
        self.change(|state| state.stage < Stage::Closed && state.begun.insert(start))
    }

    /// Waits until so many bytes are there, or all.
    pub(super) fn wait_for(&self, end: u64) -> io::Result<()> {
        let missing = |state: &mut State| state.stage == Stage::Arriving && state.length < end;
        let state = self.changed.wait_while(self.lock(), missing);
        state.unwrap_or_else(PoisonError::into_inner).check()
    }

    /// Fails if nobody wants to have the archive any more.
    pub(super) fn check(&self) -> io::Result<()> {
        self.lock().check()
    }

    /// Tells that all is there, though more may be begun.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn complete(&self) {
        self.change(|state| state.stage = Stage::Whole);
    }

    #[cfg(test)]
    pub(super) fn wait_until_begun(&self, members: usize) {
        let few = |state: &mut State| state.begun.len() < members;
        let minute = std::time::Duration::from_mins(1);
        let waited = self.changed.wait_timeout_while(self.lock(), minute, few);
        assert!(!waited.unwrap().1.timed_out(), "not begun");
    }
}
