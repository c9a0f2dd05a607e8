//! `MOZ_FETCHES`: a JSON array of entries, each an artifact and what to do with it.

use crate::{
    digest::Sha256Digest,
    error::{Error, Result},
    rel_path::RelPath,
    task::id::{ArtifactName, TaskId},
};
use serde_json::{Map, Value};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The task that made the artifact.
    pub task: TaskId,
    /// Its name.
    pub artifact: ArtifactName,
    /// Whether to extract it if it is an archive.
    pub extract: bool,
    /// Where it goes, below the destination.
    pub dest: RelPath,
    /// Whether the task's chain of trust must vouch for it.
    pub verify_hash: bool,
    /// Its digest, if the entry pins it. Not known to the Python tool.
    pub sha256: Option<Sha256Digest>,
    /// Its size in bytes, if the entry pins it. Not known to the Python tool.
    pub size: Option<u64>,
}

/// A key nobody reads: a spelling mistake in `verify-hash` would otherwise go unnoticed.
#[derive(Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Where it is, such as `MOZ_FETCHES entry 2`.
    pub place: String,
    /// The key.
    pub key: String,
}

/// Parses a list. `from` says where it came from, for messages.
///
/// # Errors
/// [`Error::Usage`] naming the entry and the key.
pub fn parse_entries(json: &str, from: &str) -> Result<(Vec<Entry>, Vec<Unknown>)> {
    let usage = |problem: String| {
        Error::Usage {
        what: format!("{from} {problem}"),
        hint: Some(r#"it is a list such as [{"task": "<task id>", "artifact": "public/build/x.tar.zst", "extract": true}]"#.into()),
    }
    };
    let value: Value =
        serde_json::from_str(json).map_err(|err| usage(format!("is not JSON: {err}")))?;
    let Value::Array(values) = value else {
        return Err(usage(format!("is {}, expected a list", kind_of(&value))));
    };
    let mut unknown = Vec::new();
    let mut entries = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        let place = format!("{from} entry {}", index + 1);
        let Value::Object(keys) = value else {
            return Err(Error::usage(format!(
                "{place} is {}, expected an object",
                kind_of(&value)
            )));
        };
        let mut keys = Keys { place, keys };
        entries.push(entry(&mut keys)?);
        let place = &keys.place;
        unknown.extend(keys.keys.keys().map(|key| Unknown {
            place: place.clone(),
            key: key.clone(),
        }));
    }
    Ok((entries, unknown))
}

fn entry(keys: &mut Keys) -> Result<Entry> {
    let task = keys
        .required("task")?
        .parse()
        .map_err(|err| keys.bad("task", &err))?;
    let artifact = keys
        .required("artifact")?
        .parse()
        .map_err(|err| keys.bad("artifact", &err))?;
    let dest = keys.text("dest")?.unwrap_or_default();
    let dest = dest_path(&dest)
        .map_err(|problem| keys.bad("dest", &format!("`{}` {problem}", dest.escape_debug())))?;
    let sha256 = match keys.text("sha256")? {
        Some(text) => Some(text.parse().map_err(|err| keys.bad("sha256", &err))?),
        None => None,
    };
    let size =
        match keys.keys.remove("size") {
            None | Some(Value::Null) => None,
            Some(value) => Some(value.as_u64().ok_or_else(|| {
                keys.bad("size", &format!("is {value}, expected a number of bytes"))
            })?),
        };
    Ok(Entry {
        task,
        artifact,
        extract: keys.flag("extract", true)?,
        dest,
        verify_hash: keys.flag("verify-hash", false)?,
        sha256,
        size,
    })
}

