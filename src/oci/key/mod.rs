//! The names that BuildKit gives to what a build does: SHA-256 over texts. Whoever knows the texts can say of a layer what
//! it is the result of, without BuildKit.
//!
//! They are no published interface. `testdata/oci/key-vectors.json` has what real daemons made; two generations of the
//! same name are both written where BuildKit changed its mind.

use super::{Digest, Platform};
use crate::{digest::Sha256Digest, rel_path::RelPath};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::{fmt::Write, io};

/// The number of what is used of an operation: its first result, or its content.
const FIRST: &str = "0";
const CONTENT: &str = "-1";

/// Which BuildKit computes the name of a merge: a change of its protobuf library changed that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// Before 0.17.
    Old,
    /// Since 0.17.
    New,
}

/// What a file operation has below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing: every `ADD --link`, and a first instruction behind `FROM scratch`.
    Scratch,
    /// What the instructions before it made.
    State,
}

/// An instruction `ADD --checksum=… URL DEST`.
#[derive(Clone, Copy, Debug)]
pub struct Add<'a> {
    /// The last segment of the URL.
    pub file_name: &'a str,
    /// Where it goes: absolute, with a slash at the end of a directory.
    pub dest: &'a str,
    /// Whether it has `--unpack`.
    pub unpack: bool,
}

/// Returns the record of a download with a known checksum. The URL is not in it but for its last segment.
#[must_use]
pub fn http_source(file_name: &str, checksum: &Sha256Digest) -> Digest {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Source<'a> {
        filename: &'a str,
        perm: u32,
        #[serde(rename = "UID")]
        user: u32,
        #[serde(rename = "GID")]
        group: u32,
        checksum: Digest,
    }
    let source = Source {
        filename: file_name,
        perm: 0,
        user: 0,
        group: 0,
        checksum: Digest(*checksum),
    };
    source_record(Digest::of(go_json(&source).as_bytes()))
}

/// Returns the record of an image by the digest that its name was resolved to.
#[must_use]
pub fn image(digest: &Digest, platform: &Platform) -> Digest {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Source<'a> {
        digest: &'a Digest,
        #[serde(rename = "OS")]
        os: &'a str,
        arch: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        variant: Option<&'a str>,
        #[serde(rename = "OSVersion", skip_serializing_if = "Option::is_none")]
        os_version: Option<&'a str>,
    }
    let source = Source {
        digest,
        os: &platform.os,
        arch: &platform.architecture,
        variant: platform.variant.as_deref(),
        os_version: platform.os_version.as_deref(),
    };
    source_record(Digest::of(go_json(&source).as_bytes()))
}

/// Returns the record of an image by its layers, of which there is one at least.
#[must_use]
pub fn image_layers(diff_ids: &[Digest]) -> Option<Digest> {
    chain_id(diff_ids).map(source_record)
}

/// Returns the name of layers on top of each other; none of none.
#[must_use]
pub fn chain_id(diff_ids: &[Digest]) -> Option<Digest> {
    let (first, rest) = diff_ids.split_first()?;
    let on_top = |below: Digest, id: &Digest| Digest::of(format!("{below} {id}").as_bytes());
    Some(rest.iter().fold(*first, on_top))
}

/// Returns what selects a file of a source, by its path with a leading slash.
#[must_use]
pub fn selector(path: &str) -> Digest {
    Digest::of(path.as_bytes())
}

/// Returns the record of the operation that `ADD` becomes.
#[must_use]
pub fn add(add: &Add<'_>, base: Base) -> Digest {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Action<'a> {
        src: &'a str,
        dest: &'a str,
        mode: i32,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        attempt_unpack_docker_compatibility: bool,
        create_dest_path: bool,
        timestamp: i32,
    }
    #[derive(Serialize)]
    struct Operation {
        #[serde(rename = "Type")]
        kind: &'static str,
        #[serde(rename = "Actions")]
        actions: [String; 1],
        #[serde(skip_serializing_if = "Option::is_none")]
        indexes: Option<[[i32; 3]; 1]>,
    }
    let action = Action {
        src: add.file_name,
        dest: add.dest,
        mode: -1,
        attempt_unpack_docker_compatibility: add.unpack,
        create_dest_path: true,
        timestamp: -1,
    };
    let operation = Operation {
        kind: "buildkit.file.v0",
        actions: [STANDARD.encode(go_json(&action))],
        indexes: match base {
            Base::Scratch => Some([[-1, 0, 0]]),
            Base::State => None,
        },
    };
    record(Digest::of(go_json(&operation).as_bytes()), FIRST)
}

