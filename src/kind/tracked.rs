//! The files that a toolchain is made by, and their common digest.

use super::finding::{Finding, Found};
use crate::{digest::Sha256Digest, error, fs};
use regex::Regex;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

/// Returns the digest of all files below `root` that match one of the patterns, as lower-case hex.
pub(super) fn digest(root: &Path, patterns: &[String]) -> Found<String> {
    let files = files(root)?;
    let mut found = BTreeSet::new();
    for pattern in patterns {
        let regex = pattern_regex(pattern)?;
        let mut matching = files.iter().filter(|path| regex.is_match(path)).peekable();
        if matching.peek().is_none() {
            return Err(Finding::nowhere(format!(
                "{pattern} did not match anything"
            )));
        }
        found.extend(matching);
    }
    let mut whole = Sha256::new();
    for path in found {
        let content =
            fs::read(&root.join(path)).map_err(|err| Finding::nowhere(error::chain(&err)))?;
        let digest = Sha256Digest::from_bytes(Sha256::digest(content).into());
        whole.update(format!("{digest} {path}\n"));
    }
    Ok(Sha256Digest::from_bytes(whole.finalize().into()).to_string())
}

/// Returns the files that are tracked by git, with their paths below `root`; where there is no repository, all files.
fn files(root: &Path) -> Found<Vec<String>> {
    if root.join(".git").exists() {
        return tracked(root);
    }
    if root.join(".hg").exists() {
        let text = format!(
            "{} is a Mercurial repository: which files it tracks is not known",
            root.display()
        );
        return Err(Finding::nowhere(text));
    }
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let names =
            fs::list(&root.join(&directory)).map_err(|err| Finding::nowhere(error::chain(&err)))?;
        for name in names {
            let path = directory.join(name);
            if fs::is_directory(&root.join(&path)) {
                directories.push(path);
            } else if let Some(path) = path.to_str() {
                found.push(path.to_owned());
            }
        }
    }
    Ok(found)
}

/// Asks git for the files of the commit that is checked out, as taskgraph does: what is not committed does not count.
fn tracked(root: &Path) -> Found<Vec<String>> {
    let failed = |why: &str| {
        let text = format!(
            "cannot list the files that git tracks in {}: {}",
            root.display(),
            why.trim()
        );
        Finding::nowhere(text)
    };
    let output = Command::new("git")
        .arg("-C")
        .arg(if root.as_os_str().is_empty() {
            Path::new(".")
        } else {
            root
        })
        .args(["ls-tree", "-r", "-z", "--name-only", "HEAD"])
        // Set in hooks, for the repository of the hook.
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .output()
        .map_err(|err| failed(&err.to_string()))?;
    if !output.status.success() {
        return Err(failed(&String::from_utf8_lossy(&output.stderr)));
    }
    let names = output
        .stdout
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty());
    Ok(names
        .filter_map(|name| String::from_utf8(name.to_vec()).ok())
        .collect())
}

/// Translates a pattern as `mozpath.match` does: `*` is within a directory, `**/` any directories, and what matches a
/// directory matches all in it.
fn pattern_regex(pattern: &str) -> Found<Regex> {
    if pattern.is_empty() {
        return pattern_regex("**");
    }
    let malformed =
        |err: regex::Error| Finding::nowhere(format!("`{pattern}` is no pattern: {err}"));
    let escaped = regex::escape(pattern);
    let inner = Regex::new(r"(^|/)\\\*\\\*/").map_err(malformed)?;
    let last = Regex::new(r"(^|/)\\\*\\\*$").map_err(malformed)?;
    let translated = inner.replace_all(&escaped, "${1}(?:.+/)?");
    let translated = last.replace_all(&translated, "(?:${1}.+)?");
    let translated = translated.replace(r"\*", "[^/]*");
    Regex::new(&format!("^{translated}(?:/.*)?$")).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::pattern_regex;

    /// Each is what `taskgraph.util.path.match` answers.
    #[test]
    fn patterns_match_as_in_taskgraph() {
        for (pattern, path, matches) in [
            ("foo", "foo", true),
            ("foo", "foo/bar", true),
            ("foo", "foobar", false),
            ("f*", "foo", true),
            ("*", "foo/bar", true),
            ("foo/*/bar", "foo/bar", false),
            ("foo/*/bar", "foo/x/bar", true),
            ("foo/*/bar", "foo/x/y/bar", false),
            ("foo/**/bar", "foo/bar", true),
            ("foo/**/bar", "foo/x/y/bar", true),
            ("**/bar", "bar", true),
            ("**/bar", "x/y/bar", true),
            ("**/bar", "x/foobar", false),
            ("foo/**", "foo", true),
            ("foo/**", "foo/x/y", true),
            ("patches/*.patch", "patches/a.patch", true),
            ("patches/*.patch", "patches/a+patch", false),
            ("a.b", "axb", false),
            ("", "x/y", true),
        ] {
            assert_eq!(
                pattern_regex(pattern).unwrap().is_match(path),
                matches,
                "{pattern} {path}"
            );
        }
    }
}
