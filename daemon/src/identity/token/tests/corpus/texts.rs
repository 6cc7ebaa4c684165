//! Texts that are no token, and tokens that were cut, joined or changed.

use serde_json::json;

use super::super::stage::*;
use super::{Case, claiming};
use crate::identity::token::Part;
use crate::identity::token::TokenRefusal::*;

fn part(token: &str, nth: usize) -> &str {
    token.split('.').nth(nth).expect("a part")
}

pub(super) fn texts() -> Vec<Case> {
    let good = good();
    let [head, body, tail] = [0, 1, 2].map(|nth| part(&good, nth).to_owned());
    let other = claiming(json!({"sub": "root"}));
    let raw_header = |text: &str| raw(&RSA, "RS256", text, &claims().to_string());
    let raw_claims = |text: &str| raw(&RSA, "RS256", &header("RS256", "rsa").to_string(), text);
    let twice = claims().to_string().replacen('{', "{\"sub\":\"root\",", 1);
    let deep = format!("{{\"a\":{}", "[".repeat(5000));
    vec![
        ("nothing", String::new(), NotThreeParts),
        ("one dot", format!("{head}.{body}"), NotThreeParts),
        ("three dots", format!("{good}."), NotThreeParts),
        (
            "encrypted",
            format!("{head}.{body}.{tail}.{tail}.{tail}"),
            Encrypted,
        ),
        ("six parts", format!("{good}.{good}"), NotThreeParts),
        ("1 MiB", "a".repeat(1 << 20), TooLong { longest: 16384 }),
        (
            "claims of 1 MiB",
            claiming(json!({"x": "y".repeat(1 << 20)})),
            TooLong { longest: 16384 },
        ),
        ("no signature", format!("{head}.{body}."), BadSignature),
        (
            "a cut signature",
            good[..good.len() - 2].into(),
            BadSignature,
        ),
        (
            "a cut claim",
            format!("{head}.{}.{tail}", &body[..body.len() - 4]),
            NotJson(Part::Claims),
        ),
        (
            "another token's signature",
            format!("{head}.{body}.{}", part(&other, 2)),
            BadSignature,
        ),
        (
            "another token's claims",
            format!("{head}.{}.{tail}", part(&other, 1)),
            BadSignature,
        ),
        (
            "padding in the header",
            format!("{head}=.{body}.{tail}"),
            NotBase64(Part::Header),
        ),
        (
            "padding in the claims",
            format!("{head}.{body}==.{tail}"),
            NotBase64(Part::Claims),
        ),
        (
            "padding at the end",
            format!("{good}=="),
            NotBase64(Part::Signature),
        ),
        (
            "a newline at the end",
            format!("{good}\n"),
            NotBase64(Part::Signature),
        ),
        (
            "a space before",
            format!(" {good}"),
            NotBase64(Part::Header),
        ),
        (
            "a space within",
            format!("{head}.{body} .{tail}"),
            NotBase64(Part::Claims),
        ),
        (
            "not the URL's alphabet",
            format!("{head}.{body}.+/{}", &tail[2..]),
            NotBase64(Part::Signature),
        ),
        (
            "Bearer before",
            format!("Bearer {good}"),
            NotBase64(Part::Header),
        ),
        ("sub twice", raw_claims(&twice), Duplicate(Part::Claims)),
        (
            "alg twice",
            raw_header(r#"{"alg":"RS256","kid":"rsa","alg":"none"}"#),
            Duplicate(Part::Header),
        ),
        (
            "kid twice, once escaped",
            raw_header(r#"{"alg":"RS256","kid":"rsa","k\u0069d":"x"}"#),
            Duplicate(Part::Header),
        ),
        ("header a list", raw_header("[]"), NotJson(Part::Header)),
        (
            "header no JSON",
            raw_header("{'alg':'RS256'}"),
            NotJson(Part::Header),
        ),
        ("claims a text", raw_claims("\"x\""), NotJson(Part::Claims)),
        (
            "claims and more",
            raw_claims(&format!("{}{{}}", claims())),
            NotJson(Part::Claims),
        ),
        (
            "claims not UTF-8",
            {
                let signed = format!("{head}.{}", base64(b"{\"sub\":\"\xff\"}"));
                format!("{signed}.{}", base64(RSA.sign("RS256", signed.as_bytes())))
            },
            NotJson(Part::Claims),
        ),
        ("claims very deep", raw_claims(&deep), NotJson(Part::Claims)),
    ]
}
