//! The log file: append-only, root-only, always whole lines.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::super::AuditError;

pub(in super::super) struct FileSink {
    path: PathBuf,
    file: File,
    /// Length up to the last whole line.
    len: u64,
}

impl FileSink {
    pub(in super::super) fn open(path: &Path) -> Result<Self, AuditError> {
        let fail = |call| {
            let path = path.to_owned();
            move |source| AuditError::File { call, path, source }
        };
        let options = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .clone();
        let file = options.open(path).map_err(fail("open"))?;
        let len = file.metadata().map_err(fail("stat"))?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            len,
        })
    }

    pub(in super::super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends whole lines or nothing.
    pub(in super::super) fn append(&mut self, lines: &[u8]) -> Result<(), AuditError> {
        self.try_append(lines).map_err(|source| AuditError::File {
            call: "write to",
            path: self.path.clone(),
            source,
        })
    }

    fn try_append(&mut self, lines: &[u8]) -> io::Result<()> {
        match self.file.write_all(lines) {
            Ok(()) => {
                self.len += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                // A full disk may have taken half a line: take it back.
                self.file.set_len(self.len)?;
                Err(error)
            }
        }
    }
}
