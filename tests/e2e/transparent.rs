//! What an agent must not notice of the gate, where the policy lets it do as it likes; and
//! that each of these needs a rule that says so.

use portcullis_tests::process::Finished;
use portcullis_tests::shop;

use crate::stage::Stage;

const PASSWORD: &str = "the-other-users-own";

/// The shop's service with these further lines, and these rules.
fn stage(service: &str, rules: &str) -> Stage {
    let policy = format!(
        "version: 1\nroles: {{analyst: {{}}}}\nservices:\n  shop:\n    proto: postgres\n    \
         at: ['{}']\n    tls: disable\n    user: agent_ro\n    database: shop\n    \
         credential: file:{}/shop\n{service}rules:\n  - {{id: read, role: analyst, \
         allow: [sql.select], on: ['shop/public.*']}}\n{rules}",
        shop::ADDRESS,
        shop::SECRETS,
    );
    Stage::with_policy(&policy, |options| {
        options.secrets.push(("other".into(), PASSWORD.into()));
    })
}

/// psql in an agent session, with options at start-up and as this user.
fn psql(stage: &Stage, user: &str, options: &str, sql: &str) -> Finished {
    let agent = stage.agent().env("PGOPTIONS", options).env("PGUSER", user);
    agent
        .psql(stage.server.port(), shop::DATABASE, sql)
        .expect("psql runs")
}

fn says(done: &Finished, expected: &str) {
    assert_eq!(
        (done.code(), done.stdout.trim()),
        (0, expected),
        "{}",
        done.both()
    );
}

fn refused(done: &Finished, expected: &str) {
    assert_ne!(done.code(), 0, "{}", done.both());
    assert!(done.stderr.contains(expected), "{}", done.both());
}

#[test]
fn a_setting_at_start_up_is_judged_as_set_would_be() {
    let rule =
        "  - {id: set, role: analyst, allow: [sql.session], on: ['shop/setting.row_security']}\n";
    let stage = stage("", rule);
    let show = "SHOW row_security";
    says(&psql(&stage, "x", "-c row_security=off", show), "off");
    says(&psql(&stage, "x", "-c geqo=off", "SHOW geqo"), "off");
    for (options, effect) in [
        (
            "-c search_path=hr",
            "sql.session on shop/setting.search_path",
        ),
        ("-c role=postgres", "sql.privilege on shop/role.postgres"),
        (
            "-c session_preload_libraries=x",
            "sql.session on shop/setting.session_preload",
        ),
        ("-c user=postgres", "does not let an agent set \"user\""),
        (
            "-c options=-crole=postgres",
            "does not let an agent set \"options\"",
        ),
        (
            "-c replication=true",
            "does not let an agent set \"replication\"",
        ),
    ] {
        refused(&psql(&stage, "x", options, "SELECT 1"), effect);
    }
    let opened = |line: &serde_json::Value| {
        line["event"] == "connection_open" && line.to_string().contains("setting.row_security")
    };
    stage
        .daemon
        .audit_line("the setting", opened)
        .expect("recorded");
    // What the server itself says of a setting or a database comes through as it is.
    let nonsense = psql(&stage, "x", "-c work_mem=nonsense", "SELECT 1");
    refused(
        &nonsense,
        "invalid value for parameter \"work_mem\": \"nonsense\"",
    );
}

#[test]
fn an_agent_is_the_user_that_it_names_if_it_may_be() {
    let users = format!(
        "    users: {{agent_other: 'file:{0}/other', agent_denied: 'file:{0}/other'}}\n",
        shop::SECRETS
    );
    let rule =
        "  - {id: be, role: analyst, allow: [sql.privilege], on: ['shop/role.agent_other']}\n";
    let stage = stage(&users, rule);
    for name in ["agent_other", "agent_denied", "agent_third"] {
        stage.fact(&format!("CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'"));
    }
    let who = "SELECT current_user, session_user";
    says(
        &psql(&stage, "agent_other", "", who),
        "agent_other|agent_other",
    );
    says(&psql(&stage, "whoever", "", who), "agent_ro|agent_ro");
    says(&psql(&stage, "agent_third", "", who), "agent_ro|agent_ro");
    let effect = "sql.privilege on shop/role.agent_denied is allowed by no rule";
    refused(&psql(&stage, "agent_denied", "", who), effect);
    // Its credential is as far from the agent as the other one.
    let file = stage.daemon.path("secrets/other").display().to_string();
    let seen = stage.agent().run(&["cat", &file]).expect("runs");
    assert_ne!(seen.code(), 0, "{}", seen.both());
    assert!(!seen.both().contains(PASSWORD));
}

#[test]
fn where_the_server_looks_names_up_only_whole_names_are_known() {
    let stage = stage("    search_path: server\n", "");
    says(
        &psql(&stage, "x", "", "SELECT count(*) FROM public.orders"),
        "300",
    );
    says(
        &psql(&stage, "x", "", "SELECT count(*) > 9 FROM pg_class"),
        "t",
    );
    refused(
        &psql(&stage, "x", "", "SELECT count(*) FROM orders"),
        "sql.unknown on shop/statement is allowed by no rule",
    );
    let rules = "  - {id: all, role: analyst, allow: ['sql.*', sql.unknown], on: ['shop/*']}\n";
    let stage = self::stage("    search_path: server\n", rules);
    let own = stage
        .server
        .sql(shop::DATABASE, "SHOW search_path")
        .expect("asked");
    says(&psql(&stage, "x", "", "SHOW search_path"), &own);
    says(&psql(&stage, "x", "", "SELECT count(*) FROM orders"), "300");
    let set = psql(
        &stage,
        "x",
        "-c search_path=hr",
        "SELECT count(*) > 0 FROM pay",
    );
    says(&set, "t");
    // The database's own default counts, as it does without the gate.
    stage.fact("ALTER DATABASE shop SET search_path = hr");
    says(&psql(&stage, "x", "", "SELECT count(*) > 0 FROM pay"), "t");
}

#[test]
fn clients_know_their_own_process() {
    let stage = Stage::new();
    let limit = std::time::Duration::from_secs(30);
    let done = stage.python("psycopg_agent.py", &["process-id"], limit);
    says(&done, "ok");
}
