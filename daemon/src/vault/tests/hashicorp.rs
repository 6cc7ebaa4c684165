//! The daemon's side of Vault's documented API, against the stand-in.

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use super::bench::{database, kv, private, settings, vault, with_approle, with_token};
use super::server::{Inside, start};
use super::*;
use crate::vault::hashicorp::{Login, Settings};

#[tokio::test]
async fn a_field_of_the_key_value_engine_is_read_anew() {
    let bench = with_token().await;
    for _ in 0..2 {
        let given = bench.get(&kv("secret/data/app", "password")).await;
        let given = given.expect("there");
        assert_eq!(
            (text(&given).as_str(), given.credential.user),
            ("kv-secret", None)
        );
    }
    assert_eq!(bench.asked("GET secret/data/app"), 2);
    for (path, field, message) in [
        ("secret/data/app", "user", "no such field"),
        ("secret/data/app", "port", "no such field"),
        (
            "secret/data/deleted",
            "password",
            "nothing at secret/data/deleted",
        ),
        (
            "secret/data/nothing",
            "password",
            "nothing at secret/data/nothing",
        ),
    ] {
        let error = bench.get(&kv(path, field)).await.expect_err(path);
        assert!(error.contains(message), "{error}");
    }
}

#[tokio::test]
async fn a_user_of_the_database_engine_is_kept_and_given_back() {
    let bench = with_approle(3600, 60).await;
    for _ in 0..3 {
        let given = bench.get(&database()).await.expect("there");
        assert_eq!(text(&given), "dynamic-secret");
        assert_eq!(given.credential.user.as_deref(), Some("v-ro-1"));
    }
    assert_eq!(bench.asked("GET database/creds/ro"), 1);
    bench.vault.close().await;
    let inside = bench.inside.lock().expect("lock");
    assert!(inside.leases.is_empty(), "given back");
    assert!(inside.tokens.is_empty(), "and the token too");
}

#[tokio::test]
async fn what_the_policy_does_not_name_any_more_is_given_back() {
    let bench = with_token().await;
    bench.get(&database()).await.expect("there");
    let named = [database()];
    bench.vault.retain(1, named.iter());
    assert_eq!(bench.asked("PUT sys/leases/revoke"), 0);
    bench.vault.retain(1, [].iter());
    bench
        .until("revoked", |inside| inside.leases.is_empty())
        .await;
    let given = bench.get(&database()).await.expect("there");
    assert_eq!(given.credential.user.as_deref(), Some("v-ro-2"));
    // A server that does not take it is a reason for another.
    bench.vault.distrust(&database(), &given.stamp);
    let given = bench.get(&database()).await.expect("there");
    assert_eq!(given.credential.user.as_deref(), Some("v-ro-3"));
}

#[tokio::test]
async fn leases_and_the_token_are_renewed_in_time() {
    let bench = with_approle(4, 4).await;
    let keeping = tokio::spawn(Arc::clone(&bench.vault).keep());
    bench.get(&database()).await.expect("there");
    bench
        .until("renewed", |inside| {
            let count = |what: &str| inside.asked.iter().filter(|one| *one == what).count();
            count("PUT sys/leases/renew") >= 2 && count("PUT auth/token/renew-self") >= 2
        })
        .await;
    let given = bench.get(&database()).await.expect("there");
    assert_eq!(
        given.credential.user.as_deref(),
        Some("v-ro-1"),
        "the same all along"
    );
    assert_eq!(bench.asked("POST auth/approle/login"), 1);
    keeping.abort();
}

#[tokio::test]
async fn a_token_that_was_revoked_is_got_anew() {
    let bench = with_approle(3600, 60).await;
    let from = kv("secret/data/app", "password");
    bench.get(&from).await.expect("there");
    bench.change(|inside| inside.tokens.clear());
    bench.get(&from).await.expect("logged in again");
    assert_eq!(bench.asked("POST auth/approle/login"), 2);
}

#[tokio::test]
async fn two_services_with_one_credential_share_it() {
    let bench = with_token().await;
    let mut all = JoinSet::new();
    for _ in 0..100 {
        let vault = Arc::clone(&bench.vault);
        all.spawn(async move { vault.credential(&permit(), &database()).await.is_ok() });
    }
    assert!(all.join_all().await.into_iter().all(|good| good));
    assert_eq!(bench.asked("GET database/creds/ro"), 1);
}

#[tokio::test]
async fn each_bad_state_of_the_server_has_its_words() {
    let from = kv("secret/data/app", "password");
    for (status, body, message) in [
        (503, None, "is sealed, or not initialised"),
        (501, None, "is sealed, or not initialised"),
        (403, None, "refuses secret/data/app (403)"),
        (429, None, "is a standby"),
        (307, None, "is a standby"),
        (500, None, "with status 500"),
        (
            200,
            Some("not json kv-secret".to_owned()),
            "not what Vault's documentation",
        ),
        (200, Some("{}".to_owned()), "not what Vault's documentation"),
        (
            200,
            Some("x".repeat(10_000_000)),
            "longer than 524288 bytes",
        ),
    ] {
        let bench = with_token().await;
        bench.change(|inside| {
            inside.status = Some(status);
            inside.body = body;
        });
        let error = bench.get(&from).await.expect_err("refused");
        assert!(error.contains(message), "{status}: {error}");
        assert!(!error.contains("kv-secret"), "{error}");
        bench.change(|inside| inside.status = None);
        bench.get(&from).await.expect("as soon as it is well again");
    }
}

