//! [`Members`]: a layout in a tar, read where it is.

use crate::{
    archive::{self, Limits, Position},
    error::{Error, Result},
    fs::{self, Outgoing},
    rel_path::RelPath,
};
use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The files in a tar.
#[derive(Debug)]
pub(super) struct Members {
    path: PathBuf,
    file: Arc<File>,
    positions: HashMap<String, Position>,
}

impl Members {
    /// Looks for the files in a tar. Of two with the same name, the last one counts.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let positions = archive::positions(fs::open(path)?, &Limits::default()).map_err(|err| {
            Error::Usage {
                what: format!(
                    "`{}` is no image layout: neither a directory nor an uncompressed tar: {err}",
                    path.display()
                ),
                hint: None,
            }
        })?;
        let named = positions.into_iter().filter_map(|position| {
            let name = RelPath::strip_root(&position.name).ok()?;
            let name = String::from_utf8(name.as_bytes().to_vec()).ok()?;
            Some((name, position))
        });
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(fs::open(path)?),
            positions: named.collect(),
        })
    }

    /// Opens a file and returns its size in bytes.
    pub(super) fn open(&self, name: &str) -> Result<(Box<dyn Read + Send>, u64)> {
        let position = self.position(name)?;
        let part = Part {
            file: Arc::clone(&self.file),
            offset: position.offset,
            left: position.size,
        };
        Ok((Box::new(part), position.size))
    }

    /// Returns a file as something to be sent.
    pub(super) fn outgoing(&self, name: &str) -> Result<Outgoing> {
        let position = self.position(name)?;
        Ok(Outgoing::at(&self.path)?.part(position.offset, position.size))
    }

    fn position(&self, name: &str) -> Result<&Position> {
        self.positions.get(name).ok_or_else(|| Error::Fs {
            action: "open",
            path: self.path.join(name),
            source: io::ErrorKind::NotFound.into(),
        })
    }
}

/// Reads a part of a file that others read at the same time.
struct Part {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX);
        let wanted = wanted.min(buffer.len());
        let length = self.file.read_at(&mut buffer[..wanted], self.offset)?;
        self.offset += length as u64;
        self.left -= length as u64;
        Ok(length)
    }
}
