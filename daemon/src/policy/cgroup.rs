//! Patterns of `when.cgroup`: the path of a cgroup below the cgroup2 mount.
//!
//! `*` stands for any characters within one part of the path, `**` as a part of its own for
//! any number of parts, also none. Everything else is taken as it is (systemd's `\x2d`
//! too). Of several patterns that match a path the most specific counts: more parts without
//! a star, then more characters that are not a star, then fewer `**`. Absent on purpose:
//! braces, `?`, `[a-z]`.

use std::sync::Arc;

/// Bytes of a pattern.
const LONGEST: usize = 1_024;
/// Parts of a pattern, and of a path that is looked up.
const DEEPEST: usize = 64;

/// One part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// `**`
    Several,
    One(Vec<Piece>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Star,
    Char(char),
}

/// A pattern as it is written, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CgroupPattern {
    text: Arc<str>,
    parts: Vec<Part>,
}

/// More specific is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Specificity {
    plain_parts: usize,
    plain_chars: usize,
    fewer_several: std::cmp::Reverse<usize>,
}

impl CgroupPattern {
    /// The error says what is wrong and what would be right.
    pub(super) fn parse(text: &str) -> Result<Self, (String, &'static str)> {
        let shown = text.escape_debug();
        let wrong = |what: &str| format!("`{shown}` {what}");
        if text.len() > LONGEST {
            return Err((
                format!("a pattern longer than {LONGEST} bytes"),
                "no cgroup has such a path",
            ));
        }
        let Some(path) = text.strip_prefix('/') else {
            return Err((
                wrong("is not the absolute path of a cgroup"),
                "write the path below the cgroup2 mount: /agents.slice/etl-*.service",
            ));
        };
        if path.contains(['?', '[', '{']) {
            let help = "`*` within one part and `**` as a part are all that there is";
            return Err((wrong("has a `?`, `[` or `{`"), help));
        }
        let parts: Vec<&str> = path.split('/').collect();
        if parts.iter().any(|part| ["", ".", ".."].contains(part)) {
            let help = "no `//`, `.`, `..` or `/` at the end, and not the root";
            return Err((wrong("is not the plain path of a cgroup"), help));
        }
        if parts
            .iter()
            .any(|part| *part != "**" && part.contains("**"))
        {
            let help = "`**` stands for whole parts: /agents.slice/**/etl-*";
            return Err((wrong("has a `**` within a part"), help));
        }
        if parts.len() > DEEPEST {
            let help = "`**` stands for any number of parts";
            return Err((format!("more than {DEEPEST} parts"), help));
        }
        Ok(Self {
            text: text.into(),
            parts: parts.into_iter().map(part).collect(),
        })
    }

    pub(super) fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Whether it matches this path, which has no patterns in it.
    pub(super) fn matches(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else {
            return false;
        };
        let parts: Vec<Part> = path
            .split('/')
            .take(DEEPEST + 1)
            .map(|part| Part::One(part.chars().map(Piece::Char).collect()))
            .collect();
        parts.len() <= DEEPEST && parts_meet(&self.parts, &parts)
    }

    /// Whether some path matches both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        parts_meet(&self.parts, &other.parts)
    }

    pub(super) fn specificity(&self) -> Specificity {
        let mut found = Specificity {
            plain_parts: 0,
            plain_chars: 0,
            fewer_several: std::cmp::Reverse(0),
        };
        for part in &self.parts {
            match part {
                Part::Several => found.fewer_several.0 += 1,
                Part::One(pieces) => {
                    let plain = pieces.iter().filter(|piece| **piece != Piece::Star).count();
                    found.plain_chars += plain;
                    found.plain_parts += usize::from(plain == pieces.len());
                }
            }
        }
        found
    }
}

fn part(text: &str) -> Part {
    if text == "**" {
        return Part::Several;
    }
    let piece = |c| {
        if c == '*' {
            Piece::Star
        } else {
            Piece::Char(c)
        }
    };
    Part::One(text.chars().map(piece).collect())
}

fn parts_meet(left: &[Part], right: &[Part]) -> bool {
    meet(
        left,
        right,
        |part| *part == Part::Several,
        |left, right| match (left, right) {
            (Part::One(left), Part::One(right)) => {
                meet(left, right, |piece| *piece == Piece::Star, PartialEq::eq)
            }
            _ => false,
        },
    )
}

/// Whether two sequences can stand for the same one, where `star` items stand for any
/// number of items. Row by row, so time is the product of the lengths.
fn meet<T>(
    left: &[T],
    right: &[T],
    star: impl Fn(&T) -> bool,
    same: impl Fn(&T, &T) -> bool,
) -> bool {
    // `above`: for each beginning of `right`, whether the `left` so far meets it.
    let mut above = vec![true];
    for item in right {
        let so_far = above.last().is_some_and(|met| *met);
        above.push(so_far && star(item));
    }
    for item in left {
        let mut before = above.first().is_some_and(|met| *met) && star(item);
        let mut row = vec![before];
        for ((diagonal, up), other) in above.iter().zip(above.iter().skip(1)).zip(right) {
            let grows = (star(item) || star(other)) && (*up || before);
            let steps = *diagonal && !star(item) && !star(other) && same(item, other);
            before = grows || steps;
            row.push(before);
        }
        above = row;
    }
    above.last().is_some_and(|met| *met)
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;
