//! New pins for a task, written into the file that it stands in, with all else in it kept to the byte.

use super::{
    fetch_task::FetchTask,
    finding::{Finding, Found},
    yaml::{self, Map, Node, Style, Value},
};
use crate::{
    digest::Sha256Digest,
    error::{self, Result},
    fs,
};
use std::path::Path;

/// What a file becomes.
#[derive(Debug)]
pub struct Edit {
    file: std::path::PathBuf,
    before: String,
    after: String,
}

impl FetchTask {
    /// Prepares to write other pins into the file with this task.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] when they are not written where they can be replaced without changing something else.
    pub fn repin(&self, sha256: &Sha256Digest, size: u64) -> Result<Edit> {
        let file = &self.place.file;
        let before = fs::read_to_string(file)?;
        let after = self.repinned(&before, &sha256.to_string(), size);
        let after = after.map_err(|err| {
            err.of_task(&self.label)
                .hint(format!("write them by hand: sha256 {sha256}, size {size}"))
        })?;
        Ok(Edit {
            file: file.to_path_buf(),
            before,
            after,
        })
    }

    /// Returns the text with the new values.
    fn repinned(&self, text: &str, sha256: &str, size: u64) -> Found<String> {
        let file = &self.place.file;
        let (document, _) = yaml::parse(text, file)?;
        let is_kind = file.file_name() == Some("kind.yml".as_ref());
        let path = [
            if is_kind { &["tasks"][..] } else { &[] },
            &[self.name.as_str(), "fetch"],
        ]
        .concat();
        let fetch = self.own_fetch(&document, &path)?;
        let (old_sha256, old_size) = (self.pin(fetch, "sha256")?, self.pin(fetch, "size")?);
        let sha256_text = match old_sha256.origin.style {
            Style::SingleQuoted => format!("'{sha256}'"),
            // Some digests would be numbers without quotes.
            Style::Plain if yaml::is_plain_text(sha256) => sha256.to_owned(),
            Style::Plain | Style::DoubleQuoted => format!("\"{sha256}\""),
            Style::Other => return Err(Finding::at(old_sha256, "`sha256` is not on one line")),
        };
        if old_size.origin.style != Style::Plain {
            return Err(Finding::at(
                old_size,
                "`size` is not written as a plain number",
            ));
        }
        let mut edits = [
            (&old_sha256.origin.bytes, sha256_text),
            (&old_size.origin.bytes, size.to_string()),
        ];
        edits.sort_by_key(|(bytes, _)| bytes.start);
        let mut edited = text.to_owned();
        for (bytes, new) in edits.iter().rev() {
            edited.replace_range((*bytes).clone(), new);
        }
        let mut expected = document.clone();
        set(
            &mut expected,
            &path,
            "sha256",
            Value::Text(sha256.to_owned()),
        );
        set(&mut expected, &path, "size", Value::Int(size.into()));
        match yaml::parse(&edited, file) {
            Ok((document, _)) if document == expected => Ok(edited),
            _ => Err(Finding::at(
                old_sha256,
                "cannot be edited without changing something else",
            )),
        }
    }

    /// Returns the task's own `fetch:`, which nothing else shares.
    fn own_fetch<'a>(&self, document: &'a Node, path: &[&str]) -> Found<&'a Map> {
        let mut node = document;
        for key in path {
            let next = node
                .map()
                .and_then(|map| map.get(key))
                .filter(|next| !next.origin.shared);
            node = next.ok_or_else(|| self.not_its_own(key))?;
        }
        node.map().ok_or_else(|| self.not_its_own("fetch"))
    }

    fn pin<'a>(&self, fetch: &'a Map, key: &str) -> Found<&'a Node> {
        let node = fetch.get(key).filter(|node| !node.origin.shared);
        node.ok_or_else(|| self.not_its_own(key))
    }

    fn not_its_own(&self, key: &str) -> Finding {
        let text = format!(
            "`{key}` is not the task's own: it comes from defaults, an anchor or a merge key"
        );
        Finding::new(&self.place, text)
    }
}

fn set(node: &mut Node, path: &[&str], key: &str, value: Value) {
    let (next, rest) = path
        .split_first()
        .map_or((key, path), |(next, rest)| (*next, rest));
    let Value::Map(map) = &mut node.value else {
        return;
    };
    match map.get_mut(next) {
        Some(found) if path.is_empty() => found.value = value,
        Some(found) => set(found, rest, key, value),
        None => {}
    }
}

impl Edit {
    /// Whether anything changes.
    #[must_use]
    pub fn is_change(&self) -> bool {
        self.before != self.after
    }

    /// Returns the file that changes.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Writes the file, all at once.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] when it is not any more as it was, [`crate::Error::Fs`] when the disk refuses.
    pub fn write(&self) -> Result<()> {
        if fs::read_to_string(&self.file)? != self.before {
            return Err(error::Error::usage(format!(
                "`{}` was changed by somebody else just now",
                self.file.display()
            )));
        }
        fs::replace(&self.file, self.after.as_bytes())
    }
}
