//! A private PgBouncer in session mode, with the same credential as the gate: what the
//! benchmark compares with.

use std::fs::{self, File, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::postgres::{PostgresServer, give_to_postgres, postgres_user};
use crate::process::{self, Process};
use crate::{port, wait};

const PATIENCE: Duration = Duration::from_secs(20);
const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// A running PgBouncer; stopped and removed when dropped.
#[derive(Debug)]
pub struct PgBouncer {
    process: Process,
    port: u16,
    _dir: TempDir,
}

impl PgBouncer {
    /// Starts one in front of the server, for every database of it, as `agent_ro`.
    pub fn start(server: &PostgresServer) -> Result<Self> {
        if !Path::new(PROGRAM).exists() {
            bail!("{PROGRAM} is missing: run `cargo xtask setup`");
        }
        let dir = tempfile::Builder::new()
            .prefix("portcullis-pgb-")
            .tempdir()?;
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).context("chmod")?;
        let port = port::free()?;
        let (ini, users) = (dir.path().join("pgbouncer.ini"), dir.path().join("users"));
        fs::write(
            &users,
            format!("\"agent_ro\" \"{}\"\n", server.agent_password()),
        )
        .context("write the user list")?;
        fs::set_permissions(&users, Permissions::from_mode(0o600)).context("chmod")?;
        fs::write(&ini, settings(server.port(), port, &users)).context("write pgbouncer.ini")?;
        for path in [&ini, &users] {
            give_to_postgres(path)?;
        }
        let log_path = dir.path().join("log");
        let log = File::create(&log_path).context("create the log")?;
        let mut command = Command::new(PROGRAM);
        command.arg(&ini).current_dir("/").stdin(Stdio::null());
        command.stdout(log.try_clone().context("dup")?).stderr(log);
        if nix::unistd::geteuid().is_root() {
            let user = postgres_user()?;
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        let mut process = Process::spawn(&mut command, Signal::SIGTERM)?;
        wait::until("PgBouncer to accept connections", PATIENCE, || {
            if let Some(status) = process.ended()? {
                bail!(
                    "pgbouncer ended ({status}): {}",
                    process::tail(&log_path, 20)
                );
            }
            Ok(TcpStream::connect(("127.0.0.1", port)).ok())
        })?;
        Ok(Self {
            process,
            port,
            _dir: dir,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The loopback port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn settings(upstream: u16, port: u16, users: &Path) -> String {
    format!(
        "[databases]\n* = host=127.0.0.1 port={upstream}\n[pgbouncer]\n\
         listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = scram-sha-256\nauth_file = {}\npool_mode = session\n\
         max_client_conn = 2100\ndefault_pool_size = 2050\n\
         ignore_startup_parameters = extra_float_digits\n",
        users.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_a_login_with_the_same_password() {
        let server = crate::shop::server().expect("server");
        let bouncer = PgBouncer::start(&server).expect("pgbouncer");
        let select = |password: &str| {
            let mut psql = Command::new("psql");
            psql.args([
                "-XAtq",
                "-h",
                "127.0.0.1",
                "-p",
                &bouncer.port().to_string(),
            ])
            .args([
                "-U",
                "agent_ro",
                "-d",
                "shop",
                "-c",
                "select count(*) from orders",
            ])
            .env("PGPASSWORD", password);
            process::run(&mut psql, "", PATIENCE).expect("psql")
        };
        assert_eq!(select(server.agent_password()).stdout.trim(), "300");
        assert_ne!(select("wrong").code(), 0);
    }
}
