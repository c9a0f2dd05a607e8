//! Making a cache ready for a task, or refusing it.

use super::{
    Finding, REQUIRES, REQUIRES_IN_THE_MAKING, Refusal, Requirements, Say, Tenant,
    audit::{self, Event},
    finding::{look, open},
};
use crate::{
    error::{self, Result},
    fs::{Dir, NewFile, Owner},
};
use rustix::fs::Mode;
use std::{ffi::OsStr, path::Path};

/// Acts on what a task finds in a cache, as [`super::inspect`] tells it, and notes it in the cache's log.
///
/// # Errors
/// [`crate::Error::Fs`]. A refusal is not an error, but a finding.
pub fn prepare(path: &Path, tenant: &Tenant, say: &mut Say<'_>) -> Result<Finding> {
    let Some(cache) = open(path)? else {
        return Ok(Finding::Refused(Refusal::NotADirectory));
    };
    let finding = look(&cache, tenant)?;
    if let Some(line) = finding.line(path, tenant) {
        say("cache", &line);
    }
    let brought = Requirements::of(tenant.owner);
    match &finding {
        Finding::Empty => create(&cache, tenant, &brought)?,
        Finding::Usable(_) => {
            if let Some(warning) = finding.warning(path, tenant) {
                say("cache", &warning);
            }
            note(&cache, tenant, &Event::Used, say);
        }
        Finding::Inheritable(_) => inherit(&cache, tenant, &brought, say)?,
        Finding::Refused(Refusal::Mismatch(_)) => {
            note(&cache, tenant, &Event::Mismatch(&brought), say);
        }
        Finding::Refused(Refusal::Missing) => note(&cache, tenant, &Event::Missing, say),
        Finding::Refused(Refusal::NotADirectory | Refusal::Tampered(_)) => {}
    }
    Ok(finding)
}

/// Makes an empty cache the task's. The requirements get their name at last: who finds them finds all the rest.
///
/// The directory is given away after the files are made, which would get its group if it has the set-group-id bit.
fn create(cache: &Dir, tenant: &Tenant, brought: &Requirements) -> Result<()> {
    write_requirements(cache, brought, None)?;
    append(cache, tenant, &Event::Created(brought))?;
    if tenant.is_root {
        tenant.owner.give_directory(cache)?;
    }
    publish_requirements(cache)
}

/// Gives a cache to the task's user. Until that is done for everything in it, it has no requirements: a run that is
/// killed leaves a cache that is purged, and not one that is partly another user's.
fn inherit(cache: &Dir, tenant: &Tenant, brought: &Requirements, say: &mut Say<'_>) -> Result<()> {
    let path = cache.path().display();
    say(
        "cache",
        &format!(
            "cache {path} uid/gid mismatch; this is acceptable because caches for this task are untrusted; changing \
             ownership to facilitate cache use"
        ),
    );
    let Tenant { user, group, .. } = tenant;
    say(
        "chown",
        &format!("recursively changing ownership of {path} to {user}:{group}"),
    );
    cache.remove_file_child(REQUIRES)?;
    tenant.owner.give_tree(cache)?;
    // The Python run-task writes into the file that it has just given away.
    write_requirements(cache, brought, Some(tenant.owner))?;
    publish_requirements(cache)?;
    append(cache, tenant, &Event::Chown(brought))
}

fn write_requirements(cache: &Dir, brought: &Requirements, owner: Option<Owner>) -> Result<()> {
    cache.write_child(&NewFile {
        name: REQUIRES_IN_THE_MAKING,
        content: &brought.to_bytes(),
        mode: Mode::RUSR | Mode::RGRP | Mode::ROTH,
        owner,
    })
}

fn publish_requirements(cache: &Dir) -> Result<()> {
    cache.rename_child(
        OsStr::new(REQUIRES_IN_THE_MAKING),
        cache,
        OsStr::new(REQUIRES),
    )
}

fn append(cache: &Dir, tenant: &Tenant, event: &Event<'_>) -> Result<()> {
    audit::append(cache, tenant.task.as_deref(), event)
}

