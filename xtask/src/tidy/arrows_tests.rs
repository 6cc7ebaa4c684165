//! Good and bad samples of arrows.

use super::*;

fn messages(name: &str, text: &str) -> Vec<String> {
    let file = syn::parse_file(text).expect("parses");
    check(name, &file)
        .into_iter()
        .map(|finding| finding.message)
        .collect()
}

#[test]
fn arrows_against_the_table_are_found() {
    for (name, text, part) in [
        (
            "daemon/src/types/ids.rs",
            "use crate::policy::Verb;",
            "only: nothing of ours",
        ),
        (
            "daemon/src/policy/mod.rs",
            "use crate::proxy::Listener;",
            "`policy` may not import",
        ),
        (
            "daemon/src/policy/load.rs",
            "use super::super::audit::Record;",
            "`audit::Record`",
        ),
        (
            "daemon/src/vault/mod.rs",
            "use crate::policy::{Permit, Policy};",
            "`policy::Policy`",
        ),
        (
            "daemon/src/audit/sink/file.rs",
            "use crate::audit::chain::Link;",
            "`audit::chain",
        ),
        (
            "daemon/src/control/api.rs",
            "fn f() { crate::proxy::stop() }",
            "`proxy::stop`",
        ),
        (
            "daemon/src/bin/portcullisd.rs",
            "use portcullis::vault::Vault;",
            "`vault::Vault`",
        ),
        (
            "daemon/src/new/mod.rs",
            "use crate::types::Secret;",
            "not in the table",
        ),
    ] {
        let found = messages(name, text);
        assert!(
            found.len() == 1 && found[0].contains(part),
            "{name} {text}: {found:?}"
        );
    }
}

#[test]
fn arrows_of_the_table_are_fine() {
    for (name, text) in [
        (
            "daemon/src/app.rs",
            "use crate::{audit::Sink, capture::Gate, proxy::Listener};",
        ),
        (
            "daemon/src/protocol/postgres/codec.rs",
            "use super::super::Buffers; use super::Oid;",
        ),
        (
            "daemon/src/protocol/mod.rs",
            "use crate::policy::Effect; use std::net::IpAddr;",
        ),
        (
            "daemon/src/vault/mod.rs",
            "use crate::policy::Permit; use self::file::Reader;",
        ),
        (
            "daemon/src/audit/sink/mod.rs",
            "mod file; use crate::audit::record::Line;",
        ),
        (
            "daemon/src/policy/mod.rs",
            "#[cfg(test)] mod t { use crate::proxy::X; }",
        ),
        ("daemon/src/policy/tests.rs", "use crate::proxy::X;"),
        ("xtask/src/main.rs", "use crate::proxy::X;"),
    ] {
        assert!(
            messages(name, text).is_empty(),
            "{name}: {:?}",
            messages(name, text)
        );
    }
}

#[test]
fn crates_that_a_module_may_not_touch_are_found() {
    for (name, text) in [
        (
            "daemon/src/protocol/mod.rs",
            "async fn f(s: tokio::net::TcpStream) {}",
        ),
        (
            "daemon/src/protocol/postgres/session.rs",
            "use std::time::{Duration, Instant};",
        ),
        ("daemon/src/masking/mod.rs", "fn f() { std::fs::read(x); }"),
        ("daemon/src/proxy/mod.rs", "use aya::maps::HashMap;"),
    ] {
        assert_eq!(messages(name, text).len(), 1, "{name}");
    }
}
