//! [`Account`]: the user and group a task runs as, from `/etc/passwd` and `/etc/group`.
//!
//! The files are read as they are: images have no directory services, and the C library's way to those would be the only
//! reason for not being a static program.

use crate::{
    error::{Error, Result},
    fs::{self, Owner},
};
use std::path::Path;

/// The user whose ids are the same in all images.
const WORKER: &str = "worker";
/// Its user id, and its group's id.
const WORKER_ID: u32 = 1000;

/// A user and a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The name of the user.
    pub user: String,
    /// The name of the group.
    pub group: String,
    /// Their ids.
    pub owner: Owner,
    /// The ids of the groups that the user is a member of.
    pub groups: Vec<u32>,
}

/// Why a task cannot run as somebody. The words are the Python run-task's.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// There is no such user.
    #[error("could not find user {0}; specify a valid user with --user")]
    NoUser(String),
    /// There is no such group.
    #[error("could not find group {0}; specify a valid group with --group")]
    NoGroup(String),
    /// The user that all images have in common has another id here.
    #[error("{kind} `worker` must have {id}=1000; got {found}")]
    Worker {
        /// `user` or `group`.
        kind: &'static str,
        /// `uid` or `gid`.
        id: &'static str,
        /// What it has.
        found: u32,
    },
    /// A list of users or groups cannot be read.
    #[error("cannot look up who to run as")]
    Unreadable(#[source] Error),
}

impl Account {
    /// Looks a user and a group up.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn look_up(user: &str, group: &str) -> Result<Self, AccountError> {
        let read = |path| {
            let bytes = fs::read(Path::new(path)).map_err(AccountError::Unreadable)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        Self::find(user, group, &read("/etc/passwd")?, &read("/etc/group")?)
    }

    /// Returns who this process runs as, by number: it cannot be anybody else.
    #[must_use]
    pub fn own() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        Self {
            user: uid.to_string(),
            group: gid.to_string(),
            owner: Owner { uid, gid },
            groups: Vec::new(),
        }
    }

    fn find(user: &str, group: &str, passwd: &str, groups: &str) -> Result<Self, AccountError> {
        let uid = id_of(user, passwd).ok_or_else(|| AccountError::NoUser(user.to_owned()))?;
        let gid = id_of(group, groups).ok_or_else(|| AccountError::NoGroup(group.to_owned()))?;
        // Files in caches outlive an image, so the id must be the same in the next one.
        for (name, kind, id, found) in [(user, "user", "uid", uid), (group, "group", "gid", gid)] {
            if name == WORKER && found != WORKER_ID {
                return Err(AccountError::Worker { kind, id, found });
            }
        }
        Ok(Self {
            user: user.to_owned(),
            group: group.to_owned(),
            owner: Owner { uid, gid },
            groups: groups_of(user, groups),
        })
    }
}

/// Returns the id in the third field of the line of `name`.
fn id_of(name: &str, lines: &str) -> Option<u32> {
    lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// Returns the ids of the groups that list a user.
fn groups_of(user: &str, groups: &str) -> Vec<u32> {
    let listing = groups.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let id = fields.nth(2)?.parse().ok()?;
        let mut members = fields.next()?.split(',');
        members.any(|member| member == user).then_some(id)
    });
    listing.collect()
}

#[cfg(test)]
mod tests {
    use super::{Account, Owner};

    const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/bash
broken
worker:x:1000:1000::/builds/worker:/bin/bash
alice:x:1001:100:Alice:/home/alice:/bin/sh
";
    const GROUP: &str = "\
root:x:0:
users:x:100:
kvm:x:104:worker,alice
audio:x:29:pulse,alice
malice:x:30:malice
worker:x:1000:
";

    fn find(user: &str, group: &str) -> Result<Account, String> {
        Account::find(user, group, PASSWD, GROUP).map_err(|err| err.to_string())
    }

    #[test]
    fn groups_are_those_of_the_user() {
        let alice = find("alice", "users").unwrap();
        assert_eq!(
            alice.owner,
            Owner {
                uid: 1001,
                gid: 100
            }
        );
        assert_eq!(alice.groups, [104, 29]);
        assert_eq!(find("worker", "worker").unwrap().groups, [104]);
    }

    #[test]
    fn who_is_not_there_is_named() {
        assert_eq!(
            find("bob", "users").unwrap_err(),
            "could not find user bob; specify a valid user with --user"
        );
        assert_eq!(
            find("broken", "users").unwrap_err(),
            "could not find user broken; specify a valid user with --user"
        );
        assert_eq!(
            find("alice", "wheel").unwrap_err(),
            "could not find group wheel; specify a valid group with --group"
        );
    }

    #[test]
    fn the_worker_has_the_same_id_everywhere() {
        let other = PASSWD.replace("worker:x:1000", "worker:x:500");
        let found = Account::find("worker", "worker", &other, GROUP).unwrap_err();
        assert_eq!(
            found.to_string(),
            "user `worker` must have uid=1000; got 500"
        );
        let other = GROUP.replace("worker:x:1000", "worker:x:501");
        let found = Account::find("worker", "worker", PASSWD, &other).unwrap_err();
        assert_eq!(
            found.to_string(),
            "group `worker` must have gid=1000; got 501"
        );
    }
}
