use super::*;

#[test]
fn unknown_keys_are_refused_and_missing_ones_have_defaults() {
    let config = Config::parse("gate: {port: 7000}\n").expect("valid");
    assert_eq!(
        (config.gate.port, config.gate.cgroup.as_str()),
        (7000, "portcullis")
    );
    let error = Config::parse("gate: {prot: 7000}\n").expect_err("unknown key");
    assert!(error.contains("prot"), "{error}");
}

#[test]
fn the_file_that_is_installed_has_every_key_with_its_default() {
    let text = include_str!("../../dist/portcullisd.yaml");
    let installed = Config::parse(text).expect("valid");
    let defaults = format!("{:#?}", Config::default());
    assert_eq!(format!("{installed:#?}"), defaults);
    for line in defaults.lines() {
        let Some((key, _)) = line.trim().split_once(": ") else {
            continue;
        };
        assert!(text.contains(&format!("{key}:")), "{key}");
    }
}

#[test]
fn metrics_stay_on_the_loopback() {
    for (address, fits) in [("127.0.0.1:9187", true), ("0.0.0.0:9187", false)] {
        let config = Config::parse(&format!("metrics: {{listen: '{address}'}}\n"));
        let checked = config.expect("valid").check();
        assert_eq!(checked.is_ok(), fits, "{address}");
    }
}

#[test]
fn a_vault_has_an_address_and_one_way_in() {
    let approle = "approle: {role_id: r, secret_id_file: /s}";
    for (text, fits) in [
        ("address: 'https://v', token_file: /t".to_owned(), true),
        (format!("address: 'https://v', {approle}"), true),
        ("token_file: /t".to_owned(), false),
        ("address: 'https://v'".to_owned(), false),
        (
            format!("address: 'https://v', token_file: /t, {approle}"),
            false,
        ),
        (
            "address: 'https://v', token_file: /t, timeout_seconds: 0".to_owned(),
            false,
        ),
    ] {
        let config = Config::parse(&format!("vault: {{{text}}}\n"));
        let checked = config.expect("valid").check();
        assert_eq!(checked.is_ok(), fits, "{text}");
    }
}

#[test]
fn a_cgroup_name_cannot_climb() {
    for name in ["../x", "", "a/b", ".."] {
        let mut config = Config::default();
        config.gate.cgroup = name.into();
        assert!(config.check().is_err(), "{name}");
    }
}

#[test]
fn issuers_are_checked_at_load() {
    for (issuer, said) in [
        (
            "issuer: 'https://idp.example', audience: portcullis, max_age: 1h",
            "",
        ),
        (
            "issuer: 'http://idp.example', audience: portcullis",
            "must be https",
        ),
        ("issuer: 'https://idp.example'", "audience"),
        (
            "issuer: 'https://idp.example', audience: a, jwks: b",
            "jwks",
        ),
        (
            "issuer: 'https://idp.example', audience: a, algorithms: [HS256]",
            "HS256",
        ),
        (
            "issuer: 'https://idp.example', audience: a, leeway: 1",
            "length of time",
        ),
    ] {
        let config = Config::parse(&format!("identity: {{issuers: [{{{issuer}}}]}}\n"));
        let checked = config.and_then(|config| config.check());
        match checked {
            Ok(()) => assert_eq!(said, "", "{issuer}"),
            Err(error) => assert!(!said.is_empty() && error.contains(said), "{error}"),
        }
    }
}
