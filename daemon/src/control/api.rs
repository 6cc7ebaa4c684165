//! What goes over the control socket, as JSON.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `POST /v1/sessions`: put the caller into a new agent session.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartSession {
    /// Whom to act for.
    pub who: Claim,
    /// Only these of its roles; all of them if empty.
    #[serde(default)]
    pub roles: Vec<String>,
    /// How long at most, in seconds.
    #[serde(default)]
    pub seconds: Option<u64>,
}

/// How a caller says whom it acts for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// By name; whoever may use the control socket may.
    As(String),
    /// By a token of an OpenID provider.
    Token(Token),
}

/// A token; its `Debug` form says nothing.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// `POST /v1/sessions/ID/renew`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// A fresh one of the same subject.
    pub token: Token,
}

/// Its answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Renewed {
    /// The new end, RFC 3339.
    pub expires: Option<String>,
}

/// `POST /v1/sessions/ID/revoke`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// Whether to kill its processes too.
    pub kill: bool,
}

/// `POST /v1/self/sessions`, from inside a session: put the caller into a narrower one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Narrow {
    /// Its roles; at least one.
    pub roles: Vec<String>,
    /// How long at most, in seconds.
    #[serde(default)]
    pub seconds: Option<u64>,
}

/// Its answer; the caller is in the session's cgroup when it reads this.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Started {
    /// The session.
    pub session: String,
    /// The roles that the policy gives it now.
    pub roles: Vec<String>,
    /// When it ends, RFC 3339.
    #[serde(default)]
    pub expires: Option<String>,
    /// The daemon's own files and directories, which an agent has no business with.
    #[serde(default)]
    pub hide: Vec<PathBuf>,
    /// Unix sockets that the policy lets it connect to; abstract ones begin with `@`.
    #[serde(default)]
    pub unix_sockets: Vec<String>,
    /// Group id of the control socket, if it has one.
    #[serde(default)]
    pub control_group: Option<u32>,
}

/// `GET /v1/sessions`: one session; `GET /v1/self` from inside it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Its id.
    pub session: String,
    /// Whom it acts for.
    pub principal: String,
    /// How it is known: `word`, `token` or `cgroup`.
    pub proof: String,
    /// The roles that the policy gives it now.
    pub roles: Vec<String>,
    /// The sessions that it was started from inside of, outermost first.
    pub chain: Vec<String>,
    /// The user that started it.
    pub uid: u32,
    /// When, RFC 3339.
    pub started: String,
    /// When it ends, RFC 3339; none ends by itself.
    pub expires: Option<String>,
    /// Why nothing passes from it any more.
    pub ended: Option<String>,
    /// Its cgroup directory.
    pub cgroup: String,
    /// Whether all its processes are confined as `portcullis run` leaves them, asked from
    /// the kernel at this moment.
    pub launcher: bool,
}

/// `GET /v1/status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// The kernel programs that are in force, asked from the kernel at this moment.
    pub layers: Vec<LayerInfo>,
    /// Layers that this host does not have, accepted in the configuration.
    pub degraded: Vec<DegradedInfo>,
    /// The live sessions, each with whether the launcher's layer holds it.
    pub session_layers: Vec<SessionInfo>,
    /// Why the gate is not whole; empty when it is.
    pub gate_problem: String,
    /// The enforced cgroup.
    pub cgroup: String,
    /// Policy generation in force.
    pub generation: u64,
    /// Where the policy is read from.
    pub policies: String,
    /// Why the newest policy was not taken; empty when it was.
    pub policy_problem: String,
    /// What is wrong with services' addresses.
    pub destination_problems: Vec<String>,
    /// Live agent sessions.
    pub sessions: usize,
    /// Open connections.
    pub connections: usize,
    /// The audit log.
    pub audit_file: String,
    /// Whether the journal gets a copy.
    pub audit_journal: bool,
}

/// A kernel program in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LayerInfo {
    /// Its hook.
    pub hook: String,
    /// The kernel's id of the program.
    pub program: u32,
    /// The kernel's id of its link.
    pub link: u32,
}

/// A layer that this host does not have.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DegradedInfo {
    /// Its name, as `gate.accept_degraded` has it.
    pub layer: String,
    /// Why it is not there.
    pub why: String,
    /// What it leaves open.
    pub leaves_open: String,
}

/// Any error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Problem {
    /// One line.
    pub error: String,
}
