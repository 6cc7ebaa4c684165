use super::*;

fn reach(pattern: &str, object: &str) -> Reach {
    let object = ObjectPath::parse(object).expect("an object path");
    parse(pattern)
        .expect("a pattern")
        .iter()
        .map(|pattern| pattern.scope.reach(&object))
        .max_by_key(|reach| *reach as u8)
        .expect("one alternative")
}

fn covers(pattern: &str, object: &str) -> bool {
    reach(pattern, object) == Reach::All
}

#[test]
fn a_star_stays_within_its_part() {
    assert!(covers("s/public.*", "public.orders"));
    assert!(!covers("s/public.*", "publicity.orders"));
    assert!(covers("s/pub*.*", "publicity.orders"));
    assert!(covers("s/*.pay", "hr.pay"));
    assert!(!covers("s/*.pay", "hr.pay_old"));
    assert!(!covers("s/*.pay", r#"hr."x.pay""#));
    assert!(covers("s/hr.p*y*d", "hr.payyold"));
    assert!(!covers("s/hr.ab*ba", "hr.aba"));
    assert!(covers("s/hr.*a*a*", "hr.aa"));
    assert!(!covers("s/hr.*a*a*", "hr.a"));
    assert!(!covers("s/hr.a*b*b", "hr.ab"));
    assert!(covers("s/hr.a*b*b", "hr.abb"));
}

#[test]
fn quoting_hides_no_object_from_a_pattern() {
    assert!(covers("s/hr.*", r#"hr."Weird.Name""#));
    assert!(covers("s/hr.*", r#"hr."a/b""#));
    assert!(covers("s/hr.pay*", r#"hr."pay-2024 ""x""""#));
    assert!(covers("s/hr.pay", r#""hr"."pay""#));
    assert!(covers(r#"s/"hr".pay"#, "hr.pay"));
    assert!(covers(r#"s/hr."Pay""#, r#"hr."Pay""#));
    assert!(!covers(r#"s/hr."Pay""#, "hr.pay"));
    assert!(covers(r#"s/hr."a*{b,c}/d""#, r#"hr."a*{b,c}/d""#));
    assert!(!covers(r#"s/hr."a*""#, "hr.ab"));
}

#[test]
fn everything_is_the_service_and_what_lies_below() {
    for pattern in ["s", "s/*"] {
        for object in ["hr", "hr.pay", "a.b.c", r#""x.y"."/""#] {
            assert!(covers(pattern, object), "{pattern} {object}");
        }
    }
}

#[test]
fn a_schema_is_covered_by_all_of_it_and_touched_by_a_part_of_it() {
    assert_eq!(reach("s/hr.*", "hr"), Reach::All);
    assert_eq!(reach("s/hr.pay", "hr"), Reach::Some);
    assert_eq!(reach("s/hr.p*", "hr"), Reach::Some);
    assert_eq!(reach("s/hr.*", "public"), Reach::Nothing);
    assert_eq!(reach("s/hr.pay", "hr.pay.salary"), Reach::All);
}

#[test]
fn braces_are_written_out() {
    for object in ["public.a", "public.b1", "public.b2"] {
        assert!(covers("s/public.{a,b{1,2}}", object), "{object}");
    }
    assert!(!covers("s/public.{a,b{1,2}}", "public.b"));
    assert!(covers("s/{hr,billing}.*", "billing.card"));
    assert!(covers("s/{a.b,c.d}", "c.d"));
    assert!(!covers("s/{a.b,c.d}", "a.d"));
    assert_eq!(parse("{s,t}/x.{y,z}").expect("pattern").len(), 4);
}

#[test]
fn what_is_not_a_pattern_says_what_would_be() {
    let cases = [
        ("", "nothing in the name of the service", "write service"),
        (
            "/x.y",
            "nothing in the name of the service",
            "write service",
        ),
        ("s/", "an empty name", "service/schema.name"),
        (
            "s/public",
            "neither a schema nor a table",
            "public.* for all of a schema",
        ),
        ("s/public.", "an empty name", "service/schema.name"),
        (
            "s/a.b.c",
            "more parts than schema.name",
            "the database is the service's",
        ),
        (
            "s/public.Orders",
            "the capital `O` in `Orders`",
            "write orders, or \"Orders\"",
        ),
        ("s/public.my-table", "`-` in `my-table`", "double quotes"),
        ("s/public.a/b", "`/` in `a/b`", "double quotes"),
        ("s/public.**", "`**`", "double quotes"),
        (
            "s/public.orders(id)",
            "columns in a pattern are not supported",
            "whole tables",
        ),
        ("s/public.{a,b", "a `{` with no `}`", "{a,b}"),
        ("s/public.a}", "a `}` with no `{`", "{a,b}"),
        ("s/public.{a,}", "an empty name", "service/schema.name"),
        ("s/public.\"a", "does not end", "\"Name\""),
        (
            "s/public.\"a\"*",
            "right after a quoted name",
            "outside of them",
        ),
        ("s/public.a\"b\"", "`\"` in `a\"b\"`", "double quotes"),
    ];
    for (pattern, message, help) in cases {
        let error = parse(pattern).expect_err(pattern);
        assert!(
            error.message.contains(message),
            "{pattern}: {}",
            error.message
        );
        let said = error.help.unwrap_or_default();
        assert!(said.contains(help), "{pattern}: {said}");
    }
}

#[test]
fn a_bomb_of_braces_is_refused() {
    let bomb = format!("s/public.{}", "{a,b}".repeat(40));
    let error = parse(&bomb).expect_err("too many");
    assert!(error.message.contains("more than 256"), "{}", error.message);
    let nested = format!("s/public.{}a{}", "{".repeat(5_000), "}".repeat(5_000));
    assert!(parse(&nested).is_err());
    let deepest = format!("s/public.{}a{}", "{".repeat(500), "}".repeat(500));
    assert!(parse(&deepest).is_ok());
}

#[test]
fn a_malformed_object_is_no_object() {
    for path in [
        "", ".", "a.", ".b", "a..b", "\"a", "\"\".b", "a\"b.c", "\"a\"b.c", "a.b.",
    ] {
        assert_eq!(ObjectPath::parse(path), None, "{path}");
    }
}
