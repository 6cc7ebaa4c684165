//! The shop: the small database that the tests and the demo play with, and its policy.

use std::fs;

use anyhow::{Context, Result};

use crate::paths;
use crate::postgres::PostgresServer;

/// The shop's database.
pub const DATABASE: &str = "shop";
/// Where a policy says that secrets are; the daemon's guard puts its own directory there.
pub const SECRETS: &str = "/etc/portcullis/secrets";
/// The address in the shipped policies that stands for the server.
pub const ADDRESS: &str = "127.0.0.1:5432";

/// A server with the shop's tables and rows, and the role `agent_ro`.
pub fn server() -> Result<PostgresServer> {
    let server = PostgresServer::start()?;
    server.sql("postgres", &format!("CREATE DATABASE {DATABASE}"))?;
    let path = paths::fixture("shop.sql");
    let schema = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let password = format!("\\set agent_password '{}'\n", server.agent_password());
    server.sql(DATABASE, &(password + &schema))?;
    Ok(server)
}

/// The tests' policy, for a server on this port.
pub fn policy(port: u16) -> Result<String> {
    let path = paths::fixture("shop.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    at_port(&text, port)
}

/// A shipped policy with its server moved to this port; an error if it does not name it.
pub fn at_port(policy: &str, port: u16) -> Result<String> {
    anyhow::ensure!(
        policy.contains(ADDRESS),
        "the policy names no service at {ADDRESS}"
    );
    Ok(policy.replace(ADDRESS, &format!("127.0.0.1:{port}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grants_are_broad_so_that_the_gate_must_hold() {
        let server = server().expect("server");
        let count = |sql: &str| server.sql(DATABASE, sql).expect("sql");
        assert_eq!(count("select count(*) from customers"), "200");
        for privilege in ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"] {
            for table in [
                "public.orders",
                "public.customers",
                "hr.pay",
                "billing.invoices",
            ] {
                let sql = format!("select has_table_privilege('agent_ro','{table}','{privilege}')");
                assert_eq!(count(&sql), "t", "{privilege} on {table}");
            }
        }
    }

    #[test]
    fn nobody_gets_in_without_the_password() {
        let mut server = server().expect("server");
        let port = server.port().to_string();
        let login = |user: &str| {
            let mut psql = std::process::Command::new("psql");
            psql.args([
                "-wXAtq",
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-U",
                user,
                "-d",
                DATABASE,
            ]);
            psql.args(["-c", "select 1"]).env_remove("PGPASSWORD");
            let limit = std::time::Duration::from_secs(20);
            crate::process::run(&mut psql, "", limit)
                .expect("psql")
                .code()
        };
        assert_ne!(login("agent_ro"), 0);
        assert_ne!(login("postgres"), 0);
        server.stop().expect("stop");
        server.start_again().expect("start again");
        assert_eq!(
            server
                .sql(DATABASE, "select count(*) from orders")
                .expect("sql"),
            "300"
        );
    }
}
