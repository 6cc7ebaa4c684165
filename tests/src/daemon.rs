//! The daemon under test: own configuration, own cgroup, own pins on its own bpffs, own
//! port, so that several can run beside each other and beside an installed one.
//!
//! Dropping it stops the daemon, ends what is left in its cgroup, lets `--release` take the
//! programs off and removes the directory, whatever state a test left it in.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::leftovers::Leftovers;
use crate::paths::Binaries;
use crate::process::{self, Finished, Process};
use crate::{audit, leftovers, port, shop, wait};

/// How long the daemon may take to say ready. Debug builds load slowly on a busy machine.
const START: Duration = Duration::from_secs(60);
/// How long a record may take to be readable.
pub const RECORD: Duration = Duration::from_secs(10);

/// What a daemon is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The policy's text. [`shop::SECRETS`] in it becomes the guard's own directory.
    pub policy: String,
    /// Secret files: name and content.
    pub secrets: Vec<(String, String)>,
    /// `limits:` of the configuration, as YAML flow.
    pub limits: String,
    /// `audit.journald`.
    pub journald: &'static str,
    /// `gate.accept_degraded`, as YAML flow: what the tests' kernels do not have.
    pub accept_degraded: &'static str,
    /// Further lines of the configuration.
    pub extra: String,
    /// Lets the account `nobody` use the control socket, and puts a copy of `portcullis`
    /// where it can be run: the build directory may be closed to others.
    pub for_nobody: bool,
    /// The daemon's own `/etc/hosts`; empty for the host's.
    pub hosts: String,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
}

impl Options {
    /// For one service whose credential is in the secret file `shop`.
    pub fn new(policy: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            policy: policy.into(),
            secrets: vec![("shop".into(), password.into())],
            limits:
                "{connections: 2000, startup_seconds: 3, message_bytes: 16777216, drain_seconds: 2}"
                    .into(),
            journald: "off",
            accept_degraded: "[lsm]",
            extra: String::new(),
            for_nobody: false,
            hosts: String::new(),
            environment: Vec::new(),
        }
    }
}

/// The daemon's directory, and the daemon while it runs.
#[derive(Debug)]
pub struct Daemon {
    // The process before the directory: fields are dropped in this order.
    process: Option<Process>,
    binaries: Binaries,
    environment: Vec<(String, String)>,
    cgroup: String,
    released: bool,
    dir: TempDir,
}

impl Daemon {
    /// Lays the files out, starts the daemon and waits until it is ready.
    pub fn start(binaries: &Binaries, options: &Options) -> Result<Self> {
        let mut daemon = Self::prepare(binaries, options)?;
        daemon.launch()?;
        Ok(daemon)
    }

