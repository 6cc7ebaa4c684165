//! Forged and broken tokens, each with the reason that it must be refused for. This list
//! only grows.

mod claims;
mod headers;
mod texts;

use std::collections::HashSet;

use proptest::prelude::*;
use serde_json::Value;

use super::stage::*;
use crate::identity::token::{TokenRefusal, Verifier};
use crate::types::Secret;

type Case = (&'static str, String, TokenRefusal);

/// Signed with the issuer's own RSA key, with this said in the header besides.
fn headed(changes: Value) -> String {
    token(&RSA, &merged(header("RS256", "rsa"), changes), &claims())
}

/// Signed with the issuer's own RSA key, with these claims changed.
fn claiming(changes: Value) -> String {
    token(&RSA, &header("RS256", "rsa"), &claims_with(changes))
}

fn corpus() -> Vec<Case> {
    [
        headers::algorithms(),
        headers::keys(),
        claims::times(),
        claims::parties(),
        texts::texts(),
    ]
    .concat()
}

#[test]
fn every_forged_token_is_refused_for_its_own_reason() {
    assert!(verdict(&good()).is_ok());
    for (name, token, reason) in corpus() {
        assert_eq!(verdict(&token).expect_err(name), reason, "{name}");
    }
}

#[test]
fn the_verifier_refuses_the_corpus_for_the_same_reasons() {
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("jwks.json");
    std::fs::write(&file, jwks().to_string()).expect("writes");
    let mut settings = settings();
    settings.jwks_file = Some(file);
    let verifier = Verifier::new(vec![settings]).expect("settings");
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.build().expect("a runtime");
    let verify = |token: &str| runtime.block_on(verifier.verify(&Secret::new(token.into()), NOW));
    assert!(verify(&good()).is_ok());
    for (name, token, reason) in corpus() {
        assert_eq!(verify(&token).expect_err(name), reason, "{name}");
    }
}

/// A reason without a token that shows it is a reason that nobody has tried.
#[test]
fn every_reason_is_in_the_corpus() {
    let shown: HashSet<_> = corpus()
        .iter()
        .map(|(_, _, reason)| std::mem::discriminant(reason))
        .collect();
    // Those that depend on the settings or the issuer are shown elsewhere:
    // AlgorithmNotAccepted, TooOld, NoKeys.
    let reasons = include_str!("../refusal.rs").matches("#[error(").count();
    assert_eq!(shown.len() + 3, reasons);
}

#[test]
fn a_refusal_never_repeats_the_token() {
    for (name, token, reason) in corpus() {
        let said = reason.to_string();
        for part in token.split('.').filter(|part| part.len() > 8) {
            assert!(!said.contains(part), "{name}: {said}");
        }
        for claimed in ["evil", "passwd", "UNION", "root"] {
            assert!(!said.contains(claimed), "{name}: {said}");
        }
        assert!(said.len() < 120 && !said.contains('\n'), "{name}: {said}");
    }
}

#[test]
fn no_character_of_a_token_can_be_changed() {
    let token = token(&ED, &header("EdDSA", "ed"), &claims());
    assert!(verdict(&token).is_ok());
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.= ";
    let mut bytes = token.clone().into_bytes();
    for at in 0..bytes.len() {
        let original = bytes[at];
        for byte in alphabet.iter().filter(|byte| **byte != original) {
            bytes[at] = *byte;
            let text = std::str::from_utf8(&bytes).expect("ASCII");
            assert!(verdict(text).is_err(), "{at}: {text}");
        }
        bytes[at] = original;
    }
}

proptest! {
    #[test]
    fn no_changed_token_is_genuine(
        which in 0..5_usize,
        at in any::<prop::sample::Index>(),
        length in 0..4_usize,
        new in "[A-Za-z0-9_.=+/é-]{0,4}",
    ) {
        let (signer, alg, kid) = [
            (&*RSA, "RS256", "rsa"), (&RSA, "RS512", "rsa-any"), (&P256, "ES256", "p256"),
            (&P384, "ES384", "p384"), (&ED, "EdDSA", "ed"),
        ][which];
        let good = token(signer, &header(alg, kid), &claims());
        prop_assert!(verdict(&good).is_ok());
        let from = at.index(good.len());
        let to = (from + length).min(good.len());
        let mut changed = good.clone();
        changed.replace_range(from..to, &new);
        prop_assume!(changed != good);
        prop_assert!(verdict(&changed).is_err(), "{}", changed);
    }

    /// Whatever comes: an answer, no panic.
    #[test]
    fn no_text_breaks_the_parser(
        header in "\\PC{0,40}|[\\[{:,\"a1.]{0,40}", claims in ".{0,40}", text in "\\PC{0,80}",
    ) {
        prop_assert!(verdict(&text).is_err());
        let forged = format!("{}.{}.{}", base64(header), base64(claims), text);
        prop_assert!(verdict(&forged).is_err());
    }
}
