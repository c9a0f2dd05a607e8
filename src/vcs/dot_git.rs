//! What is published of a repository: the one commit that is checked out, and nothing of how it got here.
//!
//! Left out or written anew is all that depends on time, machine, server or version: logs, hooks, refs and what was
//! fetched beside; the index without the inodes and times of files; the configuration without what git adds by itself;
//! the objects in one pack without deltas, since those that a server sends are of its choice.

use crate::{
    error::Result,
    fs::{self, Dir},
    stream::bridge::run_blocking,
    vcs::program::Git,
};
use std::{
    ffi::OsStr,
    fmt::Write,
    path::{Path, PathBuf},
};

/// What stays in a repository.
const KEPT: [&str; 5] = ["HEAD", "config", "index", "modules", "objects"];

/// Makes the repository of a checkout, and those of its submodules, plain.
pub(super) async fn make_plain(git: &Git, tree: &Path) -> Result<()> {
    let top = tree.join(".git");
    for repository in run_blocking(move || repositories(&top)).await? {
        Plain { git, repository }.make().await?;
    }
    Ok(())
}

/// Returns a repository and those of its submodules.
fn repositories(top: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![top.to_owned()];
    let mut left = vec![top.join("modules")];
    while let Some(directory) = left.pop() {
        if !fs::is_directory(&directory) {
            continue;
        }
        for name in Dir::open(&directory)?.names()? {
            let inside = directory.join(name);
            // Names of submodules may have slashes.
            if fs::is_directory(&inside.join("objects")) {
                left.push(inside.join("modules"));
                found.push(inside);
            } else {
                left.push(inside);
            }
        }
    }
    Ok(found)
}

/// A repository on its way.
struct Plain<'a> {
    git: &'a Git,
    repository: PathBuf,
}

impl Plain<'_> {
    async fn make(&self) -> Result<()> {
        let hash = self
            .ask(&["rev-parse", "--verify", "HEAD^{commit}"], "")
            .await?;
        let hash = hash.trim().to_owned();
        let commit = self.ask(&["cat-file", "commit", &hash], "").await?;
        let configuration = self.ask(&["config", "--local", "-z", "--list"], "").await?;
        let configuration = plain_configuration(&configuration);
        let has_parents = commit
            .lines()
            .take_while(|line| !line.is_empty())
            .any(|line| line.starts_with("parent "));

        let (repository, head) = (self.repository.clone(), format!("{hash}\n"));
        run_blocking(move || {
            forget(&repository)?;
            if has_parents {
                fs::write(&repository.join("shallow"), &head)?;
            }
            fs::write(&repository.join("HEAD"), &head)?;
            fs::write(&repository.join("config"), &configuration)?;
            fs::create_dir(&repository.join("new"))?;
            fs::create_dir(&repository.join("new/pack"))
        })
        .await?;
        let pack = self.repository.join("new/pack/pack");
        let options = [
            "--revs",
            "--quiet",
            "--window=0",
            "--no-reuse-delta",
            "--no-reuse-object",
        ];
        let options = options.map(OsStr::new);
        let args = [
            &[OsStr::new("pack-objects")],
            &options[..],
            &[pack.as_os_str()],
        ]
        .concat();
        self.ask(&args, "HEAD\n").await?;
        let repository = self.repository.clone();
        run_blocking(move || {
            let directory = Dir::open(&repository)?;
            directory.remove_child(OsStr::new("objects"))?;
            directory.rename_child(OsStr::new("new"), &directory, OsStr::new("objects"))
        })
        .await?;
        self.ask(&["read-tree", "HEAD"], "").await.map(drop)
    }

    /// Calls git for this repository.
    async fn ask<A: AsRef<OsStr>>(&self, args: &[A], input: &str) -> Result<String> {
        let of = [OsStr::new("--git-dir"), self.repository.as_os_str()];
        let args: Vec<_> = of
            .into_iter()
            .chain(args.iter().map(AsRef::as_ref))
            .collect();
        let call = self.git.call(&args).published().input(input);
        let said = call.run("make the .git directory plain").await?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }
}

/// Removes from a repository what is not published, and what is made anew.
fn forget(repository: &Path) -> Result<()> {
    let directory = Dir::open(repository)?;
    for name in directory.names()? {
        if !KEPT.iter().any(|kept| name == *kept) || name == "index" {
            directory.remove_child(&name)?;
        }
    }
    for name in ["refs", "refs/heads", "refs/tags"] {
        fs::create_dir(&repository.join(name))?;
    }
    Ok(())
}

/// Returns the file that says what `listed` does, which is what `git config -z --list` writes, as far as it matters to
/// whoever uses the repository.
fn plain_configuration(listed: &str) -> String {
    let mut kept: Vec<(&str, &str, &str)> = Vec::new();
    for entry in listed.split_terminator('\0') {
        // Without a value it is true.
        let (key, value) = entry.split_once('\n').unwrap_or((entry, "true"));
        let (Some((section, _)), Some((path, name))) = (key.split_once('.'), key.rsplit_once('.'))
        else {
            continue;
        };
        let matters = match section {
            "core" => matches!(
                name,
                "repositoryformatversion" | "filemode" | "bare" | "worktree"
            ),
            "remote" => key == "remote.origin.url",
            "submodule" => path != section,
            "extensions" => true,
            _ => false,
        };
        if matters {
            kept.push((path, name, value));
        }
    }
    kept.push(("core", "logallrefupdates", "true"));
    kept.sort_unstable();
    let (mut text, mut last) = (String::new(), "");
    for (path, name, value) in kept {
        if path != last {
            let header = match path.split_once('.') {
                Some((section, of)) => format!("{section} \"{}\"", escape(of)),
                None => path.to_owned(),
            };
            // Writing to a text does not fail.
            let _ = writeln!(text, "[{header}]");
            last = path;
        }
        let _ = writeln!(text, "\t{name} = {}", quote(value));
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"")
}

/// Writes a value so that it is read as it is.
fn quote(value: &str) -> String {
    let plain = |char: char| char.is_ascii_graphic() && !"#;\"\\".contains(char);
    if value.chars().all(plain) && !value.is_empty() {
        return value.to_owned();
    }
    let value = escape(value).replace('\n', r"\n").replace('\t', r"\t");
    format!("\"{value}\"")
}

#[cfg(test)]
mod tests {
    use super::plain_configuration;

    #[test]
    fn only_what_matters_stays_in_the_configuration() {
        let listed = "core.bare\nfalse\0core.ignorecase\ntrue\0remote.origin.url\nhttps://h/a b\0\
                      remote.origin.fetch\n+x\0branch.main.merge\nx\0submodule.a.\"b.url\n#1\0\
                      submodule.active\n.\0submodule.a.\"b.active\0extensions.objectformat\nsha256\0";
        assert_eq!(
            plain_configuration(listed),
            "[core]\n\tbare = false\n\tlogallrefupdates = true\n[extensions]\n\tobjectformat = sha256\n\
             [remote \"origin\"]\n\turl = \"https://h/a b\"\n\
             [submodule \"a.\\\"b\"]\n\tactive = true\n\turl = \"#1\"\n"
        );
    }
}