/// Adds to the log of a cache that others have made. A task that is not root may not be allowed to, and works all the
/// same.
fn note(cache: &Dir, tenant: &Tenant, event: &Event<'_>, say: &mut Say<'_>) {
    if let Err(err) = append(cache, tenant, event) {
        say("cache", &format!("warning: {}", error::chain(&err)));
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the disk directly")]
mod tests {
    use super::{Finding, Refusal, Tenant, prepare};
    use crate::fs::Owner;
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt, symlink},
        path::Path,
    };

    /// A task of nobody in particular, that changes no owners.
    fn tenant(uid: u32) -> Tenant {
        Tenant {
            owner: Owner { uid, gid: 5 },
            user: uid.to_string(),
            group: "5".to_owned(),
            untrusted: false,
            is_root: false,
            task: Some("TASK\n\x1b".into()),
        }
    }

    /// Prepares a cache; returns what was found and said.
    fn run(cache: &Path, tenant: &Tenant) -> (Finding, Vec<String>) {
        let mut said = Vec::new();
        let mut say = |topic: &'static str, text: &str| said.push(format!("{topic}: {text}"));
        let finding = prepare(cache, tenant, &mut say).unwrap();
        (finding, said)
    }

    /// The log without times.
    fn log(cache: &Path) -> Vec<String> {
        let log = fs::read_to_string(cache.join(".cachelog")).unwrap();
        let lines = log.lines().map(|line| line.split_once(' ').unwrap().1);
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn the_first_task_makes_a_cache_and_others_use_it() {
        let temp = tempfile::tempdir().unwrap();
        let cache = temp.path();
        let (found, said) = run(cache, &tenant(4));
        assert_eq!(found, Finding::Empty);
        assert!(said[0].ends_with("is empty; writing requirements: gid=5 uid=4 version=1"));
        let requires = cache.join(".cacherequires");
        assert_eq!(fs::read(&requires).unwrap(), b"gid=5\nuid=4\nversion=1");
        let mode = fs::metadata(&requires).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o444);
        assert_eq!(fs::read_dir(cache).unwrap().count(), 2);

        assert!(matches!(run(cache, &tenant(4)).0, Finding::Usable(_)));
        let (found, _) = run(cache, &tenant(3));
        let Finding::Refused(refusal @ Refusal::Mismatch(_)) = found else {
            panic!("{found:?}");
        };
        assert_eq!(refusal.exit_code(), 72);
        // Untrusted caches are taken over by root only.
        let untrusted = Tenant {
            untrusted: true,
            ..tenant(3)
        };
        assert!(matches!(run(cache, &untrusted).0, Finding::Refused(_)));
        let mismatch = "TASK\\n\\u{1b}] requirements mismatch; wanted: gid=5, uid=3, version=1";
        assert_eq!(
            log(cache),
            [
                "TASK\\n\\u{1b}] created; requirements: gid=5, uid=4, version=1",
                "TASK\\n\\u{1b}] used",
                mismatch,
                mismatch
            ]
        );
    }

    #[test]
    fn short_requirements_are_warned_of() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join(".cacherequires"), "").unwrap();
        let (found, said) = run(temp.path(), &tenant(4));
        assert!(matches!(found, Finding::Usable(_)));
        assert!(
            said[1].contains("does not say gid=5 uid=4 version=1"),
            "{said:?}"
        );
    }

    #[test]
    fn what_is_no_file_of_run_task_is_refused_and_not_waited_for() {
        for name in [".cachelog", ".cacherequires"] {
            let temp = tempfile::tempdir().unwrap();
            let cache = temp.path().join("c");
            fs::create_dir(&cache).unwrap();
            fs::write(cache.join(".cacherequires"), "version=1").unwrap();
            let replace = |make: &dyn Fn(&Path)| {
                let path = cache.join(name);
                let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
                make(&path);
                let (found, said) = run(&cache, &tenant(4));
                assert_eq!(found, Finding::Refused(Refusal::Tampered(name)), "{said:?}");
            };
            replace(&|path| symlink(temp.path().join("victim"), path).unwrap());
            replace(&|path| {
                let mode = rustix::fs::Mode::RWXU;
                rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)
                    .unwrap();
            });
            replace(&|path| fs::create_dir(path).unwrap());
            assert!(!temp.path().join("victim").exists());
        }
        let temp = tempfile::tempdir().unwrap();
        let long = vec![b'x'; (1 << 16) + 1];
        fs::write(temp.path().join(".cacherequires"), long).unwrap();
        let (found, _) = run(temp.path(), &tenant(4));
        assert_eq!(found, Finding::Refused(Refusal::Tampered(".cacherequires")));
    }

    #[test]
    fn a_log_that_is_not_ours_to_write_is_no_obstacle() {
        if rustix::process::geteuid().is_root() {
            // Who can write anything.
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        run(temp.path(), &tenant(4));
        let log = temp.path().join(".cachelog");
        fs::set_permissions(log, Permissions::from_mode(0o444)).unwrap();
        let (found, said) = run(temp.path(), &tenant(4));
        assert!(matches!(found, Finding::Usable(_)));
        assert!(
            said[1].starts_with("cache: warning: cannot open"),
            "{said:?}"
        );
    }
}
