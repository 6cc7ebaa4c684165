//! Policy files from the disk, and texts to a policy.
//!
//! All files of a directory count, or none: one that can't be read is an error, because a
//! deny rule may stand in it. Absent on purpose: watching for changes, running the
//! policy's own tests (which need an analyser), checking that credentials exist.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::compile::compile;
use super::problem::{Diagnostics, Source, Spot};
use super::{LoadErrors, Policy, Problem, Warning, file};

/// The size of one file in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Files of a directory.
const MAX_FILES: usize = 1_000;

impl Policy {
    /// Loads a file, or all `*.yaml` and `*.yml` files of a directory in the order of their
    /// names. Symbolic links are followed; names that begin with a dot are left alone.
    /// The policy's own tests are not run: see [`Policy::run_tests`].
    pub fn load(path: &Path, generation: u64) -> Result<(Policy, Vec<Warning>), LoadErrors> {
        let files = policy_files(path).map_err(|problem| LoadErrors::from(vec![problem]))?;
        let mut problems = Vec::new();
        let mut sources = Vec::new();
        for file in files {
            match read(&file) {
                Ok(source) => sources.push(source),
                Err(problem) => problems.push(problem),
            }
        }
        Self::from_files(sources, problems, generation)
    }

    /// Makes a policy of texts, each with the name that messages give it.
    pub fn from_texts<'a>(
        texts: impl IntoIterator<Item = (&'a str, &'a str)>,
        generation: u64,
    ) -> Result<(Policy, Vec<Warning>), LoadErrors> {
        let sources = texts
            .into_iter()
            .map(|(name, text)| Source {
                name: name.into(),
                text: text.into(),
            })
            .collect();
        Self::from_files(sources, Vec::new(), generation)
    }

    /// `missing` says which files could not be read.
    fn from_files(
        sources: Vec<Source>,
        mut missing: Vec<Problem>,
        generation: u64,
    ) -> Result<(Policy, Vec<Warning>), LoadErrors> {
        let texts: Vec<Arc<str>> = sources.iter().map(|file| Arc::clone(&file.text)).collect();
        let mut found = Diagnostics::new(sources);
        let mut files = Vec::new();
        let mut complete = missing.is_empty();
        for (number, text) in texts.iter().enumerate() {
            let spec = file::read(number, text, &mut found);
            complete &= spec.is_some();
            files.extend(spec);
        }
        if !complete {
            // Names may be defined in what could not be read: none is called unknown yet.
            if let Err(errors) = found.finish() {
                missing.extend_from_slice(errors.problems());
            }
            return Err(LoadErrors::from(missing));
        }
        if files.iter().all(|file| file.rules.is_empty()) {
            found.warn(
                Spot::whole(0),
                "there is no rule: everything is refused",
                None,
            );
        }
        let policy = compile(files, generation, &mut found);
        found.finish().map(|warnings| (policy, warnings))
    }
}

/// The files to load, sorted by name.
fn policy_files(path: &Path) -> Result<Vec<PathBuf>, Problem> {
    let shown = path.display().to_string();
    let failed = |error: &io::Error| Problem::of_file(&shown, plain(error), None);
    if !fs::metadata(path).map_err(|error| failed(&error))?.is_dir() {
        return Ok(vec![path.into()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| failed(&error))? {
        let name = entry.map_err(|error| failed(&error))?.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b".");
        let file = path.join(name);
        if !hidden
            && file
                .extension()
                .is_some_and(|kind| kind == "yaml" || kind == "yml")
        {
            files.push(file);
        }
    }
    if files.is_empty() {
        let help = "policies are *.yaml or *.yml files";
        return Err(Problem::of_file(
            &shown,
            "no policy file in this directory",
            Some(help),
        ));
    }
    if files.len() > MAX_FILES {
        let message = format!("more than {MAX_FILES} policy files in this directory");
        return Err(Problem::of_file(&shown, message, None));
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Source, Problem> {
    let shown = path.display().to_string();
    let failed = |error: &io::Error| Problem::of_file(&shown, plain(error), None);
    // Before opening: opening a pipe would wait for its other end.
    if !fs::metadata(path)
        .map_err(|error| failed(&error))?
        .is_file()
    {
        return Err(Problem::of_file(&shown, "not a regular file", None));
    }
    let file = fs::File::open(path).map_err(|error| failed(&error))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(&error))?;
    if bytes.len() as u64 > MAX_FILE {
        let message = format!("larger than {} KiB", MAX_FILE / 1024);
        return Err(Problem::of_file(
            &shown,
            message,
            Some("split it into several files"),
        ));
    }
    let text = decode(&shown, bytes)?;
    Ok(Source {
        name: shown.into(),
        text: text.into(),
    })
}

fn decode(name: &str, bytes: Vec<u8>) -> Result<String, Problem> {
    let help = Some("save it as UTF-8 without a byte order mark");
    if bytes.starts_with(b"\xef\xbb\xbf")
        || bytes.starts_with(b"\xff\xfe")
        || bytes.starts_with(b"\xfe\xff")
    {
        return Err(Problem::of_file(
            name,
            "begins with a byte order mark",
            help,
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error
            .as_bytes()
            .get(..error.utf8_error().valid_up_to())
            .unwrap_or(&[]);
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        Problem::of_file(name, format!("line {line} is not UTF-8"), help)
    })
}

/// The system's words without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => format!("can't be read: {words}"),
        None => format!("can't be read: {text}"),
    }
}

#[cfg(test)]
mod tests;
