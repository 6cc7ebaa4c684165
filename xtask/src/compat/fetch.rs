//! Fetching: Debian's source and binary packages side by side with what is installed,
//! Python's and node's packages.
//!
//! The machine's own package settings say where from; nothing is installed outside the
//! directory that is given. A stamp, written last, says that a fetch is whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use portcullis_tests::process;

const LIMIT: Duration = Duration::from_secs(900);
const SOURCES: &str = "/etc/apt/sources.list.d";

/// Runs a command to its end; an error with what it printed if it fails.
pub fn check(command: &mut Command) -> Result<String> {
    process::check(command, "", LIMIT)
}

/// Makes `dir` by `make`, unless that was done before with the same `stamp`. What was
/// there is removed first.
pub fn once(dir: &Path, stamp: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let done = dir.join(".done");
    if fs::read_to_string(&done).is_ok_and(|found| found == stamp) {
        return Ok(());
    }
    println!("fetching {}", dir.display());
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    make(dir)?;
    fs::write(&done, stamp).with_context(|| format!("write {}", done.display()))
}

/// apt with the machine's package sources, those of source packages too, and lists of its
/// own below a directory.
#[derive(Debug)]
pub struct Apt {
    dir: PathBuf,
}

impl Apt {
    /// Reads the lists of packages.
    pub fn new(dir: PathBuf) -> Result<Self> {
        for name in ["lists/partial", "cache/archives/partial", "sources"] {
            let path = dir.join(name);
            fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        }
        let at = dir.display();
        let settings = format!(
            "Dir::Etc::sourcelist \"/dev/null\";\nDir::Etc::sourceparts \"{at}/sources\";\n\
             Dir::State::lists \"{at}/lists\";\nDir::Cache \"{at}/cache\";\n\
             APT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\n"
        );
        fs::write(dir.join("apt.conf"), settings).context("write apt.conf")?;
        let apt = Self { dir };
        apt.copy_sources()?;
        check(
            apt.command("apt-get", Path::new("/"))
                .args(["-qq", "update"]),
        )?;
        Ok(apt)
    }

    fn copy_sources(&self) -> Result<()> {
        let mut found = vec![PathBuf::from("/etc/apt/sources.list")];
        let entries = fs::read_dir(SOURCES).with_context(|| format!("read {SOURCES}"))?;
        found.extend(entries.flatten().map(|entry| entry.path()));
        for path in found {
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let extension = path
                .extension()
                .and_then(|it| it.to_str())
                .unwrap_or_default();
            let text = match extension {
                "sources" => with_sources(&text),
                "list" => text.replace("deb ", "deb-src ") + &text,
                _ => continue,
            };
            let name = path.file_name().context("a file name")?;
            fs::write(self.dir.join("sources").join(name), text).context("write a source")?;
        }
        Ok(())
    }

    fn command(&self, program: &str, at: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", self.dir.join("apt.conf"))
            .current_dir(at);
        command
    }

    /// The newest source of a package that is to be had, into `to`; its version. Of a
    /// newer one the binaries may be there and the source gone.
    pub fn source(&self, package: &str, to: &Path) -> Result<String> {
        let shown = check(self.command("apt-cache", to).args(["showsrc", package]))?;
        let versions = shown
            .lines()
            .filter_map(|line| line.strip_prefix("Version: "));
        let mut versions: Vec<&str> = versions.collect();
        versions.sort_by(|a, b| newer(a, b));
        versions.dedup();
        for version in &versions {
            let wanted = format!("{package}={version}");
            let words = ["-qq", "source", "--download-only", &wanted];
            if check(self.command("apt-get", to).args(words)).is_ok() {
                return Ok((*version).to_owned());
            }
        }
        bail!(
            "no source of {package} is to be had, of {}",
            versions.join(", ")
        )
    }

    /// Binary packages of one version, unpacked into `to`.
    pub fn unpack(&self, packages: &[&str], version: &str, to: &Path) -> Result<()> {
        let debs = self.dir.join("debs");
        fs::create_dir_all(&debs).context("make debs")?;
        for package in packages {
            let wanted = format!("{package}={version}");
            check(
                self.command("apt-get", &debs)
                    .args(["-qq", "download", &wanted]),
            )?;
        }
        for entry in fs::read_dir(&debs).context("read debs")?.flatten() {
            let mut unpack = Command::new("dpkg-deb");
            check(unpack.arg("-x").arg(entry.path()).arg(to))?;
        }
        fs::remove_dir_all(&debs).context("remove debs")
    }
}

/// An entry of deb822 style with its source packages.
fn with_sources(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix("Types:") {
        Some(_) => "Types: deb deb-src\n".to_owned(),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// The newest first, as dpkg orders them.
fn newer(a: &str, b: &str) -> std::cmp::Ordering {
    let mut compare = Command::new("dpkg");
    let gt = compare.args(["--compare-versions", a, "gt", b]).status();
    match (a == b, gt.is_ok_and(|status| status.success())) {
        (true, _) => std::cmp::Ordering::Equal,
        (_, true) => std::cmp::Ordering::Less,
        (_, false) => std::cmp::Ordering::Greater,
    }
}

/// A Python environment with these packages in it; its interpreter.
pub fn venv(dir: &Path, packages: &[&str]) -> Result<PathBuf> {
    // Debian's own interpreter: it is the one that python3-venv belongs to.
    check(
        Command::new("/usr/bin/python3")
            .args(["-m", "venv", "--clear"])
            .arg(dir),
    )?;
    let python = dir.join("bin/python");
    check(pip(&python).args(["install", "--quiet"]).args(packages))?;
    Ok(python)
}

/// pip of an environment.
pub fn pip(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.args(["-m", "pip", "--disable-pip-version-check"]);
    command
}

/// The only file of a directory whose name ends so.
pub fn only(dir: &Path, end: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let fits = |path: &PathBuf| path.to_string_lossy().ends_with(end);
    let found: Vec<PathBuf> = paths.filter(fits).collect();
    ensure!(
        found.len() == 1,
        "{} files *{end} in {}",
        found.len(),
        dir.display()
    );
    found.into_iter().next().context("one file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_gets_its_source_packages() {
        let text = "Types: deb\nURIs: x\nSuites: s\n";
        assert_eq!(
            with_sources(text),
            "Types: deb deb-src\nURIs: x\nSuites: s\n"
        );
    }

    #[test]
    fn what_was_broken_off_is_done_again() {
        let scratch = tempfile::tempdir().expect("tempdir");
        let dir = scratch.path().join("it");
        let times = std::cell::Cell::new(0);
        let make = |result: Result<()>| {
            once(&dir, "v1", |_| {
                times.set(times.get() + 1);
                result
            })
        };
        assert!(make(Err(anyhow::anyhow!("broken off"))).is_err());
        make(Ok(())).expect("made");
        make(Ok(())).expect("there");
        assert_eq!(times.get(), 2);
    }
}
