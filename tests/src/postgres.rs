//! A private PostgreSQL server: own directory, random loopback port, SCRAM-SHA-256 for
//! everyone, the superuser too; trust for nobody. TLS is off and fsync is off.
//!
//! The passwords are made anew for each server, so that a test can search for them.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::User;
use tempfile::TempDir;

use crate::process::{self, Process};
use crate::{paths, port, wait};

/// How long the server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a server is started with; the default is this module's.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The directory of the server's programs; none for the newest version installed.
    pub bin: Option<PathBuf>,
    /// Further lines of `postgresql.conf`.
    pub settings: String,
    /// The lines of `pg_hba.conf`; none for SCRAM-SHA-256 for everybody.
    pub hba: Option<String>,
    /// The port; none for any that is free.
    pub port: Option<u16>,
}

/// Who gets in, and how, unless a [`Setup`] says otherwise.
pub const HBA: &str = "local all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n";

/// A running server; stopped and removed when dropped.
#[derive(Debug)]
pub struct PostgresServer {
    // The process before the directory: fields are dropped in this order.
    process: Option<Process>,
    bin: PathBuf,
    port: u16,
    superuser_password: String,
    agent_password: String,
    dir: TempDir,
}

impl PostgresServer {
    /// An empty server with the database `postgres`.
    pub fn start() -> Result<Self> {
        Self::start_with(&Setup::default())
    }

    /// The same, set up in another way.
    pub fn start_with(setup: &Setup) -> Result<Self> {
        let bin = match &setup.bin {
            Some(bin) => bin.clone(),
            None => paths::postgres_bin()?,
        };
        let dir = tempfile::Builder::new()
            .prefix("portcullis-pg-")
            .tempdir()
            .context("temporary directory")?;
        // The server's account must be able to enter; what is inside is its own.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).context("chmod")?;
        let mut server = Self {
            process: None,
            bin,
            port: 0,
            superuser_password: random_password()?,
            agent_password: random_password()?,
            dir,
        };
        server.init(setup)?;
        server.launch(setup.port)?;
        Ok(server)
    }

    /// The loopback port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The password of the role `agent_ro`, which the gate presents.
    pub fn agent_password(&self) -> &str {
        &self.agent_password
    }

    /// The password of the superuser `postgres`.
    pub fn superuser_password(&self) -> &str {
        &self.superuser_password
    }

