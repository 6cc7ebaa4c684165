//! `portcullisd`: the daemon.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use portcullis::app;
use portcullis::config::Config;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Holds every network connection of the agents on this host.
///
/// Says `ready` (and READY=1 to the service manager) once the kernel programs are attached
/// and checked, the listeners open, the policy loaded and the audit log writable. SIGHUP
/// reads the policies anew and reopens the audit log; SIGTERM lets connections end and
/// stops. The gate stays shut when the daemon stops; `--release` opens it.
#[derive(Debug, Parser)]
#[command(name = "portcullisd", version)]
struct Cli {
    /// The configuration file [default: /etc/portcullis/portcullisd.yaml, if there is one].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check configuration and policies, then exit: 0 if they are good.
    #[arg(long, conflicts_with = "release")]
    check: bool,
    /// Take the gate down: detach the kernel programs, remove their pins and the cgroup.
    #[arg(long)]
    release: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    log();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portcullisd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let config = Config::load(cli.config.as_deref())?;
    if cli.check {
        println!("{}", app::check_policy(&config.policies)?);
        return Ok(());
    }
    if cli.release {
        return app::release(&config);
    }
    app::run(config)
}

/// To the journal when started by systemd, else to stderr. `PORTCULLIS_LOG` sets the level.
fn log() {
    let filter = EnvFilter::try_from_env("PORTCULLIS_LOG").unwrap_or_else(|_| "info".into());
    let registry = tracing_subscriber::registry().with(filter);
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    match journal {
        Some(journal) => registry.with(journal).init(),
        None => {
            let stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
            let ansi = std::io::stderr().is_terminal();
            registry
                .with(stderr.with_target(false).with_ansi(ansi))
                .init();
        }
    }
}
