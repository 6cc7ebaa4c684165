//! The unix sockets that a role may reach.

use super::*;
use crate::types::Principal;

fn role(text: &str) -> String {
    format!("version: 1\nroles:\n  analyst: {{{text}}}\n")
}

#[test]
fn unix_sockets_are_the_union_over_a_principals_roles() {
    let text = "version: 1
roles:
  a: {when: {as: [x, y]}, unix_sockets: ['/run/nscd/socket', '@bus']}
  b: {when: {as: [x]}, unix_sockets: ['@bus', '/run/b.sock']}
  c: {when: {as: [x]}}
";
    let (policy, _) = Policy::from_texts([("p.yaml", text)], 1).expect("loads");
    let of = |name: &str| policy.unix_sockets_of(&Principal::named(name));
    assert_eq!(
        of("x"),
        ["/run/b.sock", "/run/nscd/socket", "@bus"].map(Into::into)
    );
    assert_eq!(of("y"), ["/run/nscd/socket", "@bus"].map(Into::into));
    assert!(of("z").is_empty());
}

#[test]
fn what_is_no_exact_name_of_a_unix_socket_is_an_error() {
    let long = format!("/{}", "x".repeat(107));
    for (name, said, help) in [
        (
            "run/x",
            "`run/x` is not the name of a unix socket",
            "absolute",
        ),
        ("/run/*.sock", "`/run/*.sock` is a pattern", "exact"),
        (
            "/run/../x",
            "`/run/../x` is not the plain path of a socket",
            "..",
        ),
        (
            "/run//x",
            "`/run//x` is not the plain path of a socket",
            "//",
        ),
        (
            "/run/x/",
            "`/run/x/` is not the plain path of a socket",
            "end",
        ),
        ("@", "the empty abstract name", "after the @"),
        (&long, "longer than 107 bytes", "no unix socket"),
    ] {
        let text = role(&format!("unix_sockets: ['{name}']"));
        one_error(&text, &format!("3:28: {said}"), help);
    }
    let text = role("unix_socket: ['/run/x']");
    one_error(
        &text,
        "3:13: unknown field `unix_socket` of a role",
        "unix_sockets",
    );
    let text = role("unix_sockets: '/run/x'");
    one_error(
        &text,
        "3:27: `unix_sockets` is a list, not text",
        "['/run/x']",
    );
}

#[test]
fn a_socket_where_everybody_may_put_a_link_is_worth_a_word() {
    let text = role("unix_sockets: ['/tmp/x.sock']");
    let (_, warnings) = Policy::from_texts([("p.yaml", text.as_str())], 1).expect("loads");
    let said = |warning: &Warning| warning.to_string().contains("link to another socket");
    assert!(warnings.iter().any(said), "{warnings:?}");
}
