//! Extraction: every member is created in a confined [`Tree`], several files at a time.

use super::{Archive, Early, Member, MemberKind, content::MemberReader};
use crate::{
    archive::{
        Job,
        limits::{Limits, MAX_PATH_LENGTH},
    },
    error::{Error, Result},
    fs::{Attributes, Tree},
    rel_path::{RelPath, shown_name},
};
use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    ffi::OsStr,
    fs::File,
    os::unix::ffi::OsStrExt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// What becomes of the members of an archive.
struct Plan<'a> {
    directories: Vec<(RelPath, &'a Member)>,
    links: Vec<(RelPath, &'a Member)>,
    files: Vec<PlannedFile<'a>>,
    /// A name that lost its leading slashes.
    stripped: Option<&'a Member>,
}

/// A member whose content is read by one of the threads.
struct PlannedFile<'a> {
    /// Where the member is in the table of contents.
    index: usize,
    member: &'a Member,
    /// Nowhere if a later member has the same name: it is only checked.
    path: Option<RelPath>,
}

/// Extracts all members with several threads. Of members with the same name the last one counts.
pub(in crate::archive) fn extract(
    archive: &Archive,
    early: Early,
    job: &Job,
    threads: usize,
) -> Result<Vec<String>> {
    let root = &job.directory;
    let plan = Plan::new(&archive.members, &job.limits)?;
    let mut tree = Tree::open(root)?;
    if !job.limits.external_symlinks {
        tree.deny_external_symlinks();
    }
    let mut reader = archive.reader();
    for (path, member) in &plan.directories {
        let mtime = job.limits.time(reader.check(member)?);
        let mode = member.mode;
        tree.directory(path, Attributes { mode, mtime })?;
    }
    extract_files(archive, plan.files, early, job, threads)?;
    // Links come last: no file is written through one.
    for (path, member) in &plan.links {
        let target = link_target(&mut reader, member, &job.limits)?;
        let mtime = job.limits.time(None);
        tree.symlink(path, OsStr::from_bytes(&target), mtime)?;
    }
    tree.finish()?;
    let warning = plan.stripped.map(|member| {
        let name = shown_name(&member.name);
        format!("leading `/` is removed from member names, such as `{name}`")
    });
    Ok(warning.into_iter().collect())
}

impl<'a> Plan<'a> {
    fn new(members: &'a [Member], limits: &Limits) -> Result<Self> {
        let mut last: HashMap<RelPath, usize> = HashMap::with_capacity(members.len());
        let mut plan = Self {
            directories: Vec::new(),
            links: Vec::new(),
            files: Vec::new(),
            stripped: members.iter().find(|member| member.name.starts_with(b"/")),
        };
        for (index, member) in members.iter().enumerate() {
            let path = member_path(member, limits)?;
            let before = match last.entry(path) {
                Entry::Vacant(new) => {
                    new.insert(index);
                    continue;
                }
                Entry::Occupied(mut there) => there.insert(index),
            };
            plan.check_only(before, &members[before]);
        }
        refuse_members_below_files(&last, members)?;
        for (path, index) in last {
            let member = &members[index];
            match member.kind {
                MemberKind::Directory => plan.directories.push((path, member)),
                MemberKind::Symlink => plan.links.push((path, member)),
                MemberKind::File => plan.files.push(PlannedFile {
                    index,
                    member,
                    path: Some(path),
                }),
            }
        }
        // The order of the archive, which a map does not have; but the largest files first, so that no thread is left
        // with one at the end.
        plan.directories
            .sort_unstable_by_key(|(_, member)| member.start);
        plan.links.sort_unstable_by_key(|(_, member)| member.start);
        plan.files
            .sort_unstable_by_key(|file| (std::cmp::Reverse(file.member.size), file.index));
        Ok(plan)
    }

    fn check_only(&mut self, index: usize, member: &'a Member) {
        if member.kind != MemberKind::Directory {
            self.files.push(PlannedFile {
                index,
                member,
                path: None,
            });
        }
    }
}

/// A directory that is also a file would come out as one or the other, depending on which thread is faster.
fn refuse_members_below_files(last: &HashMap<RelPath, usize>, members: &[Member]) -> Result<()> {
    let mut seen = HashSet::new();
    for path in last.keys() {
        let mut above = path.parent();
        while let Some(parent) = above
            && seen.insert(parent.clone())
        {
            let kind = last.get(&parent).map(|index| members[*index].kind);
            if kind.is_some_and(|kind| kind != MemberKind::Directory) {
                let problem = format!("is below `{parent}`, which is not a directory");
                return Err(Error::archive(problem).of_member(path.as_bytes()));
            }
            above = parent.parent();
        }
    }
    Ok(())
}

