//! Real drivers in an agent session: psycopg 3, pgbench, tokio-postgres.

use std::time::Duration;

use portcullis_tests::paths::fixture;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};

use crate::stage::{Stage, inside};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn psycopg() {
    let stage = Stage::new();
    for mode in [
        "basics",
        "binary",
        "pipeline",
        "long-pipeline",
        "server-cursor",
        "scroll",
        "copy-refused",
    ] {
        let done = stage.python("psycopg_agent.py", &[mode], LIMIT);
        assert_eq!(
            (done.code(), done.stdout.trim()),
            (0, "ok"),
            "{mode}: {}",
            done.both()
        );
    }
    assert_eq!(stage.fact("SELECT count(*) FROM customers"), "200");
}

/// What JDBC, asyncpg and PgAdmin say before anything else, and what none may say.
#[test]
fn start_up_parameters() {
    let stage = Stage::new();
    let done = stage.python("raw_client.py", &["start-ups"], LIMIT);
    assert_eq!(done.code(), 0, "{}", done.both());
    stage.assert_works();
}

/// Protocol 3.2, newer ones and unknown options, whatever the server speaks.
#[test]
fn versions_of_the_protocol() {
    let stage = Stage::new();
    let done = stage.python("raw_client.py", &["versions"], LIMIT);
    assert_eq!(done.code(), 0, "{}", done.both());
}

#[test]
fn a_forged_key_cancels_nothing() {
    let stage = Stage::with(|options| {
        let rule =
            "\n  - {id: w, role: analyst, allow: [sql.call], on: ['shop/pg_catalog.pg_sleep']}\n";
        options.policy.push_str(rule);
    });
    let done = stage.python("raw_client.py", &["forged-keys"], LIMIT);
    assert_eq!(done.code(), 0, "{}", done.both());
}

#[test]
fn pgbench() {
    let stage = Stage::new();
    let script = fixture("shop.pgbench").display().to_string();
    let port = stage.server.port().to_string();
    for mode in ["simple", "extended", "prepared"] {
        let words = [
            "pgbench", "-n", "-M", mode, "-f", &script, "-c", "4", "-j", "2", "-t", "100",
        ];
        let words: Vec<&str> = words
            .into_iter()
            .chain(["-h", "127.0.0.1", "-p", &port, "shop"])
            .collect();
        let done = stage
            .agent()
            .limit(LIMIT)
            .run(&words)
            .expect("pgbench runs");
        assert_eq!(done.code(), 0, "{mode}: {}", done.both());
        assert!(
            done.stdout.contains("processed: 400/400"),
            "{mode}: {}",
            done.stdout
        );
    }
}

#[test]
fn tokio_postgres() {
    let stage = Stage::new();
    let words = inside("drivers::tokio_postgres_inside");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let port = stage.server.port().to_string();
    let done = stage
        .agent()
        .env("E2E_PORT", &port)
        .limit(LIMIT)
        .run(&words)
        .expect("runs");
    assert_eq!(done.code(), 0, "{}", done.both());
    assert!(done.stdout.contains("1 passed"), "{}", done.stdout);
}

#[test]
#[ignore = "the inside half of `tokio_postgres`"]
fn tokio_postgres_inside() {
    let port = std::env::var("E2E_PORT")
        .expect("E2E_PORT")
        .parse()
        .expect("a port");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("runtime").block_on(async {
        let mut config = Config::new();
        config
            .host("127.0.0.1")
            .port(port)
            .user("whoever")
            .dbname("shop");
        let (mut client, connection) = config.connect(NoTls).await.expect("connects");
        tokio::spawn(connection);
        let statement =
            client.prepare("SELECT id, quantity FROM orders WHERE id <= $1 ORDER BY id");
        let rows = client
            .query(&statement.await.expect("prepares"), &[&3_i32])
            .await
            .expect("rows");
        assert_eq!(
            rows.iter()
                .map(|row| row.get::<_, i32>(0))
                .collect::<Vec<_>>(),
            [1, 2, 3]
        );

        let denied = client
            .execute("DELETE FROM customers WHERE id = $1", &[&1_i32])
            .await;
        let error = denied.expect_err("denied");
        assert_eq!(
            error.code(),
            Some(&SqlState::INSUFFICIENT_PRIVILEGE),
            "{error}"
        );

        let transaction = client.transaction().await.expect("begins");
        let inserted = transaction.execute("INSERT INTO staging VALUES ($1, $2)", &[&9_i32, &"x"]);
        assert_eq!(inserted.await.expect("inserts"), 1);
        assert!(
            transaction
                .batch_execute("SELECT 1; DROP TABLE staging")
                .await
                .is_err()
        );
        transaction.rollback().await.expect("rolls back");
        let row = client
            .query_one("SELECT count(*) FROM staging", &[])
            .await
            .expect("goes on");
        assert_eq!(row.get::<_, i64>(0), 0);
    });
}