#[tokio::test]
async fn a_slow_server_and_none_are_errors_in_time() {
    let bench = with_token().await;
    bench.change(|inside| inside.delay = Some(Duration::from_secs(60)));
    let begun = Instant::now();
    let error = bench.get(&database()).await.expect_err("slow");
    assert!(error.contains("did not answer within"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = format!("http://{}", free.local_addr().expect("address"));
    drop(free);
    let file = private("t");
    let nobody = vault(settings(&address, Login::TokenFile(file.path().into())));
    let error = nobody.credential(&permit(), &database()).await;
    let error = error.expect_err("nobody there").to_string();
    assert!(error.contains("cannot connect to 127.0.0.1"), "{error}");
}

#[tokio::test]
async fn the_way_in_is_checked_like_a_credential() {
    let bench = with_token().await;
    bench.change(|inside| inside.namespace = Some("team".into()));
    let error = bench.get(&database()).await.expect_err("other namespace");
    assert!(error.contains("(403)"), "{error}");
    let file = private("hvs.file");
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(file.path(), mode).expect("chmod");
    let exposed = Settings {
        namespace: Some("team".into()),
        ..settings("http://127.0.0.1:1", Login::TokenFile(file.path().into()))
    };
    let error = vault(exposed).credential(&permit(), &database()).await;
    let error = error.expect_err("exposed").to_string();
    assert!(error.contains("mode 0644"), "{error}");
    let file = private("t");
    let plain = settings(
        "http://vault.test:8200",
        Login::TokenFile(file.path().into()),
    );
    let error = vault(plain).credential(&permit(), &database()).await;
    let error = error.expect_err("in the clear").to_string();
    assert!(error.contains("plain http"), "{error}");
}

#[tokio::test]
async fn a_namespace_is_named_in_each_call() {
    let (inside, address) = start(Inside {
        tokens: vec!["hvs.file".into()],
        namespace: Some("team".into()),
        ..Inside::default()
    })
    .await;
    let file = private("hvs.file");
    let login = Login::TokenFile(file.path().into());
    let vault = vault(Settings {
        namespace: Some("team".into()),
        ..settings(&address, login)
    });
    let from = kv("secret/data/app", "password");
    let given = vault.credential(&permit(), &from).await;
    assert_eq!(text(&given.expect("there")), "kv-secret");
    drop(inside);
}

#[tokio::test]
async fn fifty_failed_logins_cost_one_user() {
    let bench = with_token().await;
    let mut first = Vec::new();
    for _ in 0..50 {
        first.push(bench.get(&database()).await.expect("there"));
    }
    for given in &first {
        bench.vault.distrust(&database(), &given.stamp);
        let next = bench.get(&database()).await.expect("there");
        assert_eq!(next.credential.user.as_deref(), Some("v-ro-2"));
    }
    // A service that takes none must not end those of the others, one after the other.
    let next = bench.get(&database()).await.expect("there");
    bench.vault.distrust(&database(), &next.stamp);
    let next = bench.get(&database()).await.expect("there");
    assert_eq!(next.credential.user.as_deref(), Some("v-ro-2"));
    bench
        .until("the first is given back", |inside| inside.leases.len() == 1)
        .await;
    assert_eq!(bench.asked("PUT sys/leases/revoke"), 1);
}

#[tokio::test]
async fn an_older_policy_brings_nothing_back() {
    let bench = with_token().await;
    bench.vault.retain(2, [].iter());
    let error = bench.get(&database()).await.expect_err("not named");
    assert!(error.contains("does not name"), "{error}");
    bench.vault.retain(2, [database()].iter());
    bench.get(&database()).await.expect("named again");
    // One that came late.
    bench.vault.retain(1, [].iter());
    let given = bench.get(&database()).await.expect("named still");
    assert_eq!(given.credential.user.as_deref(), Some("v-ro-1"));
    bench.vault.close().await;
    assert!(bench.inside.lock().expect("lock").leases.is_empty());
    let error = bench.get(&database()).await.expect_err("closed");
    assert!(error.contains("the daemon stops"), "{error}");
}

#[tokio::test]
async fn what_is_fetched_while_the_policy_changes_is_given_back() {
    let bench = with_token().await;
    let late = Duration::from_millis(200);
    bench.change(|inside| inside.slow = Some(("database/creds/ro", late)));
    let vault = Arc::clone(&bench.vault);
    let asking = tokio::spawn(async move { vault.credential(&permit(), &database()).await });
    bench
        .until("asked", |inside| !inside.asked.is_empty())
        .await;
    bench.vault.retain(2, [].iter());
    asking.await.expect("runs").expect_err("not named any more");
    assert!(bench.inside.lock().expect("lock").leases.is_empty());
    assert_eq!(bench.asked("PUT sys/leases/revoke"), 1);
}