fn member_path(member: &Member, limits: &Limits) -> Result<RelPath> {
    if member.name.is_empty() {
        return Err(Error::archive("a member has no name"));
    }
    limits.check_name_length(&member.name, "name")?;
    let path = RelPath::strip_root(&member.name)
        .map_err(|err| member.refused(format!("the name {err}")))?;
    if path.is_empty() && member.kind != MemberKind::Directory {
        return Err(member.refused("would replace the destination itself"));
    }
    limits.check_path(&path)?;
    Ok(path)
}

/// Reads the target of a symbolic link, which is its content.
pub(in crate::archive) fn link_target(
    reader: &mut MemberReader,
    member: &Member,
    limits: &Limits,
) -> Result<Vec<u8>> {
    let mut target = Vec::new();
    let longest = limits.path_length as u64;
    if member.size > longest {
        let problem = format!(
            "the target of the link has {} bytes, and {longest} are allowed",
            member.size
        );
        return Err(Error::limit(problem, MAX_PATH_LENGTH).of_member(&member.name));
    }
    let opened = reader.open(member)?;
    opened.content.write_to(member, |piece| {
        target.extend_from_slice(piece);
        Ok(())
    })?;
    if target.is_empty() || target.contains(&0) {
        return Err(member.refused("symbolic link without a usable target"));
    }
    Ok(target)
}

/// Extracts regular files on several threads, each with a view of its own of archive and tree; one of them has to wait for
/// the member that is being decoded, if one is. Of the errors seen, that of the member that comes first is told.
fn extract_files(
    archive: &Archive,
    files: Vec<PlannedFile<'_>>,
    early: Early,
    job: &Job,
    threads: usize,
) -> Result<()> {
    let begun = early.close();
    let is_begun = |file: &PlannedFile<'_>| begun.contains(&file.member.start);
    let (begun, files): (Vec<_>, Vec<_>) = files.into_iter().partition(is_begun);
    // Nobody waits for what the table does not have.
    let early = (!begun.is_empty()).then_some(early);
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let work = |early: Option<Early>| -> Result<(), (usize, Error)> {
        let mut tree = Tree::open(&job.directory).map_err(|err| (0, err))?;
        let mut reader = archive.reader();
        let mut extract = |file: &PlannedFile<'_>, decoded| {
            let extracted = extract_file(&mut tree, &mut reader, file, decoded, &job.limits);
            extracted.map_err(|err| (file.index, err))
        };
        if let Some(early) = early {
            let mut decoded = early.finish();
            for file in &begun {
                extract(file, decoded.remove(&file.member.start))?;
            }
        }
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            extract(file, None)?;
        }
        Ok(())
    };
    let work = |early| {
        if let Err(err) = work(early) {
            next.fetch_add(files.len(), Ordering::Relaxed);
            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
            if failed.as_ref().is_none_or(|(index, _)| *index > err.0) {
                *failed = Some(err);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(files.len() + 1) {
            scope.spawn(|| work(None));
        }
        work(early);
    });
    failed
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .map_or(Ok(()), |(_, err)| Err(err))
}

fn extract_file(
    tree: &mut Tree,
    reader: &mut MemberReader,
    file: &PlannedFile<'_>,
    decoded: Option<File>,
    limits: &Limits,
) -> Result<()> {
    let member = file.member;
    if let Some(decoded) = decoded {
        // What stands before the member, by which it was decoded, must be what the table says.
        let mtime = limits.time(reader.check(member)?);
        let Some(path) = &file.path else {
            return Ok(());
        };
        let mode = member.mode;
        match tree.adopt(path, decoded, Attributes { mode, mtime }) {
            // Not everywhere where files can be without names can they be given one.
            Err(Error::Fs { .. }) => {}
            adopted => return adopted,
        }
    }
    let opened = reader.open(member)?;
    let Some(path) = &file.path else {
        return opened.content.write_to(member, |_| Ok(()));
    };
    let (mode, mtime) = (member.mode, limits.time(opened.mtime));
    let mut out = tree.file(path, Attributes { mode, mtime })?;
    opened.content.write_to(member, |piece| out.write(piece))?;
    out.finish()
}
