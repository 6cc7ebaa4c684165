//! The authority: for the daemon, once agents are kept from it, and for `portcullis
//! authority`, which needs no daemon.

use std::path::Path;

use anyhow::Context;

use super::hidden;
use crate::authority::{Authority, Kept};
use crate::capture::{Gate, cgroupfs};
use crate::config::Config;
use crate::control::commands::Certificate;
use crate::control::{agent_socket, inside};
use crate::policy::Policy;

/// Hides the daemon's files from every session, and opens the authority after that. Where
/// agents that live could reach its directory before, as after an upgrade, one that is there
/// may be theirs: it is doubted, and not taken until somebody has looked. A daemon that is
/// killed anywhere on the way has settled nothing.
///
/// # Errors
/// There is such a one; files can't be hidden; the authority is not to be trusted.
pub(super) fn hide_and_open(
    config: &Config,
    gate: &Gate,
    policy: &Policy,
) -> anyhow::Result<Authority> {
    let directory = &config.state_dir;
    // What is not there can't be hidden.
    Kept::make_directory(directory)?;
    inside::make_directory(&agent_socket(&config.socket()))?;
    let own = hidden::from_every_session(&hidden::by_config(config), policy);
    gate.set_own_files(&own)?;
    // From here on no agent reaches it, so what is asked now stays so.
    let inhabited = cgroupfs::is_populated(gate.enforced()).context("read cgroup.events")?;
    let reached = !gate.is_settled(directory)? && inhabited;
    let authority = if Kept::is_there(directory) {
        if reached {
            Kept::doubt(directory)?;
        }
        Authority::open(directory)?
    } else {
        Authority::make(directory)?
    };
    gate.settle(directory)?;
    Ok(authority)
}

/// The authority of the configuration's state directory. `make`: a new one where there is
/// none.
///
/// # Errors
/// The configuration can't be read; there is no authority, or it is not to be trusted.
pub fn authority(config: Option<&Path>, make: bool) -> anyhow::Result<Certificate> {
    let directory = Config::load(config)?.state_dir;
    let kept = if make {
        Kept::make_directory(&directory)?;
        Kept::load_or_make(&directory)?
    } else {
        Kept::load(&directory)?
    };
    Ok(Certificate {
        pem: kept.pem(),
        description: kept.describe(),
    })
}
