//! [`Lock`]: a lock between processes, on a file that holds nothing.

use crate::{error::Result, fs::Context};
use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, open},
    io::Errno,
};
use std::{os::fd::OwnedFd, path::Path};

/// A lock that ends with the value, or with the process. Only other holders of a [`Lock`] heed it.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: OwnedFd,
}

impl Lock {
    /// Waits until nobody holds the lock alone, and holds it together with others.
    pub(crate) fn shared(path: &Path) -> Result<Self> {
        Self::wait(path, FlockOperation::LockShared)
    }

    /// Waits until nobody holds the lock, and holds it alone.
    pub(crate) fn exclusive(path: &Path) -> Result<Self> {
        Self::wait(path, FlockOperation::LockExclusive)
    }

    fn wait(path: &Path, operation: FlockOperation) -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let file = open(path, flags, Mode::from(0o666)).context("open", path)?;
        loop {
            match flock(&file, operation) {
                Err(Errno::INTR) => {}
                done => {
                    done.context("lock", path)?;
                    return Ok(Self { _file: file });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lock;
    use std::{sync::mpsc::channel, thread, time::Duration};

    #[test]
    fn shared_locks_go_together_and_an_exclusive_one_waits() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("lock");
        let together = [Lock::shared(&path).unwrap(), Lock::shared(&path).unwrap()];
        let (sender, has_it) = channel();
        thread::scope(|scope| {
            scope.spawn(|| sender.send(Lock::exclusive(&path).unwrap()));
            assert!(has_it.recv_timeout(Duration::from_millis(50)).is_err());
            drop(together);
            has_it.recv().unwrap();
        });
    }
}
