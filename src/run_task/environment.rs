//! The environment of a task: what run-task takes out of it, what it changes, and what it must not ignore.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

/// The caches that are mounted, joined by `;`.
pub const CACHES: &str = "TASKCLUSTER_CACHES";
/// Set, to whatever, where caches are untrusted.
pub const UNTRUSTED_CACHES: &str = "TASKCLUSTER_UNTRUSTED_CACHES";
/// The volumes of the image, joined by `;`.
pub const VOLUMES: &str = "TASKCLUSTER_VOLUMES";
/// What only run-task needs to know.
pub const PRIVATE: [&str; 3] = [CACHES, UNTRUSTED_CACHES, VOLUMES];

/// Paths that become absolute, since the command may run somewhere else.
const PATHS: [&str; 10] = [
    "CARGO_HOME",
    "GECKO_PATH",
    "MOZ_FETCHES_DIR",
    "MOZ_PYTHON_HOME",
    "MOZ_UV_HOME",
    "RUN_TASK_PRE_COMMAND_HOOK",
    "PIP_CACHE_DIR",
    "UPLOAD_DIR",
    "UV_CACHE_DIR",
    "npm_config_cache",
];

/// Python scripts that would run inside of the Python run-task.
pub(super) const HOOKS: [&str; 2] = ["RUN_TASK_STARTUP_HOOK", "RUN_TASK_PRE_COMMAND_HOOK"];

/// Returns the paths of a variable that joins them by `;`. One that is not set, or empty, has none.
#[must_use]
pub fn paths(variable: &str) -> Vec<PathBuf> {
    split(&env::var_os(variable).unwrap_or_default())
}

fn split(joined: &OsStr) -> Vec<PathBuf> {
    if joined.is_empty() {
        return Vec::new();
    }
    let parts = joined.as_bytes().split(|byte| *byte == b';');
    parts
        .map(|part| PathBuf::from(OsStr::from_bytes(part)))
        .collect()
}

/// Returns the value of a variable that is set and not empty.
///
/// # Errors
/// That it is no text.
pub fn text(variable: &str) -> Result<Option<String>, String> {
    let Some(value) = set(variable) else {
        return Ok(None);
    };
    let text = value.into_string();
    text.map(Some)
        .map_err(|value| format!("error: {variable} is not valid UTF-8: {}", value.display()))
}

/// Returns those of some variables that are set and not empty.
pub fn set_among(variables: impl IntoIterator<Item = String>) -> Vec<String> {
    let set = variables
        .into_iter()
        .filter(|variable| set(variable).is_some());
    set.collect()
}

fn set(variable: &str) -> Option<OsString> {
    env::var_os(variable).filter(|value| !value.is_empty())
}

/// Returns the variables with paths that are set, those of these repositories among them, and the paths as absolute ones.
#[must_use]
pub fn absolute_paths(prefixes: &[String], working_directory: &Path) -> Vec<(String, OsString)> {
    let checkouts = prefixes.iter().map(|prefix| format!("{prefix}_PATH"));
    let variables = PATHS.into_iter().map(str::to_owned).chain(checkouts);
    let set = variables.filter_map(|variable| {
        let path = env::var_os(&variable)?;
        let path = absolute(working_directory, Path::new(&path));
        Some((variable, path.into_os_string()))
    });
    set.collect()
}

/// Makes a path absolute, without looking at the disk: `..` undoes the component before it, even if that is a link.
pub(super) fn absolute(base: &Path, path: &Path) -> PathBuf {
    let mut absolute = PathBuf::new();
    for component in base.join(path).components() {
        match component {
            Component::ParentDir => {
                absolute.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => {
                absolute.push(component);
            }
        }
    }
    absolute
}

/// Shows arguments as Python shows a list of them, in ASCII.
#[must_use]
pub fn shown(arguments: &[OsString]) -> String {
    let shown: Vec<_> = arguments.iter().map(|argument| quoted(argument)).collect();
    format!("[{}]", shown.join(", "))
}

fn quoted(argument: &OsStr) -> String {
    let bytes = argument.as_bytes();
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') {
        '"'
    } else {
        '\''
    };
    let mut text = String::from(quote);
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == quote || character == '\\' {
                text.push('\\');
            }
            text.push_str(&escaped(character));
        }
        for byte in chunk.invalid() {
            // The half of a surrogate pair that Python has for it.
            text.push_str(&escape('u', 0xdc00 + u32::from(*byte), 4));
        }
    }
    text.push(quote);
    text
}

/// Shows a character, if it is not in ASCII or cannot be seen by the escape that Python has for it.
fn escaped(character: char) -> String {
    match u32::from(character) {
        0x0a => "\\n".to_owned(),
        0x0d => "\\r".to_owned(),
        0x09 => "\\t".to_owned(),
        0x20..0x7f => character.to_string(),
        code @ ..0x100 => escape('x', code, 2),
        code @ ..0x1_0000 => escape('u', code, 4),
        code => escape('U', code, 8),
    }
}

fn escape(kind: char, code: u32, digits: usize) -> String {
    format!("\\{kind}{code:0digits$x}")
}

#[cfg(test)]
mod tests {
    use super::{absolute, shown, split};
    use std::{
        ffi::{OsStr, OsString},
        os::unix::ffi::OsStringExt,
        path::{Path, PathBuf},
    };

    #[test]
    fn an_empty_list_has_no_paths() {
        assert!(split(OsStr::new("")).is_empty());
        let expected: Vec<PathBuf> = ["/b", "/a a", ""].map(PathBuf::from).into();
        assert_eq!(split(OsStr::new("/b;/a a;")), expected);
    }

    #[test]
    fn paths_are_made_absolute_by_their_letters() {
        for (path, expected) in [
            ("x", "/w/x"),
            ("./x//y/", "/w/x/y"),
            ("../../..", "/"),
            ("/a/./b/../c", "/a/c"),
            ("", "/w"),
        ] {
            let made = absolute(Path::new("/w"), Path::new(path));
            assert_eq!(made.to_str(), Some(expected), "{path:?}");
        }
    }

    #[test]
    fn arguments_look_like_a_list_of_python() {
        let odd = OsString::from_vec(b"\xe9\xc3\xa9\xe2\x82\xac\xf0\x9f\xa6\x80\x7f".to_vec());
        let arguments = ["a b", "it's", "\"it's\"", "\\\n\t\r"].map(OsString::from);
        assert_eq!(
            shown(&arguments),
            r#"['a b', "it's", '"it\'s"', '\\\n\t\r']"#
        );
        assert_eq!(shown(&[odd]), r"['\udce9\xe9\u20ac\U0001f980\x7f']");
        assert_eq!(shown(&[]), "[]");
    }
}
