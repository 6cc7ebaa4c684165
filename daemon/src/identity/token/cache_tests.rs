use super::*;

const KEEP: Duration = Duration::from_secs(24 * 3600);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn keys(kid: &str) -> KeySet {
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let set = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{x}"}}]}}"#);
    KeySet::parse(set.as_bytes()).expect("keys")
}

/// `use`, `fetch` or the refusal.
fn step(cache: &Cache, kid: &str, now: u64) -> String {
    match cache.step(kid, at(now), KEEP) {
        Step::Use(_) => "use".into(),
        Step::Fetch => "fetch".into(),
        Step::Refuse(refusal) => refusal.to_string(),
    }
}

fn with(kid: &str, max_age: Option<u64>) -> Cache {
    let mut cache = Cache::default();
    cache.fetched(kid, at(100), keys(kid), max_age.map(at));
    cache
}

#[test]
fn keys_serve_as_long_as_the_issuer_says_within_bounds() {
    for (said, fresh) in [
        (None, 300),
        (Some(120), 120),
        (Some(0), 60),
        (Some(31_536_000), 3600),
    ] {
        let cache = with("a", said);
        assert_eq!(step(&cache, "a", 100 + fresh - 1), "use", "{said:?}");
        assert_eq!(step(&cache, "a", 100 + fresh), "fetch", "{said:?}");
    }
}

#[test]
fn an_unknown_key_is_asked_for_at_once_and_then_not_for_a_while() {
    let mut cache = with("old", None);
    assert_eq!(step(&cache, "new", 101), "fetch");
    cache.fetched("forged", at(101), keys("old"), None);
    for kid in ["forged", "new", "another"] {
        assert_eq!(step(&cache, kid, 110), "use", "{kid}");
    }
    assert_eq!(step(&cache, "old", 110), "use");
    assert_eq!(step(&cache, "new", 111), "fetch");
    cache.fetched("new", at(111), keys("new"), None);
    assert_eq!(step(&cache, "new", 112), "use");
}

#[test]
fn the_last_good_keys_serve_while_the_issuer_is_silent_up_to_a_limit() {
    let mut cache = with("a", Some(60));
    assert_eq!(step(&cache, "a", 160), "fetch");
    cache.failed(at(160), "down".into());
    assert_eq!(step(&cache, "a", 161), "use");
    assert_eq!(step(&cache, "a", 170), "fetch");
    let limit = 100 + KEEP.as_secs();
    cache.failed(at(limit - 1), "down".into());
    assert_eq!(step(&cache, "a", limit - 1), "use");
    let refused = step(&cache, "a", limit);
    assert_eq!(refused, "the issuer's keys can't be had: down");
}

#[test]
fn a_key_that_is_not_held_is_not_called_unknown_while_the_issuer_is_silent() {
    let mut cache = with("a", None);
    cache.failed(at(101), "down".into());
    let refused = step(&cache, "b", 102);
    assert_eq!(refused, "the issuer's keys can't be had: down");
    assert_eq!(step(&cache, "a", 102), "use");
}

#[test]
fn without_any_key_a_failure_is_a_refusal_and_is_not_repeated_at_once() {
    let mut cache = Cache::default();
    assert_eq!(step(&cache, "a", 0), "fetch");
    cache.failed(at(0), "down".into());
    assert_eq!(step(&cache, "a", 9), "the issuer's keys can't be had: down");
    assert_eq!(step(&cache, "a", 10), "fetch");
}

#[test]
fn the_issuers_word_on_caching_is_read() {
    for (header, seconds) in [
        ("public, max-age=86400, must-revalidate", Some(86_400)),
        ("Max-Age=\"60\"", Some(60)),
        ("max-age=60, no-store", Some(0)),
        ("no-cache", Some(0)),
        ("max-age=-1", None),
        ("max-age=99999999999999999999", None),
        ("s-maxage=5", None),
        ("", None),
    ] {
        assert_eq!(max_age(header), seconds.map(at), "{header}");
    }
}