    /// The directory of PostgreSQL's programs (psql, pgbench).
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Runs SQL as the superuser, past the gate; the rows, unaligned, without headers.
    pub fn sql(&self, database: &str, text: &str) -> Result<String> {
        let mut command = Command::new(self.bin.join("psql"));
        command
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                "127.0.0.1",
            ])
            .args([
                "-p",
                &self.port.to_string(),
                "-U",
                "postgres",
                "-d",
                database,
            ])
            .env("PGPASSWORD", &self.superuser_password);
        let rows = process::check(&mut command, text, PATIENCE)?;
        Ok(rows.trim_end().to_owned())
    }

    /// Puts these rules before the others of `pg_hba.conf`, and waits until they count.
    pub fn admit(&self, rules: &str) -> Result<()> {
        self.admit_by(&format!("{rules}\n{HBA}"))
    }

    /// Replaces `pg_hba.conf`, and waits until it counts.
    pub fn admit_by(&self, hba: &str) -> Result<()> {
        let loaded = "SELECT pg_conf_load_time()";
        let before = self.sql("postgres", loaded)?;
        fs::write(self.data().join("pg_hba.conf"), hba).context("write pg_hba.conf")?;
        let wrong = "SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL";
        let wrong = self.sql("postgres", wrong)?;
        anyhow::ensure!(wrong == "0", "{wrong} lines of pg_hba.conf are wrong");
        self.sql("postgres", "SELECT pg_reload_conf()")?;
        // A backend that shows the new time was started after the rules were read.
        wait::until("pg_hba.conf to be read", PATIENCE, || {
            let now = self.sql("postgres", loaded)?;
            Ok((now != before).then_some(()))
        })
    }

    /// Stops the server; its data stay.
    pub fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            // "Immediate": a client that stays connected can't hold it up.
            Some(mut process) => process.stop(Signal::SIGQUIT).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Starts the stopped server again on the same port.
    pub fn start_again(&mut self) -> Result<()> {
        self.spawn()
    }

    fn init(&self, setup: &Setup) -> Result<()> {
        let (data, password) = (self.data(), self.dir.path().join("pw"));
        for dir in [data.clone(), self.dir.path().join("sock")] {
            fs::create_dir(&dir).with_context(|| format!("mkdir {}", dir.display()))?;
            give_to_postgres(&dir)?;
        }
        fs::write(&password, &self.superuser_password).context("write the password file")?;
        fs::set_permissions(&password, Permissions::from_mode(0o600)).context("chmod")?;
        give_to_postgres(&password)?;
        let mut command = self.as_postgres("initdb")?;
        command
            .args([
                "--no-sync",
                "-A",
                "scram-sha-256",
                "-U",
                "postgres",
                "-E",
                "UTF8",
            ])
            .args(["--locale=C", "-D"])
            .arg(&data)
            .arg(format!("--pwfile={}", password.display()));
        process::check(&mut command, "", PATIENCE)?;
        fs::remove_file(&password).context("remove the password file")?;
        self.configure(setup)
    }

    fn configure(&self, setup: &Setup) -> Result<()> {
        let socket_dir = self.dir.path().join("sock");
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\n\
             password_encryption = 'scram-sha-256'\nfsync = off\nmax_connections = 600\n\
             shared_buffers = '64MB'\nlog_min_messages = warning\n{}",
            socket_dir.display(),
            setup.settings,
        );
        let conf = self.data().join("postgresql.conf");
        let old = fs::read_to_string(&conf).context("read postgresql.conf")?;
        fs::write(&conf, old + &settings).context("write postgresql.conf")?;
        let hba = setup.hba.as_deref().unwrap_or(HBA);
        fs::write(self.data().join("pg_hba.conf"), hba).context("write pg_hba.conf")
    }

    /// Another program may take the port between our look and the server's bind.
    fn launch(&mut self, fixed: Option<u16>) -> Result<()> {
        if let Some(port) = fixed {
            self.port = port;
            return self.spawn();
        }
        let mut last = None;
        for _ in 0..3 {
            self.port = port::free()?;
            match self.spawn() {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no attempt was made")?)
    }

    fn spawn(&mut self) -> Result<()> {
        let log_path = self.dir.path().join("log");
        let log = File::create(&log_path).context("create the log")?;
        let mut command = self.as_postgres("postgres")?;
        command
            .args(["-p", &self.port.to_string(), "-D"])
            .arg(self.data())
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("dup")?)
            .stderr(log);
        let mut process = Process::spawn(&mut command, Signal::SIGQUIT)?;
        wait::until("PostgreSQL to accept connections", PATIENCE, || {
            if let Some(status) = process.ended()? {
                bail!(
                    "postgres ended ({status}): {}",
                    process::tail(&log_path, 20)
                );
            }
            Ok(self.sql("postgres", "select 1").is_ok().then_some(()))
        })?;
        self.process = Some(process);
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A server program, as the account `postgres`: the server refuses to run as root.
    fn as_postgres(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir("/");
        if nix::unistd::geteuid().is_root() {
            let user = postgres_user()?;
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        Ok(command)
    }
}

/// The account that Debian's packages run database programs as.
pub(crate) fn postgres_user() -> Result<User> {
    User::from_name("postgres")
        .context("getpwnam postgres")?
        .context("no account `postgres`: run `cargo xtask setup`")
}

/// Makes the account `postgres` the owner of a file, when we are root.
pub(crate) fn give_to_postgres(path: &Path) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let user = postgres_user()?;
    nix::unistd::chown(path, Some(user.uid), Some(user.gid))
        .with_context(|| format!("chown {}", path.display()))
}

/// 32 hexadecimal digits, unlike any other text on the machine.
fn random_password() -> Result<String> {
    let mut bytes = [0_u8; 16];
    let mut urandom = File::open("/dev/urandom").context("open /dev/urandom")?;
    std::io::Read::read_exact(&mut urandom, &mut bytes).context("read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
