//! What is wrong with a policy, told as a compiler tells it.
//!
//! A [`Problem`] owns the line that it points at, so it outlives the files. Every phase of
//! loading adds to one [`Diagnostics`] and goes on: the reader gets all errors at once.
//! Absent on purpose: colour and terminal width.

use std::fmt;
use std::sync::Arc;

/// At most this many problems are printed; the rest are counted.
const SHOWN: usize = 50;
/// Columns of a source line that are printed; long lines are cut around the caret.
const EXCERPT: usize = 120;

/// A place in one of the files being loaded; line and column count characters from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) file: usize,
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) width: u32,
}

impl Spot {
    /// A file as a whole.
    pub(super) fn whole(file: usize) -> Self {
        Self {
            file,
            line: 0,
            column: 0,
            width: 0,
        }
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) spot: Spot,
}

/// One policy file.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: Arc<str>,
    pub(super) text: Arc<str>,
}

/// One thing that is wrong, with the place and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    file: Arc<str>,
    line: u32,
    column: u32,
    width: u32,
    excerpt: Box<str>,
    message: Box<str>,
    help: Option<Box<str>>,
}

impl Problem {
    /// A problem of a file or directory as a whole.
    pub(super) fn of_file(file: &str, message: impl Into<Box<str>>, help: Option<&str>) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
            width: 0,
            excerpt: "".into(),
            message: message.into(),
            help: help.map(Into::into),
        }
    }

    /// The same place with other words.
    pub(super) fn with(mut self, message: String, help: String) -> Self {
        self.message = message.into();
        self.help = Some(help.into());
        self
    }

    /// The file, as it was named at loading.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line, from 1; 0 when the file as a whole is meant.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// The column in characters, from 1; 0 when the file as a whole is meant.
    pub fn column(&self) -> u32 {
        self.column
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What would be right, where that is known.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, severity: &str) -> fmt::Result {
        if self.line == 0 {
            write!(f, "{}: {severity}: {}", self.file, self.message)?;
            if let Some(help) = &self.help {
                write!(f, "\n  = help: {help}")?;
            }
            return Ok(());
        }
        let (file, line, column) = (&self.file, self.line, self.column);
        write!(f, "{file}:{line}:{column}: {severity}: {}", self.message)?;
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        if !self.excerpt.is_empty() {
            let (shown, caret) = excerpt(&self.excerpt, self.column, self.width);
            write!(f, "\n {number} | {shown}\n {margin} | {caret}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n {margin} = help: {help}")?;
        }
        Ok(())
    }
}

/// The line with control characters made harmless, cut around the column; and its carets.
fn excerpt(line: &str, column: u32, width: u32) -> (String, String) {
    let at = (column as usize).saturating_sub(1);
    let start = at.saturating_sub(EXCERPT / 2);
    let shown: String = line
        .chars()
        .skip(start)
        .take(EXCERPT)
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect();
    let length = shown.chars().count();
    let width = (width as usize).clamp(1, length.saturating_sub(at - start).max(1));
    let caret = format!("{}{}", " ".repeat(at - start), "^".repeat(width));
    (shown, caret)
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "error")
    }
}

/// Something that is allowed and probably not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(pub Problem);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, "warning")
    }
}

/// Everything that is wrong with a policy, in the order of the files. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadErrors(Vec<Problem>);

impl LoadErrors {
    /// The problems, in the order of files and lines.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl From<Vec<Problem>> for LoadErrors {
    fn from(problems: Vec<Problem>) -> Self {
        Self(problems)
    }
}

impl fmt::Display for LoadErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, problem) in self.0.iter().take(SHOWN).enumerate() {
            let separator = if nth == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n... and {more} more"),
        }
    }
}

impl std::error::Error for LoadErrors {}

/// The files being loaded and what was found wrong in them so far.
#[derive(Debug, Default)]
pub(super) struct Diagnostics {
    sources: Vec<Source>,
    errors: Vec<(Spot, Problem)>,
    warnings: Vec<(Spot, Problem)>,
    /// Files that no line may be shown of.
    secret: Vec<usize>,
}

impl Diagnostics {
    pub(super) fn new(sources: Vec<Source>) -> Self {
        Self {
            sources,
            ..Self::default()
        }
    }