/// The Python tool joins and normalises, so that `a/../b` is `b`; what would leave the destination is refused here.
fn dest_path(text: &str) -> std::result::Result<RelPath, String> {
    if text.starts_with('/') {
        return Err("is absolute, expected a path below the destination".into());
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in text
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
    {
        if part != ".." {
            parts.push(part);
        } else if parts.pop().is_none() {
            return Err("leaves the destination".into());
        }
    }
    RelPath::parse(parts.join("/").as_bytes()).map_err(|err| err.to_string())
}

/// What is left of an object while it is read.
struct Keys {
    place: String,
    keys: Map<String, Value>,
}

impl Keys {
    fn bad(&self, key: &str, problem: &dyn std::fmt::Display) -> Error {
        Error::usage(format!("{}: `{key}`: {problem}", self.place))
    }

    fn required(&mut self, key: &str) -> Result<String> {
        self.text(key)?
            .ok_or_else(|| Error::usage(format!("{}: `{key}` is missing", self.place)))
    }

    fn text(&mut self, key: &str) -> Result<Option<String>> {
        match self.keys.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => {
                Err(self.bad(key, &format!("is {}, expected a string", kind_of(&other))))
            }
        }
    }

    fn flag(&mut self, key: &str, default: bool) -> Result<bool> {
        match self.keys.remove(key) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(self.bad(
                key,
                &format!("is {}, expected true or false", kind_of(&other)),
            )),
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::parse_entries;

    fn problem(json: &str) -> String {
        parse_entries(json, "MOZ_FETCHES").unwrap_err().to_string()
    }

    #[test]
    fn entries_have_defaults() {
        let (entries, unknown) = parse_entries(
            r#"[{"task": "T", "artifact": "public/x", "dest": null}]"#,
            "f",
        )
        .unwrap();
        assert!(
            entries[0].extract
                && !entries[0].verify_hash
                && entries[0].dest.is_empty()
                && unknown.is_empty()
        );
        assert!(parse_entries("[]", "f").unwrap().0.is_empty());
    }

    #[test]
    fn dest_is_normalised_and_stays_inside() {
        let dest = |dest: &str| {
            let json = serde_json::json!([{"task": "T", "artifact": "public/x", "dest": dest}])
                .to_string();
            parse_entries(&json, "f").map(|(entries, _)| entries[0].dest.to_string())
        };
        for (given, path) in [
            ("", ""),
            (".", ""),
            ("a/b/", "a/b"),
            ("a/../b", "b"),
            ("./a//b", "a/b"),
        ] {
            assert_eq!(dest(given).unwrap(), path);
        }
        for given in ["..", "/tmp", "a/../../b", "a\0b"] {
            assert!(dest(given).is_err(), "{given}");
        }
    }

    #[test]
    fn mistakes_are_named_with_place_and_key() {
        assert!(problem("{").starts_with("MOZ_FETCHES is not JSON: "));
        assert_eq!(problem("{}"), "MOZ_FETCHES is an object, expected a list");
        assert_eq!(
            problem("[1]"),
            "MOZ_FETCHES entry 1 is a number, expected an object"
        );
        assert_eq!(
            problem(r#"[{"artifact": "public/x"}]"#),
            "MOZ_FETCHES entry 1: `task` is missing"
        );
        let two = r#"[{"task": "T", "artifact": "public/x"}, {"task": "T", "artifact": "public/x", KEY}]"#;
        for (key, expected) in [
            (
                r#""extract": "yes""#,
                "`extract`: is a string, expected true or false",
            ),
            (r#""dest": "../x""#, "`dest`: `../x` leaves the destination"),
            (r#""sha256": "abc""#, "`sha256`: `abc` is not a SHA-256"),
            (r#""size": -1"#, "`size`: is -1, expected a number of bytes"),
        ] {
            let problem = problem(&two.replace("KEY", key));
            assert!(
                problem.starts_with(&format!("MOZ_FETCHES entry 2: {expected}")),
                "{problem}"
            );
        }
    }

    #[test]
    fn unknown_keys_are_told() {
        let (_, unknown) = parse_entries(
            r#"[{"task": "T", "artifact": "public/x", "verify_hash": true}]"#,
            "f",
        )
        .unwrap();
        assert_eq!(
            (unknown[0].place.as_str(), unknown[0].key.as_str()),
            ("f entry 1", "verify_hash")
        );
    }
}