    /// Lays the files out and starts nothing.
    pub fn prepare(binaries: &Binaries, options: &Options) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::Builder::new().prefix("portcullis-d-").tempdir()?;
        // Agents of other accounts must reach the socket; the secrets have their own mode.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).context("chmod")?;
        let mut daemon = Self {
            process: None,
            binaries: binaries.clone(),
            environment: options.environment.clone(),
            cgroup: format!("portcullis-e2e-{}-{number}", std::process::id()),
            released: false,
            dir,
        };
        for name in ["policies", "secrets", "run", "bpf", "log"] {
            let path = daemon.path(name);
            fs::create_dir(&path).with_context(|| format!("mkdir {}", path.display()))?;
        }
        fs::set_permissions(daemon.path("secrets"), Permissions::from_mode(0o700))?;
        for (name, secret) in &options.secrets {
            let path = daemon.path("secrets").join(name);
            fs::write(&path, secret).with_context(|| format!("write {}", path.display()))?;
            fs::set_permissions(&path, Permissions::from_mode(0o600)).context("chmod")?;
        }
        if options.for_nobody {
            daemon.binaries.client = daemon.path("portcullis");
            fs::copy(&binaries.client, &daemon.binaries.client).context("copy portcullis")?;
        }
        if !options.hosts.is_empty() {
            daemon.take_hosts(&options.hosts)?;
        }
        daemon.write_policy(&options.policy)?;
        fs::write(daemon.config(), daemon.config_text(options)?).context("write the config")?;
        Ok(daemon)
    }

    /// The daemon gets a mount namespace of its own, with another `/etc/hosts`. Its bpffs
    /// must be seen from here too, so it is mounted before.
    fn take_hosts(&self, hosts: &str) -> Result<()> {
        fs::write(self.path("hosts"), hosts).context("write hosts")?;
        let (kind, flags) = (Some("bpf"), MsFlags::empty());
        mount(
            Some("bpf"),
            &self.path("bpf"),
            kind,
            flags,
            Some("mode=0700"),
        )
        .context("bpffs")
    }

    fn config_text(&self, options: &Options) -> Result<String> {
        let dir = self.dir.path().display();
        let (cgroup, port) = (&self.cgroup, port::free_privileged()?);
        let (journald, limits) = (options.journald, &options.limits);
        let (accepted, extra) = (options.accept_degraded, &options.extra);
        let control = if options.for_nobody {
            "control: {group: nogroup}\n"
        } else {
            ""
        };
        Ok(format!(
            "policies: {dir}/policies\nrun_dir: {dir}/run\nstate_dir: {dir}/state\n\
             gate: {{cgroup: {cgroup}, port: {port}, bpffs: {dir}/bpf, pins: {cgroup}, \
             accept_degraded: {accepted}}}\n\
             audit: {{file: {dir}/log/audit.jsonl, journald: {journald}}}\nlimits: {limits}\n{control}{extra}"
        ))
    }

    /// Starts it and waits for `READY=1`.
    pub fn launch(&mut self) -> Result<()> {
        let notify = self.path("notify.sock");
        // From an earlier start.
        let _ = fs::remove_file(&notify);
        let socket = UnixDatagram::bind(&notify).context("bind the notify socket")?;
        socket.set_nonblocking(true).context("notify socket")?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let mut command = self.command();
        command.env("NOTIFY_SOCKET", &notify).stdin(Stdio::null());
        command.stdout(log.try_clone().context("dup")?).stderr(log);
        let mut process = Process::spawn(&mut command, Signal::SIGTERM)?;
        wait::until("the daemon to say ready", START, || {
            if let Some(status) = process.ended()? {
                bail!(
                    "portcullisd ended ({status}): {}",
                    process::tail(&self.log_path(), 20)
                );
            }
            let mut message = [0_u8; 512];
            let length = socket.recv(&mut message).unwrap_or(0);
            let message = String::from_utf8_lossy(&message[..length]).into_owned();
            Ok(message.lines().any(|line| line == "READY=1").then_some(()))
        })
        .with_context(|| process::tail(&self.log_path(), 20))?;
        self.process = Some(process);
        Ok(())
    }

    /// Runs the daemon where it is expected to end by itself at once.
    pub fn run_to_end(&self, args: &[&str]) -> Result<Finished> {
        process::run(self.command().args(args), "", START)
    }

    /// `portcullisd --config FILE`.
    pub fn command(&self) -> Command {
        let mut command = if self.path("hosts").exists() {
            let mut own = Command::new("unshare");
            own.args(["--mount", "--propagation", "slave", "sh", "-c"]);
            own.arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"");
            own.arg(self.path("hosts")).arg(&self.binaries.daemon);
            own
        } else {
            Command::new(&self.binaries.daemon)
        };
        command.arg("--config").arg(self.config());
        command
            .env_remove("NOTIFY_SOCKET")
            .env_remove("JOURNAL_STREAM")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// `portcullis --socket FILE`.
    pub fn client(&self) -> Command {
        let mut command = Command::new(&self.binaries.client);
        command.arg("--socket").arg(self.path("run/control.sock"));
        command
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Kills it as a crash would: no chance to clean up.
    pub fn kill9(&mut self) -> Result<()> {
        self.stop_with(Signal::SIGKILL)
    }

    /// Asks it to drain and stop; an error if it ends with another code than 0.
    pub fn stop(&mut self) -> Result<()> {
        self.stop_with(Signal::SIGTERM)
    }

    fn stop_with(&mut self, signal: Signal) -> Result<()> {
        let mut process = self.process.take().context("the daemon does not run")?;
        let status = process.stop(signal)?;
        if signal != Signal::SIGKILL && !status.success() {
            bail!(
                "portcullisd ended ({status}): {}",
                process::tail(&self.log_path(), 20)
            );
        }
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process
            .as_mut()
            .context("the daemon does not run")?
            .signal(signal)
    }

    /// Replaces the policy file in one step, as an editor or a deployment does.
    pub fn write_policy(&self, text: &str) -> Result<()> {
        let secrets = self.path("secrets").display().to_string();
        let new = self.path("policies").join(".new");
        fs::write(&new, text.replace(shop::SECRETS, &secrets)).context("write the policy")?;
        fs::rename(&new, self.policy_path()).context("rename the policy")
    }

    /// The policy file.
    pub fn policy_path(&self) -> PathBuf {
        self.path("policies/policy.yaml")
    }

    /// A file of its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.path("portcullisd.yaml")
    }

    fn log_path(&self) -> PathBuf {
        self.path("daemon.log")
    }

    /// What it has logged so far, over all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The record.
    pub fn audit_path(&self) -> PathBuf {
        self.path("log/audit.jsonl")
    }

    /// The record's lines so far.
    pub fn audit(&self) -> Result<Vec<Value>> {
        audit::read(&self.audit_path())
    }

    /// Waits for a line of the record.
    pub fn audit_line(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        let look = || Ok(self.audit()?.into_iter().find(|line| fits(line)));
        wait::until(&format!("a record: {what}"), RECORD, look)
            .with_context(|| process::tail(&self.audit_path(), 10))
    }

    /// Waits for the decision on a statement that contains `part`.
    pub fn decision(&self, part: &str) -> Result<Value> {
        self.audit_line(&format!("decision on `{part}`"), |line| {
            audit::is_decision(line, part)
        })
    }

    /// What must be gone after [`Daemon::release`].
    pub fn leftovers(&self) -> Leftovers {
        Leftovers {
            cgroup: leftovers::cgroup2_mount().map(|mount| mount.join(&self.cgroup)),
            bpffs: self.path("bpf"),
            pins: self.cgroup.clone(),
        }
    }

    /// Ends everything that runs in its cgroup, stops it, takes the gate off.
    pub fn release(&mut self) -> Result<()> {
        self.released = true;
        let left = self.leftovers();
        left.end_processes()?;
        if self.process.is_some() {
            self.stop()?;
        }
        let done = self.run_to_end(&["--release"])?;
        if done.code() != 0 {
            bail!(
                "portcullisd --release ended with {}: {}",
                done.code(),
                done.both().trim()
            );
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- the daemon's log ---\n{}",
                process::tail(&self.log_path(), 40)
            );
            eprintln!(
                "--- its record ---\n{}",
                process::tail(&self.audit_path(), 20)
            );
        }
        let left = self.leftovers();
        let was_used =
            self.process.is_some() || left.cgroup.as_ref().is_some_and(|dir| dir.exists());
        if was_used
            && !self.released
            && let Err(error) = self.release()
        {
            eprintln!("{error:#}");
        }
        self.process = None;
        left.sweep();
    }
}

/// A file that only root may read, for tests that need one more secret.
pub fn write_private(path: &Path, content: &str) -> Result<()> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    file.set_permissions(Permissions::from_mode(0o600))
        .context("chmod")?;
    fs::write(path, content).with_context(|| format!("write {}", path.display()))
}