/// Returns the record of a merge of two: what was so far, and what is added.
#[must_use]
pub fn merge(generation: Generation) -> Digest {
    let first = match generation {
        Generation::Old => r#"{"input":0}"#,
        Generation::New => "{}",
    };
    let operation =
        format!(r#"{{"Type":"buildkit.merge.v0","Merge":{{"inputs":[{first},{{"input":1}}]}}}}"#);
    record(Digest::of(operation.as_bytes()), FIRST)
}

/// Returns a directory as records have it: absolute, with a slash at its end.
#[must_use]
pub fn directory(path: &RelPath) -> String {
    match &*String::from_utf8_lossy(path.as_bytes()) {
        "" => "/".to_owned(),
        path => format!("/{path}/"),
    }
}

/// A fetch as its own record has it, which nobody but this program asks for.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Own<'a> {
    /// The directory it is in, absolute.
    pub directory: &'a str,
    /// Whether it was to be unpacked, if it is an archive.
    pub extract: bool,
    /// The name of the file that was fetched.
    pub name: &'a str,
    /// Its digest.
    pub sha256: Sha256Digest,
}

/// Returns the record of a fetch in a name space of our own. BuildKit ignores it.
#[must_use]
pub fn own(fetch: &Own<'_>) -> Digest {
    let text = format!("fetch-content.fetch.v0:{}", go_json(fetch));
    record(Digest::of(text.as_bytes()), FIRST)
}

/// Returns the record of content, by the hashes of its files and directories.
#[must_use]
pub fn content(hashes: &[Digest]) -> Digest {
    let hashes: Vec<String> = hashes.iter().map(Digest::to_string).collect();
    record(Digest::of(hashes.join("\0").as_bytes()), CONTENT)
}

/// Returns the hash of a regular file that belongs to root and has no extended attributes.
///
/// # Errors
/// What reading fails with.
pub fn file_content(mode: u32, size: u64, mut content: impl io::Read) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    hasher.update(header(mode, size, '0', b""));
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match content.read(&mut buffer)? {
            0 => break,
            length => hasher.update(&buffer[..length]),
        }
    }
    Ok(Digest(Sha256Digest::from_bytes(hasher.finalize().into())))
}

/// Returns the hash of a symbolic link that belongs to root. Its mode is always the same.
#[must_use]
pub fn symlink_content(target: &[u8]) -> Digest {
    Digest::of(&header(0o777, 0, '2', target))
}

/// Returns the hash of a directory that belongs to root, by the names and hashes of its children.
#[must_use]
pub fn directory_content(mode: u32, children: &[(&[u8], Digest)]) -> Digest {
    let mut children = children.to_vec();
    children.sort_unstable_by_key(|(name, _)| *name);
    let own = Digest::of(&header(mode, 0, '5', b""));
    let mut text = format!("\0{own}").into_bytes();
    for (name, hash) in children {
        text.push(0);
        text.extend_from_slice(name);
        text.extend_from_slice(hash.to_string().as_bytes());
    }
    Digest::of(&text)
}

/// Returns what BuildKit hashes of a file beside its content: the fields of a tar header, without name and times.
fn header(mode: u32, size: u64, kind: char, target: &[u8]) -> Vec<u8> {
    let before = format!("namemode{mode}uid0gid0size{size}typeflag{kind}linkname");
    [before.as_bytes(), target, b"unamegnamedevmajor0devminor0"].concat()
}

fn source_record(key: Digest) -> Digest {
    let operation = Digest::of(format!("buildkit.source.v0:{key}").as_bytes());
    record(operation, FIRST)
}

fn record(operation: Digest, output: &str) -> Digest {
    Digest::of(format!("{operation}@{output}").as_bytes())
}

/// Returns JSON as Go writes it: what is dangerous in HTML is escaped.
fn go_json(value: &impl Serialize) -> String {
    // Only maps whose keys are no texts cannot be written.
    let json = serde_json::to_string(value).unwrap_or_default();
    let mut escaped = String::with_capacity(json.len());
    for char in json.chars() {
        match char {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(escaped, "\\u{:04x}", u32::from(char));
            }
            char => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
