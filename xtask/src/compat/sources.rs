//! PostgreSQL's source, and its server, programs and libraries of exactly that version.
//!
//! The suites' expected results differ between minor versions, and so does what the
//! regression suite's C code needs of the headers; so nothing of the installed version is
//! mixed in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use portcullis_tests::postgres::Setup;

use super::fetch::{Apt, check, once, only};
use super::world::Tools;

const SOURCE: &str = "postgresql-15";
const BINARIES: &[&str] = &[
    "postgresql-15",
    "postgresql-client-15",
    "postgresql-server-dev-15",
    "libpq5",
    "libpq-dev",
];

/// Where the parts are.
#[derive(Debug)]
pub struct Sources {
    /// As Debian counts.
    pub version: String,
    /// The source tree's `src/test`.
    pub tests: PathBuf,
    root: PathBuf,
}

impl Sources {
    /// Fetches and compiles what is not there yet.
    pub fn fetch(tools: &Tools) -> Result<Self> {
        let dir = tools.dir.join("postgres");
        once(&dir, &format!("1 {SOURCE}"), |dir| {
            let apt = Apt::new(tools.dir.join("apt"))?;
            let version = apt.source(SOURCE, dir)?;
            apt.unpack(BINARIES, &version, &dir.join("root"))?;
            let source = dir.join("source");
            fs::create_dir_all(&source).context("make source")?;
            let mut tar = Command::new("tar");
            tar.arg("xf")
                .arg(only(dir, ".orig.tar.bz2")?)
                .arg("-C")
                .arg(&source);
            tar.args([
                "--strip-components=1",
                "--wildcards",
                "*/src/test",
                "*/contrib/spi",
            ]);
            check(&mut tar)?;
            fs::write(dir.join("version"), &version).context("write version")?;
            Self::at(dir)?.compile()
        })?;
        Self::at(&tools.near(&dir)?)
    }

    fn at(dir: &Path) -> Result<Self> {
        Ok(Self {
            version: fs::read_to_string(dir.join("version")).context("read version")?,
            tests: dir.join("source/src/test"),
            root: dir.join("root"),
        })
    }

    /// The version without Debian's own part.
    pub fn short_version(&self) -> &str {
        self.version.split('-').next().unwrap_or(&self.version)
    }

    /// The server's programs.
    pub fn bin(&self) -> PathBuf {
        self.root.join("usr/lib/postgresql/15/bin")
    }

    /// A program that the regression suites are run by.
    pub fn runner(&self, path: &str) -> PathBuf {
        let base = self.root.join("usr/lib/postgresql/15/lib/pgxs/src/test");
        base.join(path)
    }

    /// The directory of libpq.
    pub fn libraries(&self) -> Result<PathBuf> {
        let base = self.root.join("usr/lib");
        let entries = fs::read_dir(&base).with_context(|| format!("read {}", base.display()))?;
        let mut paths = entries.flatten().map(|entry| entry.path());
        paths
            .find(|path| path.join("libpq.so.5").exists())
            .context("no libpq.so.5 among the unpacked packages")
    }

    /// A server of this version.
    pub fn setup(&self, settings: &str) -> Setup {
        Setup {
            bin: Some(self.bin()),
            settings: settings.into(),
            ..Setup::default()
        }
    }

    /// What the suites' programs are told in their environment.
    pub fn variables(&self) -> Result<[(&'static str, String); 2]> {
        let path = std::env::var("PATH").unwrap_or_default();
        let bin = self.bin().display().to_string();
        let isolation = self.runner("isolation").display().to_string();
        Ok([
            ("PATH", format!("{bin}:{isolation}:{path}")),
            ("LD_LIBRARY_PATH", self.libraries()?.display().to_string()),
        ])
    }

    fn compile(&self) -> Result<()> {
        let regress = self.tests.join("regress");
        let spi = self.tests.join("../../contrib/spi");
        self.library(&regress.join("regress.c"), &regress.join("regress.so"))?;
        for name in ["refint", "autoinc"] {
            let from = spi.join(format!("{name}.c"));
            self.library(&from, &regress.join(format!("{name}.so")))?;
        }
        self.libpq_pipeline()
    }

    fn gcc(&self) -> Command {
        let mut gcc = Command::new("gcc");
        let include = self.root.join("usr/include/postgresql");
        gcc.args(["-O1", "-w", "-I"]).arg(include.join("15/server"));
        gcc.arg("-I").arg(include);
        gcc
    }

    fn library(&self, from: &Path, to: &Path) -> Result<()> {
        let mut gcc = self.gcc();
        // The regression suite wants refint to say what it does.
        gcc.args(["-fPIC", "-shared", "-DREFINT_VERBOSE", "-o"])
            .arg(to)
            .arg(from);
        check(&mut gcc).map(drop)
    }

    fn libpq_pipeline(&self) -> Result<()> {
        let dir = self.tests.join("modules/libpq_pipeline");
        let mut gcc = self.gcc();
        gcc.arg("-DFRONTEND")
            .arg("-o")
            .arg(dir.join("libpq_pipeline"));
        gcc.arg(dir.join("libpq_pipeline.c"));
        gcc.arg(self.libraries()?.join("libpq.so.5"));
        gcc.arg("-L")
            .arg(self.root.join("usr/lib/postgresql/15/lib"));
        gcc.args(["-lpgcommon", "-lpgport", "-lm"]);
        check(&mut gcc).map(drop)
    }
}
