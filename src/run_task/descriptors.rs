//! Files that whoever started the program has left open.

use crate::fs::Dir;
use std::{os::fd::RawFd, path::Path};

/// The first number that is not standard input, output or error.
const FIRST: RawFd = 3;
/// As far as is looked where nothing tells which files are open.
const LIKELY: RawFd = 1024;

/// Closes all files but standard input, output and error, so that no program that is started here gets them.
///
/// To be called before anything else: what this program opens itself does not outlive an `exec` anyway, but would be closed
/// as well.
pub fn close_inherited() {
    let listed = Dir::open(Path::new("/proc/self/fd")).and_then(|open| open.names());
    let open: Vec<RawFd> = match listed {
        Ok(names) => names
            .iter()
            .filter_map(|name| name.to_str()?.parse().ok())
            .collect(),
        Err(_) => (FIRST..LIKELY).collect(),
    };
    for descriptor in open.into_iter().filter(|number| *number >= FIRST) {
        // The list itself is among them, and closed already.
        let _ = nix::unistd::close(descriptor);
    }
}
