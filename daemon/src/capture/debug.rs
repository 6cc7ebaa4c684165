//! The kernel programs' own log, for whoever works on them: `PORTCULLIS_LOG=debug`.
//!
//! Off it costs nothing: with level 0 the verifier drops the programs' log calls. What
//! administrators need to know comes as events, never from here.

use std::sync::{Mutex, PoisonError};

use aya::Ebpf;
use aya_log::{EbpfLogger, Level};
use log::Log;

/// The level that the programs are loaded with.
pub(super) fn level() -> u8 {
    if tracing::enabled!(tracing::Level::DEBUG) {
        Level::Debug as u8
    } else {
        0
    }
}

/// Reads the programs' log; nothing when it is off.
#[derive(Default)]
pub(super) struct DebugLog(Option<Mutex<EbpfLogger<&'static dyn Log>>>);

impl DebugLog {
    /// Takes the log's ring buffer out of the object.
    pub(super) fn take(object: &mut Ebpf) -> Self {
        if level() == 0 {
            return Self::default();
        }
        match EbpfLogger::init(object) {
            Ok(logger) => Self(Some(Mutex::new(logger))),
            Err(error) => {
                tracing::warn!("the kernel programs' debug log can't be read: {error}");
                Self::default()
            }
        }
    }

    /// Passes on what the programs have written.
    pub(super) fn flush(&self) {
        if let Some(logger) = &self.0 {
            logger
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .flush();
        }
    }
}
