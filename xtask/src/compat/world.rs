//! Where a suite runs: a server of its own, and for one of the two ways a daemon with a
//! policy that allows everything.
//!
//! The suite's programs run as `nobody`, in both ways alike, in a directory of their own.
//! In the agent session they get no password: the gate has it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use portcullis_tests::agent::Agent;
use portcullis_tests::daemon::{Daemon, Options};
use portcullis_tests::paths::Binaries;
use portcullis_tests::postgres::{HBA, PostgresServer, Setup};
use portcullis_tests::process::{self, Finished};
use portcullis_tests::shop::SECRETS;
use tempfile::TempDir;

use super::results::{Both, Results};
use crate::build;

/// Debian's fixed number of nobody and nogroup.
const NOBODY: u32 = 65534;
/// How long one run of a suite may take.
const LIMIT: Duration = Duration::from_secs(900);

/// What all suites share.
#[derive(Debug)]
pub struct Tools {
    binaries: Binaries,
    /// `target/compat`.
    pub dir: PathBuf,
    /// See [`Tools::near`].
    near: TempDir,
}

impl Tools {
    /// With the daemon that is to be tested.
    pub fn new(binaries: Binaries) -> Result<Self> {
        let dir = build::target_dir().join("compat");
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let near = tempfile::Builder::new()
            .prefix("portcullis-suites-")
            .tempdir()?;
        fs::set_permissions(near.path(), Permissions::from_mode(0o755)).context("chmod")?;
        Ok(Self {
            binaries,
            dir,
            near,
        })
    }

    /// A copy of a file or directory where everybody may read it: the source tree can be in a
    /// directory that only its owner may enter.
    pub fn near(&self, path: &Path) -> Result<PathBuf> {
        let name = path.file_name().context("a path without a name")?;
        let copy = self.near.path().join(name);
        if !copy.exists() {
            let mut cp = Command::new("cp");
            process::check(cp.arg("-a").arg(path).arg(&copy), "", LIMIT)?;
        }
        Ok(copy)
    }

    /// Runs a suite direct and through the gate, on a new server each time.
    pub fn both(
        &self,
        version: String,
        plan: &Plan,
        mut run: impl FnMut(&World) -> Result<Results>,
    ) -> Result<Both> {
        let direct = run(&World::direct(plan)?).context("direct")?;
        println!("direct: {}", direct.counts());
        let through = run(&World::through(&self.binaries, plan)?).context("through the gate")?;
        println!("through the gate: {}", through.counts());
        Ok(Both {
            version,
            direct,
            through,
        })
    }
}

/// What a suite's server is like.
#[derive(Debug, Default)]
pub struct Plan {
    /// How it is set up.
    pub setup: Setup,
    /// Who gets in without the gate, if not everybody with a password.
    pub hba: Option<String>,
    /// What it has in `postgres` before the suite starts.
    pub sql: String,
}

/// A place to run a suite's programs in.
#[derive(Debug)]
pub struct World {
    // The daemon goes first, then the server: fields are dropped in this order.
    daemon: Option<Daemon>,
    server: PostgresServer,
    dir: TempDir,
}

impl World {
    fn direct(plan: &Plan) -> Result<Self> {
        let world = Self::new(plan)?;
        if let Some(hba) = &plan.hba {
            world.server.admit_by(hba)?;
        }
        Ok(world)
    }

    fn through(binaries: &Binaries, plan: &Plan) -> Result<Self> {
        let mut world = Self::new(plan)?;
        world.server.admit_by(HBA)?;
        let port = world.server.port();
        let mut options = Options::new(policy(port), "");
        options.secrets = vec![("db".into(), world.server.superuser_password().into())];
        options.limits = "{connections: 2000, startup_seconds: 30, message_bytes: 67108864, \
                          drain_seconds: 2}"
            .into();
        options.for_nobody = true;
        world.daemon = Some(Daemon::start(binaries, &options)?);
        Ok(world)
    }

    fn new(plan: &Plan) -> Result<Self> {
        let server = PostgresServer::start_with(&plan.setup)?;
        server
            .sql("postgres", &plan.sql)
            .context("the suite's own set-up")?;
        let dir = tempfile::Builder::new()
            .prefix("portcullis-suite-")
            .tempdir()?;
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).context("chmod")?;
        Ok(Self {
            daemon: None,
            server,
            dir,
        })
    }

    /// The server's port; the agent connects to it as well, or so it thinks.
    pub fn port(&self) -> String {
        self.server.port().to_string()
    }

    /// The server, for what it can be asked past the gate.
    pub fn server(&self) -> &PostgresServer {
        &self.server
    }

    /// A directory that everybody may write to.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A new directory below it that everybody may write to.
    pub fn make_dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o777)).context("chmod")?;
        Ok(path)
    }

    /// Keeps a file of the run for whoever wants to read it, in `target/compat/kept`.
    pub fn keep(&self, file: &Path, suite: &str) -> Result<()> {
        let kept = build::target_dir().join("compat/kept");
        fs::create_dir_all(&kept).with_context(|| format!("make {}", kept.display()))?;
        let way = if self.daemon.is_some() {
            "through"
        } else {
            "direct"
        };
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let to = kept.join(format!("{suite}-{way}-{name}"));
        fs::copy(file, &to).with_context(|| format!("copy to {}", to.display()))?;
        println!("kept: {}", to.display());
        Ok(())
    }

    /// The words as a command of nobody's in the world's directory; libpq's variables say
    /// where the server is.
    pub fn command(&self, words: &[&str], variables: &[(&str, &str)]) -> Result<Command> {
        let (program, arguments) = words.split_first().context("no program")?;
        let port = self.port();
        let fixed = [
            ("PGHOST", "127.0.0.1"),
            ("PGPORT", port.as_str()),
            ("PGUSER", "postgres"),
            ("PGDATABASE", "postgres"),
            ("PGSSLMODE", "disable"),
        ];
        let mut command = match &self.daemon {
            Some(daemon) => Agent::new(daemon, "suite").as_nobody().command(words),
            None => {
                let mut command = Command::new(program);
                command.args(arguments).env_clear().uid(NOBODY).gid(NOBODY);
                let path = std::env::var("PATH").unwrap_or_default();
                command
                    .env("PATH", path)
                    .env("LC_ALL", "C")
                    .env("USER", "nobody");
                command.env("PGPASSWORD", self.server.superuser_password());
                command
            }
        };
        command
            .env("HOME", self.dir.path())
            .envs(fixed)
            .envs(variables.iter().copied())
            .current_dir(self.dir.path());
        Ok(command)
    }

    /// Runs such a command to its end, whatever its exit code.
    pub fn run(&self, words: &[&str], variables: &[(&str, &str)]) -> Result<Finished> {
        process::run(&mut self.command(words, variables)?, "", LIMIT)
    }
}

/// Everything is allowed, also what the gate can't read.
fn policy(port: u16) -> String {
    format!(
        "version: 1\nroles: {{suite: {{}}}}\nservices:\n  db:\n    proto: postgres\n    \
         at: ['127.0.0.1:{port}', 'localhost:{port}']\n    tls: disable\n    user: postgres\n    \
         credential: file:{SECRETS}/db\n    search_path: server\nrules:\n  \
         - {{id: everything, role: suite, allow: ['sql.*', sql.unknown], on: ['db/*']}}\n"
    )
}
