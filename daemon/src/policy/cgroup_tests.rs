use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> CgroupPattern {
    CgroupPattern::parse(text).expect("a pattern")
}

#[test]
fn stars_stay_within_a_part_and_double_stars_do_not() {
    for (text, path, matches) in [
        ("/a/b", "/a/b", true),
        ("/a/b", "/a/b/c", false),
        ("/a/etl-*.service", "/a/etl-1.service", true),
        ("/a/etl-*.service", "/a/etl-.service", true),
        ("/a/etl-*.service", "/a/etl-x/y.service", false),
        ("/a/etl-*.service", "/a/etl-1.service/sub", false),
        ("/a/**", "/a", true),
        ("/a/**", "/a/b/c", true),
        ("/a/**", "/ab", false),
        ("/a/**/z", "/a/z", true),
        ("/a/**/z", "/a/b/c/z", true),
        ("/a/**/z", "/a/b/c/z/y", false),
        ("/**", "/x/y", true),
        ("/*", "/x/y", false),
        ("/a*b*c", "/aXbXbc", true),
        ("/a*b*c", "/aXcXb", false),
        (r"/a\x2db", r"/a\x2db", true),
        // A name may hold a star; it is nothing special there.
        ("/ab", "/*", false),
        ("/a/b", "/a//b", false),
        ("/a", "a", false),
    ] {
        assert_eq!(pattern(text).matches(path), matches, "{text} {path}");
    }
    let deep = "/x".repeat(DEEPEST + 1);
    assert!(!pattern("/**").matches(&deep));
}

#[test]
fn what_is_no_plain_pattern_is_refused() {
    for text in [
        "", "a/b", "/", "/a/", "/a//b", "/a/../b", "/./a", "/a**", "/a/**b", "/***", "/a?",
        "/[ab]", "/{a,b}",
    ] {
        assert!(CgroupPattern::parse(text).is_err(), "{text}");
    }
    assert!(CgroupPattern::parse(&"/x".repeat(DEEPEST + 1)).is_err());
    assert!(CgroupPattern::parse(&format!("/{}", "x".repeat(LONGEST))).is_err());
}

#[test]
fn the_more_is_written_out_the_more_specific() {
    let order = [
        "/**", "/*", "/a*", "/a*z", "/a", "/a/**", "/a/*", "/a/b*", "/a/b",
    ];
    let of = |text: &str| pattern(text).specificity();
    for pair in order.windows(2) {
        let (less, more) = (of(pair[0]), of(pair[1]));
        // `/a` and `/a/**` meet only where the first is exact.
        let ordered = less < more || pair == ["/a", "/a/**"];
        assert!(ordered, "{pair:?}");
    }
    assert_eq!(of("/a/*/c"), of("/a/b/*"));
}

#[test]
fn patterns_overlap_where_a_path_matches_both() {
    for (one, other, overlap) in [
        ("/a/*/c", "/a/b/*", true),
        ("/a/*/c", "/a/b/d", false),
        ("/a*", "/*b", true),
        ("/a*c", "/ab*", true),
        ("/a*x", "/b*x", false),
        ("/**/x", "/y/**", true),
        ("/**/x", "/y/*/z", false),
        ("/*", "/*/*", false),
    ] {
        assert_eq!(
            pattern(one).overlaps(&pattern(other)),
            overlap,
            "{one} {other}"
        );
        assert_eq!(
            pattern(other).overlaps(&pattern(one)),
            overlap,
            "{other} {one}"
        );
    }
}

/// Says the same with a search that is slow and plain.
fn slow(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((&"**", rest)), _) => {
            slow(rest, path)
                || path
                    .split_first()
                    .is_some_and(|(_, path)| slow(pattern, path))
        }
        (Some((part, rest)), Some((name, path))) => slow_part(part, name) && slow(rest, path),
        _ => false,
    }
}

fn slow_part(part: &str, name: &str) -> bool {
    match part.chars().next() {
        None => name.is_empty(),
        Some('*') => name
            .char_indices()
            .map(|(at, _)| at)
            .chain([name.len()])
            .any(|at| slow_part(&part[1..], &name[at..])),
        Some(c) => name
            .strip_prefix(c)
            .is_some_and(|name| slow_part(&part[1..], name)),
    }
}

proptest! {
    #[test]
    fn matching_is_what_the_plain_search_says(
        parts in prop::collection::vec("[ab]{1,2}|[ab]?\\*[ab]?|\\*\\*", 1..5),
        path in prop::collection::vec("[ab]{1,3}", 1..5),
    ) {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        let text = format!("/{}", parts.join("/"));
        let matches = pattern(&text).matches(&format!("/{}", names.join("/")));
        prop_assert_eq!(matches, slow(&parts, &names), "{}", text);
    }

    #[test]
    fn two_patterns_that_match_a_path_overlap(
        one in "(/([ab]{1,2}|[ab]?\\*[ab]?|\\*\\*)){1,4}",
        other in "(/([ab]{1,2}|[ab]?\\*[ab]?|\\*\\*)){1,4}",
        path in "(/[ab]{1,3}){1,4}",
    ) {
        let (one, other) = (pattern(&one), pattern(&other));
        prop_assert!(!(one.matches(&path) && other.matches(&path)) || one.overlaps(&other));
        prop_assert_eq!(one.overlaps(&other), other.overlaps(&one));
    }
}
