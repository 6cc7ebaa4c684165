//! The daemon's own configuration file. Unknown keys are refused; every key has a default.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::identity::token::{IssuerSettings, check_all};

/// Where the configuration is looked for.
pub const DEFAULT_PATH: &str = "/etc/portcullis/portcullisd.yaml";

/// `portcullisd.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A directory of policy files, or one file.
    pub policies: PathBuf,
    /// Where the control socket and the lock live.
    pub run_dir: PathBuf,
    /// What the daemon keeps from one boot to the next: the key of its authority.
    pub state_dir: PathBuf,
    /// Who may use the control socket.
    pub control: Control,
    /// The kernel side.
    pub gate: Gate,
    /// The audit log.
    pub audit: Audit,
    /// Bounds.
    pub limits: Limits,
    /// Counters.
    pub metrics: Metrics,
    /// Whose tokens count.
    pub identity: Identity,
    /// HashiCorp Vault or OpenBao.
    pub vault: Vault,
    /// Where this was read from, or would have been.
    #[serde(skip)]
    pub file: PathBuf,
}

/// `identity:`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// The OpenID providers; without any, sessions start by name only.
    pub issuers: Vec<IssuerSettings>,
}

/// `vault:`; without an address there is none.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Vault {
    /// `https://vault.corp:8200`; plain http on the loopback only.
    pub address: Option<String>,
    /// A PEM file of authorities; the system's without it.
    pub ca: Option<PathBuf>,
    /// A namespace.
    pub namespace: Option<String>,
    /// A file that somebody else keeps a token in.
    pub token_file: Option<PathBuf>,
    /// The AppRole method instead.
    pub approle: Option<AppRole>,
    /// For each call.
    pub timeout_seconds: u64,
}

/// `vault.approle:`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppRole {
    /// Its mount.
    #[serde(default = "approle")]
    pub mount: String,
    /// Not secret.
    pub role_id: String,
    /// A file of the daemon's user only.
    pub secret_id_file: PathBuf,
}

fn approle() -> String {
    "approle".into()
}

impl Default for Vault {
    fn default() -> Self {
        Self {
            address: None,
            ca: None,
            namespace: None,
            token_file: None,
            approle: None,
            timeout_seconds: 5,
        }
    }
}

impl Vault {
    /// The file that the way in begins with.
    pub fn secret_file(&self) -> Option<&Path> {
        let approle = self.approle.as_ref().map(|it| it.secret_id_file.as_path());
        approle.or(self.token_file.as_deref())
    }

    fn check(&self) -> Result<(), String> {
        let ways = usize::from(self.token_file.is_some()) + usize::from(self.approle.is_some());
        match (&self.address, ways) {
            (None, 0) | (Some(_), 1) => {}
            (None, _) => return Err("vault: there is no `address`".into()),
            (Some(_), _) => return Err("vault: write either `token_file` or `approle`".into()),
        }
        if !(1..=60).contains(&self.timeout_seconds) {
            return Err("vault.timeout_seconds: must be from 1 to 60".into());
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_/".contains(c);
        match &self.approle {
            Some(it) if it.mount.is_empty() || !it.mount.chars().all(plain) => {
                Err("vault.approle.mount: must be a path of letters and digits".into())
            }
            _ => Ok(()),
        }
    }
}

/// `metrics:`
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// A loopback address and port where `GET /metrics` is answered to whoever asks; the
    /// control socket answers it always.
    pub listen: Option<SocketAddr>,
}

/// `control:`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// Members of this group may start sessions; without it only root may.
    pub group: Option<String>,
}

/// `gate:`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// The enforced cgroup, below the cgroup2 mount.
    pub cgroup: String,
    /// Loopback port of the gate's listener; below 1024, so that no ordinary user can
    /// take it while the daemon is down. 0 takes a free one.
    pub port: u16,
    /// Mount point of the BPF file system; mounted if it is not.
    pub bpffs: PathBuf,
    /// Directory of the pins below it.
    pub pins: String,
    /// Layers that may be missing on this host; any other missing layer is an error at
    /// start.
    pub accept_degraded: Vec<String>,
}

/// `audit:`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// The log file.
    pub file: PathBuf,
    /// Whether journald gets a copy.
    pub journald: Journald,
}

/// `audit.journald:`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Journald {
    /// When its socket is there.
    Auto,
    /// Never.
    Off,
}

/// `limits:`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at once.
    pub connections: u32,
    /// Seconds from accept to the end of the login.
    pub startup_seconds: u64,
    /// Longest message that is held, in bytes.
    pub message_bytes: usize,
    /// What all connections together hold of messages, beside 64 KiB for each, in bytes, about;
    /// those of one agent session a quarter of it, or one message where that is more.
    pub memory_bytes: usize,
    /// Agent sessions at once.
    pub sessions: usize,
    /// Seconds that connections get to end when the daemon stops.
    pub drain_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policies: "/etc/portcullis/policies".into(),
            run_dir: "/run/portcullis".into(),
            state_dir: "/var/lib/portcullis".into(),
            control: Control::default(),
            gate: Gate::default(),
            audit: Audit::default(),
            limits: Limits::default(),
            metrics: Metrics::default(),
            identity: Identity::default(),
            vault: Vault::default(),
            file: DEFAULT_PATH.into(),
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            cgroup: "portcullis".into(),
            port: 1007,
            bpffs: "/sys/fs/bpf".into(),
            pins: "portcullis".into(),
            accept_degraded: Vec::new(),
        }
    }
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            file: "/var/log/portcullis/audit.jsonl".into(),
            journald: Journald::Auto,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            startup_seconds: 10,
            message_bytes: 16 * 1024 * 1024,
            memory_bytes: 256 * 1024 * 1024,
            sessions: 1000,
            drain_seconds: 5,
        }
    }
}

/// The file can't be read or understood.
#[derive(Debug)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads the file; with `None` the default path, where a missing file means defaults.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => {
                return Err(ConfigError(format!(
                    "cannot read {}: {error}",
                    file.display()
                )));
            }
        };
        let mut config = Self::parse(&text)
            .map_err(|error| ConfigError(format!("{}: {error}", file.display())))?;
        // As the daemon sees it wherever it is by then.
        config.file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        config
            .check()
            .map_err(|error| ConfigError(format!("{}: {error}", file.display())))?;
        Ok(config)
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    /// Names that become path components must be plain names.
    fn check(&self) -> Result<(), String> {
        for (key, name) in [
            ("gate.cgroup", &self.gate.cgroup),
            ("gate.pins", &self.gate.pins),
        ] {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
                return Err(format!(
                    "{key}: \"{name}\" must be one plain directory name"
                ));
            }
        }
        if let Some(address) = self.metrics.listen
            && !address.ip().is_loopback()
        {
            return Err(format!("metrics.listen: {address} is not on the loopback"));
        }
        self.vault.check()?;
        if self.limits.message_bytes < 1024 || self.limits.message_bytes > 1 << 30 {
            return Err("limits.message_bytes: must be from 1024 to 1073741824".into());
        }
        if self.limits.memory_bytes < 2 * self.limits.message_bytes {
            return Err("limits.memory_bytes: must be at least twice limits.message_bytes".into());
        }
        check_all(&self.identity.issuers).map_err(|error| error.to_string())
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("control.sock")
    }
}

#[cfg(test)]
mod tests;
