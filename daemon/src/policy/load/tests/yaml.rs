//! What is no YAML, or more of it than a policy may use; and the places that are told.

use super::*;

#[test]
fn what_is_no_yaml_says_where() {
    let plain = "not readable as YAML: ";
    one_error("", "0:0: the file is empty", "version: 1");
    one_error("# nothing\n", "0:0: the file is empty", "version: 1");
    one_error(
        "version: 1\nroles:\n\ta: {}\n",
        "3:1: a tab in the indentation",
        "spaces",
    );
    one_error(
        "a: &x 1\nb: *x\n",
        "1:7: anchors and aliases are not part of the policy language",
        "write the value out",
    );
    one_error(
        "<<: {a: 1}\n",
        "1:1: merge keys (`<<`) are not part of the policy language",
        "fields out",
    );
    one_error(
        "version: 1\n---\nversion: 1\n",
        "2:1: a second YAML document in the file",
        "one file for each",
    );
    let deep = "[".repeat(100_000);
    one_error(&deep, "1:17: nested deeper than 16 levels", "");
    let deep = (0..100)
        .map(|n| format!("{}a:\n", " ".repeat(n)))
        .collect::<String>();
    one_error(&deep, "17:17: nested deeper than 16 levels", "");
    one_error(
        "a: b: c\n",
        &format!("1:5: {plain}mapping values are not allowed in this context"),
        "",
    );
    one_error("a: 'x\n", &format!("1:4: {plain}unclosed quote"), "");
    one_error(
        "a: !x 1\n",
        &format!("1:7: {plain}unsupported tag `!x`"),
        "",
    );
    one_error(
        "a: \0\n",
        &format!("1:4: {plain}unexpected character: `\\u{{0}}'"),
        "",
    );
    one_error("- a\n", "1:1: a policy file is a mapping, not a list", "");
    one_error("hello\n", "1:1: a policy file is a mapping, not text", "");
}

#[test]
fn a_bomb_of_anchors_is_refused_at_its_first() {
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for n in 1..30 {
        let item = format!("*a{},", n - 1).repeat(9);
        bomb.push_str(&format!("a{n}: &a{n} [{item}]\n"));
    }
    let start = std::time::Instant::now();
    one_error(
        &bomb,
        "1:9: anchors and aliases are not part of the policy language",
        "",
    );
    assert!(start.elapsed().as_secs() < 1);
}

proptest::proptest! {
    /// Whatever the file holds: an answer, no panic.
    #[test]
    fn no_text_breaks_the_loader(
        at in 0..800_usize,
        length in 0..20_usize,
        new in "[\\x00-\\x7fé \"'{}\\[\\]:,&*!|>\\n\\t-]{0,8}",
    ) {
        let mut text = include_str!("../../../../../policies/library/shop.yaml").replace(|c: char| !c.is_ascii(), "");
        let at = at.min(text.len());
        let end = (at + length).min(text.len());
        text.replace_range(at..end, &new);
        let _ = Policy::from_texts([("p.yaml", text.as_str())], 1);
    }
}

/// The place is where the `@` was, after wide characters, in blocks and in later lines.
#[test]
fn places_are_exact() {
    for marked in [
        "version: @2\n",
        "version: 1\n@rulez: []\n",
        "version: 1\n# größe → 大\nroles:\n  a:\n    when:\n      cgroup: @x\n",
        "version: 1\nroles: {größe: {}, a: {@x: 1}}\n",
        "version: 1\nrules:\n  - id: a\n    role: @nobody\n    deny: [sql.tx]\n    on: [x]\n",
        "version: 1\nrules:\n  - @id: a\n    role: '*'\n    on: [x]\n",
        "version: 1\r\nroles:\r\n  a:\r\n    @wen: {}\r\n",
        "version: 1\nrules:\n- {id: a, role: '*', on: ['*'], deny: [sql.tx, @\"sql.wirte\"]}\n",
    ] {
        let (before, _) = marked.split_once('@').expect("a mark");
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let place = format!("{line}:{column}: ");
        let found = errors(&marked.replace('@', ""));
        assert!(
            found.iter().any(|(said, _)| said.starts_with(&place)),
            "{marked}: {place} {found:?}"
        );
    }
}
