//! The daemon's token: refused, replaced, renewed, ended, with Vault's policy in its way.

use std::time::Instant;

use super::bench::{Bench, database, kv, private, settings, vault, with_approle, with_token};
use super::server::{Inside, start};
use super::*;
use crate::vault::hashicorp::Login;

const LOGIN: &str = "POST auth/approle/login";
const LOOKUP: &str = "auth/token/lookup-self";

fn app() -> CredentialRef {
    kv("secret/data/app", "password")
}

fn tokens(bench: &Bench) -> Vec<String> {
    bench.inside.lock().expect("lock").tokens.clone()
}

#[tokio::test]
async fn a_path_that_is_denied_costs_no_login() {
    let bench = with_approle(3600, 60).await;
    bench.change(|inside| inside.denied = vec!["secret/data/app"]);
    bench.get(&database()).await.expect("there");
    for _ in 0..5 {
        let error = bench.get(&app()).await.expect_err("denied");
        assert!(error.contains("(403)"), "{error}");
    }
    // What many learn at once is looked up once.
    let late = Duration::from_millis(200);
    bench.change(|inside| inside.slow = Some((LOOKUP, late)));
    let mut all = JoinSet::new();
    for number in 0..20 {
        let vault = Arc::clone(&bench.vault);
        let from = kv("secret/data/app", &format!("field{number}"));
        all.spawn(async move { vault.credential(&permit(), &from).await.is_err() });
    }
    assert!(all.join_all().await.into_iter().all(|denied| denied));
    assert!(bench.asked(&format!("GET {LOOKUP}")) <= 5 + 5);
    assert_eq!(bench.asked(LOGIN), 1);
    assert_eq!(tokens(&bench), ["hvs.token1"]);
    bench.vault.close().await;
    assert!(tokens(&bench).is_empty(), "given back");
}

#[tokio::test]
async fn a_token_that_may_not_look_itself_up_is_kept_too() {
    let bench = with_approle(3600, 60).await;
    bench.change(|inside| inside.denied = vec!["secret/data/app", LOOKUP]);
    for _ in 0..5 {
        bench.get(&app()).await.expect_err("denied");
    }
    // One try with another token, which is given back; then a pause.
    assert_eq!(bench.asked(LOGIN), 2);
    assert_eq!(tokens(&bench), ["hvs.token1"]);
    bench.get(&database()).await.expect("the first still works");
    bench.vault.close().await;
    assert!(tokens(&bench).is_empty(), "given back");
}

#[tokio::test]
async fn a_revoked_token_is_got_anew_though_it_may_not_look_itself_up() {
    let bench = with_approle(3600, 60).await;
    bench.change(|inside| inside.denied = vec![LOOKUP]);
    bench.get(&app()).await.expect("there");
    bench.change(|inside| inside.tokens.clear());
    let mut all = JoinSet::new();
    for _ in 0..20 {
        let vault = Arc::clone(&bench.vault);
        all.spawn(async move { vault.credential(&permit(), &app()).await.is_ok() });
    }
    assert!(all.join_all().await.into_iter().all(|good| good));
    bench.get(&app()).await.expect("there");
    assert_eq!(bench.asked(LOGIN), 2);
}

#[tokio::test]
async fn a_lease_is_not_used_after_its_token() {
    let bench = with_approle(3600, 60).await;
    bench.get(&database()).await.expect("there");
    bench.change(|inside| inside.tokens.clear());
    bench.get(&app()).await.expect("logged in again");
    let given = bench.get(&database()).await.expect("there");
    assert_eq!(given.credential.user.as_deref(), Some("v-ro-2"));
}

#[tokio::test]
async fn a_lease_is_not_used_after_the_token_files_token() {
    let bench = with_token().await;
    bench.get(&database()).await.expect("there");
    bench.change(|inside| inside.tokens.push("hvs.next".into()));
    std::fs::write(bench.secret.path(), "hvs.next\n").expect("write");
    let given = bench.get(&database()).await.expect("there");
    assert_eq!(given.credential.user.as_deref(), Some("v-ro-2"));
    let given = bench.get(&database()).await.expect("there");
    assert_eq!(given.credential.user.as_deref(), Some("v-ro-2"), "kept");
}

#[tokio::test]
async fn a_login_that_hangs_is_waited_for_once() {
    let bench = with_approle(3600, 60).await;
    let late = Duration::from_secs(60);
    bench.change(|inside| inside.slow = Some(("auth/approle/login", late)));
    let begun = Instant::now();
    let mut all = JoinSet::new();
    for number in 0..20 {
        let vault = Arc::clone(&bench.vault);
        let from = kv("secret/data/app", &format!("field{number}"));
        all.spawn(async move { vault.credential(&permit(), &from).await.is_err() });
    }
    assert!(all.join_all().await.into_iter().all(|failed| failed));
    bench.get(&app()).await.expect_err("kept for a moment");
    assert_eq!(bench.asked(LOGIN), 1);
    assert!(begun.elapsed() < Duration::from_secs(3));
    bench.change(|inside| inside.slow = None);
    while bench.get(&app()).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "well again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_renewal_that_comes_late_does_not_bring_a_dead_token_back() {
    let bench = with_approle(6, 60).await;
    bench.get(&app()).await.expect("there");
    let late = Duration::from_millis(250);
    bench.change(|inside| {
        inside.slow = Some(("auth/token/renew-self", late));
        inside.token_lasts = 3600;
    });
    let keeping = tokio::spawn(Arc::clone(&bench.vault).keep());
    bench
        .until("asked to renew", |inside| {
            inside.asked.iter().any(|it| it.ends_with("renew-self"))
        })
        .await;
    bench.change(|inside| inside.tokens.clear());
    bench.get(&app()).await.expect("logged in again");
    tokio::time::sleep(late * 2).await;
    bench.get(&app()).await.expect("there");
    assert_eq!(bench.asked(LOGIN), 2);
    keeping.abort();
}

#[tokio::test]
async fn no_number_of_vaults_is_too_long() {
    let bench = with_approle(u64::MAX, u64::MAX).await;
    bench.get(&app()).await.expect("a token for ever");
    bench.get(&database()).await.expect("a lease for ever");
    let (_inside, address) = start(Inside {
        tokens: vec!["hvs.file".into()],
        lease_lasts: u64::MAX,
        ..Inside::default()
    })
    .await;
    let file = private("hvs.file");
    let vault = vault(settings(&address, Login::TokenFile(file.path().into())));
    let given = vault.credential(&permit(), &database()).await;
    given.expect("a lease for ever");
}
