//! Texts that differ in plain whole numbers only, and so have the same effects.
//!
//! Programs that put numbers into their texts (`WHERE id = 4711`) send another text each
//! time. No effect hangs on the value of such a number (a type's modifier at most, or an error
//! of the server's, does), so one analysis does for all of them. Invariant: two texts of one
//! shape have the same tokens but for the values of whole numbers; where a simple look can't
//! tell (quotes, comments, `$`, letters beyond ASCII), there is no shape.

use crate::policy::Verb;
use crate::protocol::{Names, Operation};

/// Digits that fit into a 32-bit integer, whatever they are: the grammar takes longer
/// numbers as another token.
const DIGITS: usize = 9;

/// The text with each plain whole number in it as a single zero; none if it has none, or
/// has something that a number may be hidden in.
pub(super) fn shape(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let hides = |byte: &u8| !byte.is_ascii() || matches!(byte, b'\'' | b'"' | b'$' | b'\\' | 0);
    let comments = |pair: &[u8]| matches!(pair, b"--" | b"/*");
    if bytes.iter().any(hides) || bytes.windows(2).any(comments) {
        return None;
    }
    let (mut shape, mut rest) = (String::with_capacity(text.len()), text);
    let (mut before, mut found) = (' ', false);
    while let Some(next) = rest.chars().next() {
        let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        // A whole word, or one character of something else.
        let (word, behind) = rest.split_at_checked(end.max(next.len_utf8()))?;
        let number = word.len() <= DIGITS && word.bytes().all(|byte| byte.is_ascii_digit());
        if number && before != '.' && !behind.starts_with('.') {
            shape.push('0');
            found = true;
        } else {
            shape.push_str(word);
        }
        before = word.chars().next_back()?;
        rest = behind;
    }
    found.then_some(shape)
}

/// What names, keywords and numbers are made of.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether the analysis of one text holds for all of its shape: plain reads and writes, and
/// nothing that a name or a setting hangs on.
pub(super) fn holds_for_all(operation: &Operation) -> bool {
    let plain = |verb| {
        matches!(
            verb,
            Verb::SqlSelect | Verb::SqlInsert | Verb::SqlUpdate | Verb::SqlDelete
        )
    };
    operation.problem.is_none()
        && operation.names == Names::default()
        && operation.effects.iter().all(|effect| plain(effect.verb))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_numbers_are_left_out() {
        for (text, expected) in [
            (
                "SELECT a FROM t WHERE id = 4711;",
                "SELECT a FROM t WHERE id = 0;",
            ),
            (
                "select t1.c2 from t1 where x=-5+(3)",
                "select t1.c2 from t1 where x=-0+(0)",
            ),
            ("VALUES (1,22,333)", "VALUES (0,0,0)"),
            ("select 1.5, 7", "select 1.5, 0"),
            (
                "select x1 , 0x1F, 1e5, 1_000, 42",
                "select x1 , 0x1F, 1e5, 1_000, 0",
            ),
            ("select 1234567890, 123456789", "select 1234567890, 0"),
        ] {
            assert_eq!(shape(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_may_hide_a_number_has_no_shape() {
        for text in [
            "select 'a 1'",
            "select * from \"t 1\"",
            "select $1, 1",
            "select $$ 1 $$",
            "select 1 -- 2",
            "select /* 1 */ 2",
            "select \u{e9} 1",
            "select \\ 1",
            "select a from t1",
            "select .5, 5., 1.5",
            "",
        ] {
            assert_eq!(shape(text), None, "{text}");
        }
    }
}
