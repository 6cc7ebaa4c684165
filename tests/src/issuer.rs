//! A real OpenID provider (npm oidc-provider, certified) on the loopback.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;
use crate::{paths, wait};

/// How long the provider may take to listen, or to answer.
const LIMIT: Duration = Duration::from_secs(30);
/// `agent-1:agent-secret`.
const AGENT: &str = "Basic YWdlbnQtMTphZ2VudC1zZWNyZXQ=";
/// The audience of agents' access tokens.
pub const AUDIENCE: &str = "urn:portcullis";
/// The client of users' ID tokens, which is their audience.
pub const CLIENT: &str = "cli";

/// A running provider; each start has new keys.
#[derive(Debug)]
pub struct Issuer {
    port: u16,
    process: Process,
    _log: TempDir,
}

impl Issuer {
    /// Starts one whose tokens are signed with `algorithm`: RS256, ES256 or EdDSA.
    pub fn start(port: u16, algorithm: &str) -> Result<Self> {
        let log = tempfile::tempdir().context("a directory")?;
        let path = log.path().join("log");
        let out = File::create(&path).context("the provider's log")?;
        let mut command = Command::new("node");
        command
            .arg(paths::fixture("oidc/provider.mjs"))
            .arg(paths::oidc_modules()?)
            .args([&port.to_string(), algorithm])
            .stdin(Stdio::null())
            .stdout(out.try_clone().context("the provider's log")?)
            .stderr(out);
        let mut process = Process::spawn(&mut command, Signal::SIGKILL)?;
        wait::until("the OpenID provider", LIMIT, || {
            let said = std::fs::read_to_string(&path).context("the provider's log")?;
            ensure!(process.ended()?.is_none(), "it ended: {said}");
            Ok(said.lines().any(|line| line == "ready").then_some(()))
        })?;
        Ok(Self {
            port,
            process,
            _log: log,
        })
    }

    /// What its tokens have as `iss`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it; the port is free afterwards.
    pub fn stop(mut self) -> Result<()> {
        self.process.stop(Signal::SIGKILL).map(drop)
    }

    /// Holds it still: connections are accepted by the kernel and never answered.
    pub fn freeze(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGSTOP)
    }

    /// An agent's access token (client credentials), `groups: [agents]`.
    pub fn agent_token(&self) -> Result<String> {
        let form = "grant_type=client_credentials&scope=groups";
        self.field("/token", form, "access_token")
    }

    /// The same for another agent, with the same groups.
    pub fn other_token(&self) -> Result<String> {
        let form = "grant_type=client_credentials&scope=groups\
                    &client_id=agent-2&client_secret=agent-secret";
        self.field("/token", form, "access_token")
    }

    /// A user's ID token (device flow): alice is in dba and sre, bob in dev.
    pub fn user_token(&self, user: &str) -> Result<String> {
        let form = format!("client_id={CLIENT}&scope=openid groups").replace(' ', "%20");
        let asked: Value = self.json("/device/auth", &form)?;
        let text = |name: &str| asked[name].as_str().context("a device code");
        let approve = format!("/test/approve?user={user}&user_code={}", text("user_code")?);
        ensure!(self.call("GET", &approve, "")? == "approved", "no approval");
        let form = format!(
            "grant_type=urn:ietf:params:oauth:grant-type:device_code&device_code={}&client_id={CLIENT}",
            text("device_code")?
        );
        self.field("/token", &form, "id_token")
    }

    /// From now on the user is in these groups, separated by commas.
    pub fn set_groups(&self, user: &str, groups: &str) -> Result<()> {
        let path = format!("/test/groups?user={user}&groups={groups}");
        ensure!(self.call("GET", &path, "")? == "changed", "not changed");
        Ok(())
    }

    fn field(&self, path: &str, form: &str, name: &str) -> Result<String> {
        let answer = self.json(path, form)?;
        let token = answer[name].as_str();
        token
            .map(str::to_owned)
            .with_context(|| format!("no {name}: {answer}"))
    }

    fn json(&self, path: &str, form: &str) -> Result<Value> {
        let body = self.call("POST", path, form)?;
        serde_json::from_str(&body).with_context(|| format!("{path} answers {body}"))
    }

    fn call(&self, method: &str, path: &str, form: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).context("the provider")?;
        stream.set_read_timeout(Some(LIMIT)).context("a time-out")?;
        // The public client names itself in the form.
        let login = if form.contains("client_id=") {
            String::new()
        } else {
            format!("authorization: {AGENT}\r\n")
        };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\n{login}connection: close\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
            self.port,
            form.len()
        )
        .context("ask the provider")?;
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .context("the provider's answer")?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
        Ok(body.unwrap_or_default().to_owned())
    }
}
