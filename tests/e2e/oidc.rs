//! Tokens of a real OpenID provider, verified by way of its discovery document and keys.

use std::time::{SystemTime, UNIX_EPOCH};

use portcullis::identity::token::{IssuerSettings, TokenRefusal, Verifier};
use portcullis::types::{Principal, Proof, Secret, TokenFacts};
use portcullis_tests::issuer::{AUDIENCE, CLIENT, Issuer};
use portcullis_tests::port;

fn verifier(issuer: &Issuer, more: &str) -> Verifier {
    let text = format!("{{issuer: '{}', {more}}}", issuer.url());
    let settings = IssuerSettings::parse(&text).expect("settings");
    Verifier::new(vec![settings]).expect("settings")
}

fn for_agents(issuer: &Issuer) -> Verifier {
    verifier(issuer, &format!("audience: '{AUDIENCE}'"))
}

async fn verify(verifier: &Verifier, token: &str) -> Result<Principal, TokenRefusal> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time");
    let now = i64::try_from(now.as_secs()).expect("seconds");
    verifier.verify(&Secret::new(token.into()), now).await
}

fn facts(principal: &Principal) -> &TokenFacts {
    match &principal.proof {
        Proof::Token(facts) => facts,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_providers_tokens_are_verified_with_every_algorithm() {
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let port = port::free().expect("a port");
        let issuer = Issuer::start(port, algorithm).expect("a provider");
        // An access token of the client credentials grant.
        let token = issuer.agent_token().expect("a token");
        let verified = verify(&for_agents(&issuer), &token).await;
        let principal = verified.expect(algorithm);
        assert_eq!(&*principal.name, "agent-1");
        assert_eq!(facts(&principal).groups, ["agents"]);
        assert_eq!(facts(&principal).issuer, issuer.url());
        assert_eq!(facts(&principal).expires - facts(&principal).issued, 300);
        // An ID token of a user, by the device flow.
        let token = issuer.user_token("alice").expect("a token");
        let users = verifier(&issuer, &format!("audience: {CLIENT}"));
        let principal = verify(&users, &token).await.expect(algorithm);
        assert_eq!(&*principal.name, "alice");
        assert_eq!(facts(&principal).groups, ["dba", "sre"]);
        let refused = verify(&for_agents(&issuer), &token).await;
        assert_eq!(refused.err(), Some(TokenRefusal::OtherAudience));
        issuer.stop().expect("stops");
    }
}

#[tokio::test]
async fn new_keys_of_another_type_are_found_at_once_and_old_tokens_refused() {
    let port = port::free().expect("a port");
    let issuer = Issuer::start(port, "RS256").expect("a provider");
    let verifier = for_agents(&issuer);
    let old = issuer.agent_token().expect("a token");
    verify(&verifier, &old).await.expect("genuine");
    issuer.stop().expect("stops");
    let issuer = Issuer::start(port, "ES256").expect("a provider");
    let new = issuer.agent_token().expect("a token");
    verify(&verifier, &new).await.expect("the new key");
    let refused = verify(&verifier, &old).await;
    assert_eq!(refused.err(), Some(TokenRefusal::UnknownKey));
}

#[tokio::test]
async fn a_provider_that_is_down_or_stuck_is_named_and_held_keys_serve() {
    let port = port::free().expect("a port");
    let mut issuer = Issuer::start(port, "RS256").expect("a provider");
    let verifier = for_agents(&issuer);
    let token = issuer.agent_token().expect("a token");
    verify(&verifier, &token).await.expect("genuine");
    issuer.freeze().expect("stops");
    verify(&verifier, &token).await.expect("the held keys");
    let stuck = match verify(&for_agents(&issuer), &token).await {
        Err(TokenRefusal::NoKeys(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(stuck.contains("did not answer within 5s"), "{stuck}");
    let nobody = for_agents(&issuer);
    issuer.stop().expect("stops");
    verify(&verifier, &token).await.expect("the held keys");
    let down = match verify(&nobody, &token).await {
        Err(TokenRefusal::NoKeys(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(down.contains("cannot connect"), "{down}");
}
