//! `cargo xtask tidy`: the rules of the house that a program can check.
//!
//! Each check is a pure function from source text to findings, with a bad sample in its
//! tests. A finding is an error or a question; only errors fail the run.

mod arrows;
mod files;
mod functions;
mod notes;
mod paths;
mod sizes;
mod unsafety;

use std::fmt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use portcullis_tests::paths::workspace;

use crate::build;

/// Arguments of `cargo xtask tidy`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave out `cargo fmt` and `cargo clippy`.
    #[arg(long)]
    fast: bool,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Worth a look; does not fail.
    Question,
    /// Fails.
    Error,
}

/// One thing that a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// The file, from the root of the source tree.
    pub file: String,
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong and what to do.
    pub message: String,
}

impl Finding {
    /// An error.
    pub fn error(file: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            level: Level::Error,
            file: file.into(),
            line,
            message: message.into(),
        }
    }

    /// A question.
    pub fn question(file: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            level: Level::Question,
            file: file.into(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Question => "question",
            Level::Error => "error",
        };
        write!(f, "{}:{}: {level}: {}", self.file, self.line, self.message)
    }
}

/// Checks the whole source tree.
pub fn run(args: &Args) -> Result<()> {
    let mut findings = Vec::new();
    let changelog = std::fs::read_to_string(workspace().join("CHANGELOG.md")).unwrap_or_default();
    for name in committed_files()? {
        let path = workspace().join(&name);
        // A link or a file that was removed but is still in the index has nothing to read.
        let Ok(bytes) = std::fs::read(&path) else {
            continue;
        };
        findings.extend(files::check(&name, &bytes));
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        findings.extend(notes::check(&name, &text, &changelog));
        if name.ends_with(".rs") {
            findings.extend(rust(&name, &text));
        }
    }
    for finding in &findings {
        println!("{finding}");
    }
    let errors = findings
        .iter()
        .filter(|finding| finding.level == Level::Error)
        .count();
    let cargo_ok = args.fast || cargo_checks()?;
    println!(
        "tidy: {errors} errors, {} questions",
        findings.len() - errors
    );
    if errors > 0 || !cargo_ok {
        bail!("the house is not tidy");
    }
    Ok(())
}

/// The checks of one Rust file.
fn rust(name: &str, text: &str) -> Vec<Finding> {
    let tree = match syn::parse_file(text) {
        Ok(tree) => tree,
        Err(error) => {
            let line = error.span().start().line;
            return vec![Finding::error(
                name,
                line,
                format!("can't be read: {error}"),
            )];
        }
    };
    let mut findings = arrows::check(name, &tree);
    findings.extend(sizes::check(name, text));
    findings.extend(functions::check(name, &tree));
    findings.extend(unsafety::check(name, text, &tree));
    findings
}

fn committed_files() -> Result<Vec<String>> {
    let mut list = Command::new("git");
    list.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let done = list
        .current_dir(workspace())
        .output()
        .context("start git")?;
    if !done.status.success() {
        bail!(
            "git ls-files: {}",
            String::from_utf8_lossy(&done.stderr).trim()
        );
    }
    let names = String::from_utf8(done.stdout).context("a file name is not UTF-8")?;
    Ok(names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect())
}

fn cargo_checks() -> Result<bool> {
    let fmt: &[&str] = &["fmt", "--all", "--check"];
    // A workspace of its own.
    let fuzz: &[&str] = &["fmt", "--manifest-path", "tests/fuzz/Cargo.toml", "--check"];
    let clippy: &[&str] = &["clippy", "--quiet", "--all-targets", "--", "-D", "warnings"];
    let mut all_ok = true;
    for words in [fmt, fuzz, clippy] {
        println!("tidy: cargo {}", words.join(" "));
        let status = build::cargo().args(words).status().context("start cargo")?;
        all_ok &= status.success();
    }
    Ok(all_ok)
}
