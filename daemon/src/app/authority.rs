//! The authority for `portcullis authority`, which needs no daemon.

use std::path::Path;

use crate::authority::Kept;
use crate::config::Config;
use crate::control::commands::Certificate;

/// The authority of the configuration's state directory. `make`: a new one where there is
/// none.
///
/// # Errors
/// The configuration can't be read; there is no authority, or it is not to be trusted.
pub fn authority(config: Option<&Path>, make: bool) -> anyhow::Result<Certificate> {
    let directory = Config::load(config)?.state_dir;
    let kept = if make {
        Kept::load_or_make(&directory)?
    } else {
        Kept::load(&directory)?
    };
    Ok(Certificate {
        pem: kept.pem(),
        description: kept.describe(),
    })
}
