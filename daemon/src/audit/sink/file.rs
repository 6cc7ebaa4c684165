//! The log file: append-only, root-only, always whole lines.
//!
//! A line that was cut short (a full disk, a daemon that was killed) is taken back before
//! the next one is written: it stands for nothing that went on. Absent on purpose: any
//! memory of the file's length, which a rotation may change behind our back.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::super::AuditError;

/// Where each line of ours begins.
const LINE_START: &[u8] = b"{\"time\":\"";
/// A read from the end of the file.
const TAIL: u64 = 4096;

pub(in super::super) struct FileSink {
    path: PathBuf,
    file: File,
    /// Bytes of a cut line at the end that could not be taken back yet.
    torn: u64,
}

impl FileSink {
    pub(in super::super) fn open(path: &Path) -> Result<Self, AuditError> {
        let fail = |call| {
            let path = path.to_owned();
            move |source| AuditError::File { call, path, source }
        };
        let options = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .mode(0o600)
            .clone();
        let mut file = options.open(path).map_err(fail("open"))?;
        let metadata = file.metadata().map_err(fail("stat"))?;
        if metadata.is_file() {
            mend(&mut file, metadata.len()).map_err(fail("mend"))?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            torn: 0,
        })
    }

    pub(in super::super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends whole lines or nothing: first those that waited, then these.
    pub(in super::super) fn append(
        &mut self,
        waited: &[u8],
        lines: &[u8],
    ) -> Result<(), AuditError> {
        self.try_append(waited, lines)
            .map_err(|source| AuditError::File {
                call: "write to",
                path: self.path.clone(),
                source,
            })
    }

    fn try_append(&mut self, waited: &[u8], lines: &[u8]) -> io::Result<()> {
        self.take_back()?;
        let mut parts = [IoSlice::new(waited), IoSlice::new(lines)];
        let mut rest = &mut parts[..];
        // Leaves out what is empty.
        IoSlice::advance_slices(&mut rest, 0);
        let mut done = 0;
        while !rest.is_empty() {
            let written = match self.file.write_vectored(rest) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
                other => other,
            };
            match written {
                Ok(count) => {
                    done += count;
                    IoSlice::advance_slices(&mut rest, count);
                }
                Err(error) => {
                    self.torn = done as u64;
                    // If it can't be now, it is tried again before the next line.
                    let _ = self.take_back();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn take_back(&mut self) -> io::Result<()> {
        if self.torn > 0 {
            let len = self.file.metadata()?.len();
            self.file.set_len(len.saturating_sub(self.torn))?;
            self.torn = 0;
        }
        Ok(())
    }
}

/// Takes back a cut line that an earlier daemon has left at the end.
fn mend(file: &mut File, len: u64) -> io::Result<()> {
    let Some(cut) = cut_line(file, len)? else {
        return Ok(());
    };
    let cut = cut.len() as u64;
    tracing::warn!(
        bytes = cut,
        "the audit log ended in a cut line: it was taken back"
    );
    file.set_len(len - cut)
}

/// What stands behind the last newline; an error if we can't have written it.
fn cut_line(file: &mut File, len: u64) -> io::Result<Option<Vec<u8>>> {
    let mut tail = Vec::new();
    let mut start = len;
    while start > 0 && !tail.contains(&b'\n') {
        let size = start.min(TAIL.max(tail.len() as u64));
        start -= size;
        file.seek(SeekFrom::Start(start))?;
        let mut piece = Vec::new();
        (&*file).take(size).read_to_end(&mut piece)?;
        piece.append(&mut tail);
        tail = piece;
    }
    let line = match tail.iter().rposition(|&byte| byte == b'\n') {
        Some(newline) => tail.split_off(newline + 1),
        None => tail,
    };
    let common = line.len().min(LINE_START.len());
    match (
        line.is_empty(),
        line.get(..common) == LINE_START.get(..common),
    ) {
        (true, _) => Ok(None),
        (false, true) => Ok(Some(line)),
        (false, false) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "its last line is not one of this log's, and has no end",
        )),
    }
}
