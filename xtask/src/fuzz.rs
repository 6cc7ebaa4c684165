//! `cargo xtask fuzz`: builds the fuzz targets of `tests/fuzz` and runs each for a while, two
//! at a time, from the kept corpus.
//!
//! libFuzzer is driven directly: its coverage flags are rustc's stable ones, so that no
//! nightly compiler and no `cargo-fuzz` is needed. What it finds on the way stays in
//! `target/fuzz`; an input that breaks an invariant is named, and belongs into
//! `tests/fuzz/corpus` once it is mended.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, Result, bail, ensure};
use portcullis_tests::{paths, process};

use crate::build;
use crate::test_counts::Counts;

/// In the order of `tests/fuzz/Cargo.toml`.
const TARGETS: &[&str] = &["startup", "frontend", "backend", "session"];
const AT_ONCE: usize = 2;

/// What libFuzzer needs to see of a run: edges and comparisons.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg",
    "fuzzing",
];

/// Bounds of one input: bytes, seconds, and the megabytes that a process may take.
const BOUNDS: &[&str] = &["-max_len=8192", "-timeout=20", "-rss_limit_mb=2048"];

/// Arguments of `cargo xtask fuzz`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long each target runs.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Only this target.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TARGETS))]
    target: Option<String>,
}

/// Runs them; an error names each that failed.
pub fn run(args: &Args) -> Result<()> {
    let only = args.target.as_deref();
    let chosen: Vec<&str> = TARGETS
        .iter()
        .copied()
        .filter(|target| only.is_none_or(|only| only == *target))
        .collect();
    let (_, good) = fuzz(&chosen, args.seconds)?;
    ensure!(good, "an invariant does not hold");
    Ok(())
}

/// All of them, as continuous integration does.
pub fn usual() -> Result<(Counts, bool)> {
    fuzz(TARGETS, 60)
}

fn fuzz(targets: &[&str], seconds: u32) -> Result<(Counts, bool)> {
    let binaries = build_targets()?;
    let mut counts = Counts::default();
    for some in targets.chunks(AT_ONCE) {
        let started: Result<Vec<_>> = some
            .iter()
            .map(|target| Running::start(&binaries, target, seconds))
            .collect();
        for running in started? {
            match running.end()? {
                true => counts.passed += 1,
                false => counts.failed += 1,
            }
        }
    }
    println!("fuzz: {counts}");
    Ok((counts, counts.failed == 0))
}

fn source() -> PathBuf {
    paths::workspace().join("tests/fuzz")
}

/// A directory of its own: all dependencies are built with other flags.
fn target_dir() -> PathBuf {
    build::target_dir().join("fuzz")
}

/// The directory of the binaries.
fn build_targets() -> Result<PathBuf> {
    let host = host()?;
    let mut cargo = build::cargo();
    cargo
        .args([
            "build",
            "--release",
            "--locked",
            "--bins",
            "--target",
            &host,
        ])
        .arg("--manifest-path")
        .arg(source().join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", target_dir())
        // The flags must not reach build scripts: with a target they don't.
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
    let status = cargo.status().context("start cargo")?;
    ensure!(status.success(), "the fuzz targets do not build: {status}");
    Ok(target_dir().join(host).join("release"))
}

fn host() -> Result<String> {
    let about = Command::new("rustc").arg("-vV").output().context("rustc")?;
    let about = String::from_utf8_lossy(&about.stdout).into_owned();
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .context("rustc does not name its host")
}

/// One target under way.
struct Running {
    target: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    fn start(binaries: &Path, target: &str, seconds: u32) -> Result<Self> {
        let place = |kind: &str| target_dir().join(kind).join(target);
        let (found, artifacts) = (place("corpus"), place("artifacts"));
        for dir in [&found, &artifacts] {
            fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        let log = target_dir().join(format!("{target}.log"));
        let file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let mut command = Command::new(binaries.join(target));
        command
            .args([&found, &source().join("corpus").join(target)])
            .args(BOUNDS)
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!(
                "-dict={}",
                source().join("postgres.dict").display()
            ))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .args(["-print_final_stats=1", "-detect_leaks=0"])
            .stdout(file.try_clone().context("dup")?)
            .stderr(file);
        let child = command.spawn();
        let child = child.with_context(|| format!("start the target {target}"))?;
        println!("fuzz: {target} for {seconds} s");
        Ok(Self {
            target: target.to_owned(),
            child,
            log,
        })
    }

    /// Whether it held.
    fn end(mut self) -> Result<bool> {
        let status = self.child.wait().context("wait for a target")?;
        let said = fs::read(&self.log).context("read a target's log")?;
        let said = String::from_utf8_lossy(&said);
        let runs = said
            .lines()
            .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
            .map_or("", str::trim);
        if !status.success() {
            println!("{}", process::tail(&self.log, 40));
            println!("fuzz: {} failed ({status})", self.target);
            return Ok(false);
        }
        if !runs.parse::<u64>().is_ok_and(|runs| runs > 0) {
            bail!("{} ran nothing: {}", self.target, self.log.display());
        }
        println!("fuzz: {} held in {runs} runs", self.target);
        Ok(true)
    }
}
