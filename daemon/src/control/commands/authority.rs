//! `portcullis authority`.

mod store;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;

use crate::whole;

/// This host's authority, whose certificate lets agents verify the gate by TLS.
///
/// Its key is made once, when portcullisd first starts, and stays in the daemon's state
/// directory. Works without the daemon, as root.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  portcullis authority trust\n  \
                        portcullis authority export /usr/local/share/portcullis.crt")]
pub(super) struct Args {
    /// The daemon's configuration [default: /etc/portcullis/portcullisd.yaml, if there is one].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show whose the certificate is, until when, and its fingerprint.
    Show,
    /// Make the authority now if there is none yet, then show it.
    Make,
    /// Write the certificate as PEM.
    Export {
        /// The file to write [default: standard output].
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Put the certificate into this host's trust store.
    Trust,
    /// Take the certificate out of this host's trust store.
    Untrust,
}

/// The authority's certificate, and what is to be said about it.
#[derive(Debug)]
pub struct Certificate {
    /// As PEM.
    pub pem: String,
    /// For people.
    pub description: String,
}

/// Opens the authority that a configuration file names, and makes it if told to.
pub type OpenAuthority = fn(config: Option<&Path>, make: bool) -> anyhow::Result<Certificate>;

pub(super) fn run(args: &Args, open: OpenAuthority) -> anyhow::Result<ExitCode> {
    let config = args.config.as_deref();
    match &args.command {
        Command::Show => println!("{}", open(config, false)?.description),
        Command::Make => println!("{}", open(config, true)?.description),
        Command::Export { file: None } => print!("{}", open(config, false)?.pem),
        Command::Export { file: Some(file) } => {
            let pem = open(config, false)?.pem;
            write(file, &pem)?;
        }
        Command::Trust => println!("{}", store::trust(&open(config, false)?.pem)?),
        Command::Untrust => println!("{}", store::untrust()?),
    }
    Ok(ExitCode::SUCCESS)
}

/// For everybody to read, whatever the caller's mask is.
fn write(file: &Path, pem: &str) -> anyhow::Result<()> {
    let written = whole::replace(file, pem.as_bytes(), 0o644);
    written.with_context(|| format!("cannot write {}", file.display()))
}
