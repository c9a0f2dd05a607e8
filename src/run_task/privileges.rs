//! Giving up root, for good.

use super::Account;
use crate::fs::Dir;
use rustix::{
    fs::Mode,
    process::{Gid, Uid},
    thread,
};
use std::{io, path::Path};

/// Whether programs that the task runs may get more privileges than it has, as `sudo` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewPrivileges {
    /// Set-id bits and file capabilities have no effect.
    Never,
    /// They have.
    Allowed,
}

/// Becomes somebody else for good, with the umask that caches are made with.
///
/// This must happen while there is only one thread. The system keeps ids for each thread; those that start later have
/// those of the thread that started them.
///
/// # Errors
/// What the system says, or that there is another thread.
pub fn become_user(account: &Account, new_privileges: NewPrivileges) -> io::Result<()> {
    if has_other_threads() {
        return Err(io::Error::other("there is more than one thread"));
    }
    let uid = Uid::from_raw(account.owner.uid);
    let gid = Gid::from_raw(account.owner.gid);
    let groups: Vec<Gid> = account.groups.iter().copied().map(Gid::from_raw).collect();
    thread::set_thread_groups(&groups)?;
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    thread::set_thread_res_gid(gid, gid, gid)?;
    thread::set_thread_res_uid(uid, uid, uid)?;
    if new_privileges == NewPrivileges::Never {
        thread::set_no_new_privs(true)?;
    }
    Ok(())
}

/// Without `/proc` nobody knows.
fn has_other_threads() -> bool {
    let threads = Dir::open(Path::new("/proc/self/task")).and_then(|threads| threads.names());
    threads.is_ok_and(|threads| threads.len() > 1)
}