    /// Shows no line of this file: somebody wrote a secret into it, and problems are logged.
    pub(super) fn hide_lines(&mut self, file: usize) {
        self.secret.push(file);
    }

    pub(super) fn error(&mut self, spot: Spot, message: impl Into<Box<str>>, help: Option<String>) {
        let problem = self.problem(spot, message.into(), help);
        self.errors.push((spot, problem));
    }

    pub(super) fn warn(&mut self, spot: Spot, message: impl Into<Box<str>>, help: Option<String>) {
        let problem = self.problem(spot, message.into(), help);
        self.warnings.push((spot, problem));
    }

    /// The name of the spot's file.
    pub(super) fn file_name(&self, spot: Spot) -> Arc<str> {
        self.sources
            .get(spot.file)
            .map_or_else(|| "?".into(), |source| Arc::clone(&source.name))
    }

    /// `file:line`, to point at a second place.
    pub(super) fn place(&self, spot: Spot) -> String {
        format!("{}:{}", self.file_name(spot), spot.line)
    }

    pub(super) fn problem(&self, spot: Spot, message: Box<str>, help: Option<String>) -> Problem {
        let line = (spot.line as usize)
            .checked_sub(1)
            .and_then(|nth| self.sources.get(spot.file)?.text.lines().nth(nth))
            .unwrap_or("");
        Problem {
            file: self.file_name(spot),
            line: spot.line,
            column: spot.column,
            width: spot.width,
            excerpt: line.into(),
            message,
            help: help.map(Into::into),
        }
    }

    /// The warnings, or else every error; both in the order of files and lines.
    pub(super) fn finish(mut self) -> Result<Vec<Warning>, LoadErrors> {
        for (spot, problem) in self.errors.iter_mut().chain(&mut self.warnings) {
            if self.secret.contains(&spot.file) {
                problem.excerpt = "".into();
            }
        }
        self.errors.sort_by_key(|(spot, _)| *spot);
        self.warnings.sort_by_key(|(spot, _)| *spot);
        if self.errors.is_empty() {
            Ok(self
                .warnings
                .into_iter()
                .map(|(_, problem)| Warning(problem))
                .collect())
        } else {
            Err(LoadErrors(
                self.errors
                    .into_iter()
                    .map(|(_, problem)| problem)
                    .collect(),
            ))
        }
    }
}

/// The candidate that the word was most likely meant to be, when one is near enough.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(candidate, word), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `did you mean ...`, or else the whole list.
pub(super) fn suggest(word: &str, kind: &str, candidates: &[&str]) -> String {
    match nearest(word, candidates.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if candidates.is_empty() => format!("there are no {kind}"),
        None if candidates.len() > 12 => {
            format!("none of the {} {kind} is near it", candidates.len())
        }
        None => format!("the {kind} are: {}", candidates.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_points_at_its_column() {
        let mut found = Diagnostics::new(vec![Source {
            name: "a.yaml".into(),
            text: "version: 1\nrulez: []\n".into(),
        }]);
        let spot = Spot {
            file: 0,
            line: 2,
            column: 1,
            width: 5,
        };
        found.error(
            spot,
            "unknown field `rulez`",
            Some("did you mean `rules`?".into()),
        );
        assert_eq!(
            found.finish().expect_err("one error").to_string(),
            "a.yaml:2:1: error: unknown field `rulez`\n \
             2 | rulez: []\n   | ^^^^^\n   = help: did you mean `rules`?"
        );
    }

    #[test]
    fn a_long_line_is_cut_and_its_controls_are_harmless() {
        let line = format!("{}\u{1b}[31mX{}", "a".repeat(5_000), "b".repeat(5_000));
        let (shown, caret) = excerpt(&line, 5_006, 1);
        assert_eq!(shown.chars().count(), EXCERPT);
        assert!(!shown.contains('\u{1b}'));
        let under = shown.chars().nth(caret.chars().count() - 1);
        assert_eq!(under, Some('X'));
    }

    #[test]
    fn only_near_words_are_suggested() {
        let roles = ["analyst", "etl"];
        assert_eq!(nearest("anlayst", roles), Some("analyst"));
        assert_eq!(nearest("boss", roles), None);
        assert_eq!(
            suggest("boss", "roles", &roles),
            "the roles are: analyst, etl"
        );
    }
}
