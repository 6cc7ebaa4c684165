//! The steps of the demo: what the agent tries, what it must see, what must be recorded.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use portcullis_tests::agent::Shell;
use portcullis_tests::audit;
use portcullis_tests::daemon::Daemon;
use portcullis_tests::postgres::PostgresServer;
use portcullis_tests::shop;
use serde_json::Value;

/// A refusal comes at once; more than this is a time-out.
const AT_ONCE: Duration = Duration::from_secs(5);

type Fits = Box<dyn Fn(&Value) -> bool>;

/// One thing that the agent tries.
pub struct Step {
    /// What it is about.
    pub title: &'static str,
    /// The command line.
    line: String,
    /// Whether the command should succeed.
    works: bool,
    /// What the agent must see.
    sees: Vec<String>,
    /// What it must not see.
    hidden: Vec<String>,
    /// Which record must be there; none while the daemon is dead.
    record: Option<Fits>,
}

impl Step {
    /// Lets the agent try it, prints what came of it, and checks it.
    pub fn play(&self, daemon: &Daemon, shell: &mut Shell) -> Result<()> {
        let before = daemon.audit()?.len();
        println!("    tried:  {}", self.line);
        let start = Instant::now();
        let (output, code) = shell.run(&self.line, Duration::from_secs(30))?;
        let took = start.elapsed();
        for line in output.trim_end().lines() {
            println!("    saw:    {line}");
        }
        println!("    ended:  exit code {code} after {} ms", took.as_millis());
        self.show_record(daemon, before)?;
        ensure!((code == 0) == self.works, "exit code {code}");
        for text in &self.sees {
            ensure!(output.contains(text), "the agent did not see `{text}`");
        }
        for text in &self.hidden {
            ensure!(!output.contains(text), "the agent saw what it must not see");
        }
        ensure!(took < AT_ONCE, "it took {took:?}");
        Ok(())
    }

    /// Prints the record that belongs to the step; only lines after `before` count.
    fn show_record(&self, daemon: &Daemon, before: usize) -> Result<()> {
        let Some(fits) = &self.record else {
            println!("    record: none is expected");
            return Ok(());
        };
        let limit = Duration::from_secs(10);
        let line = portcullis_tests::wait::until("the record", limit, || {
            let new = audit::lines(&daemon.audit_path())?.into_iter().skip(before);
            let is_ours =
                |line: &String| serde_json::from_str(line).is_ok_and(|line: Value| fits(&line));
            Ok(new.into_iter().find(is_ours))
        })?;
        println!("    record: {line}");
        Ok(())
    }
}

/// A listener that the agent must not reach.
pub struct Elsewhere(TcpListener);

impl Elsewhere {
    /// Opens it on a free loopback port.
    pub fn listen() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("bind 127.0.0.1:0")?;
        listener.set_nonblocking(true).context("listener")?;
        Ok(Self(listener))
    }

    fn port(&self) -> u16 {
        self.0.local_addr().map_or(0, |addr| addr.port())
    }

    /// An error if a connection ever arrived.
    pub fn nobody_came(&self) -> Result<()> {
        match self.0.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error).context("accept"),
            Ok((_, peer)) => bail!("a connection from {peer} got past the gate"),
        }
    }
}

fn psql(port: u16, sql: &str) -> String {
    format!(
        "psql -X -h 127.0.0.1 -p {port} -d {} -c \"{sql}\"",
        shop::DATABASE
    )
}

fn decided(decision: &'static str, part: &'static str) -> Option<Fits> {
    Some(Box::new(move |line| {
        audit::is_decision(line, part) && audit::text(line, "decision") == decision
    }))
}

/// With the daemon alive.
pub fn live(server: &PostgresServer, other: &Elsewhere, secret: &Path, daemon: u32) -> Vec<Step> {
    let port = server.port();
    let other_port = other.port().to_string();
    let refused: Fits = Box::new(move |line| {
        let refused = ["connection_refused", "gate_refused"];
        refused.iter().any(|event| audit::is(line, event)) && line.to_string().contains(&other_port)
    });
    let hidden = vec![server.agent_password().to_owned()];
    let look = format!(
        "env; tr '\\0' '\\n' </proc/self/environ; cat {} /proc/{daemon}/environ",
        secret.display()
    );
    vec![
        Step {
            title: "A SELECT that the policy allows",
            line: psql(
                port,
                "SELECT id, quantity, paid FROM orders ORDER BY id LIMIT 3",
            ),
            works: true,
            sees: vec!["(3 rows)".into()],
            hidden: hidden.clone(),
            record: decided("allow", "FROM orders ORDER BY id LIMIT 3"),
        },
        Step {
            title: "An UPDATE that a rule denies",
            line: psql(port, "UPDATE orders SET paid = true"),
            works: false,
            sees: vec!["ERROR".into(), "sql.update".into(), "public.orders".into()],
            hidden: hidden.clone(),
            record: decided("deny", "UPDATE orders"),
        },
        Step {
            title: "A table that the agent may not read",
            line: psql(port, "SELECT * FROM hr.pay"),
            works: false,
            sees: vec!["ERROR".into(), "hr.pay".into()],
            hidden: hidden.clone(),
            record: decided("deny", "FROM hr.pay"),
        },
        Step {
            title: "A direct connection to another port",
            line: psql(other.port(), "SELECT 1"),
            works: false,
            sees: vec![],
            hidden: hidden.clone(),
            record: Some(refused),
        },
        Step {
            title: "The agent looks for the password",
            line: look,
            works: false,
            sees: vec!["Permission denied".into()],
            hidden,
            record: None,
        },
    ]
}

/// With the daemon dead.
pub fn dead(server: &PostgresServer, other: &Elsewhere) -> Vec<Step> {
    let refused = |title, line| Step {
        title,
        line,
        works: false,
        sees: vec!["refused".into()],
        hidden: vec![server.agent_password().to_owned()],
        record: None,
    };
    vec![
        refused(
            "The database, while the daemon is dead",
            psql(server.port(), "SELECT 1"),
        ),
        refused(
            "Another port, while the daemon is dead",
            psql(other.port(), "SELECT 1"),
        ),
    ]
}

/// After the restart, in the same agent session.
pub fn again(server: &PostgresServer) -> Vec<Step> {
    vec![Step {
        title: "The same session after the restart",
        line: psql(server.port(), "SELECT count(*) AS products FROM products"),
        works: true,
        sees: vec!["50".into(), "(1 row)".into()],
        hidden: vec![server.agent_password().to_owned()],
        record: decided("allow", "FROM products"),
    }]
}
