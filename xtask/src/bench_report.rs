//! Medians, ratios and the table of `docs/benchmarks.md`.

use std::fmt;
use std::process::Command;

use anyhow::{Context, Result};

/// What is worth knowing of the machine and the day.
pub fn machine() -> Result<String> {
    let cores = std::thread::available_parallelism().context("count the cores")?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("osrelease")?;
    let done = Command::new("date")
        .args(["-u", "+%Y-%m-%d"])
        .output()
        .context("date")?;
    let date = String::from_utf8_lossy(&done.stdout).trim().to_owned();
    Ok(format!("{cores} cores, Linux {}, {date}", kernel.trim()))
}

/// The text with what stands between two marker lines replaced.
pub fn put_between(text: &str, begin: &str, end: &str, middle: &str) -> Result<String> {
    let (before, rest) = text
        .split_once(begin)
        .with_context(|| format!("no line `{begin}` in the file"))?;
    let (_, after) = rest
        .split_once(end)
        .with_context(|| format!("no line `{end}` in the file"))?;
    Ok(format!("{before}{begin}\n{middle}{end}{after}"))
}

/// How pgbench reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nothing in between.
    Direct,
    /// PgBouncer in session mode.
    PgBouncer,
    /// In an agent session.
    Portcullis,
    /// The same with the binaries of another build.
    Beside,
}

/// How pgbench asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The extended protocol, with statements that are prepared once.
    Prepared,
    /// The simple protocol: each text is another one.
    Simple,
}

impl Mode {
    /// pgbench's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Simple => "simple",
        }
    }
}

/// The one in the middle.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        return values.get(middle).copied();
    }
    let below = values.get(middle.checked_sub(1)?)?;
    Some(f64::midpoint(*below, *values.get(middle)?))
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::PgBouncer => "PgBouncer",
            Self::Portcullis => "Portcullis",
            Self::Beside => "the other build",
        })
    }
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// How.
    pub way: Way,
    /// Asked how.
    pub mode: Mode,
    /// Connections at once.
    pub clients: u32,
    /// Transactions each second, the time to connect left out.
    pub tps: f64,
    /// Average time of a transaction in milliseconds.
    pub latency_ms: f64,
    /// Processor time of what is in between, for each transaction, in microseconds.
    pub processor_us: f64,
}

impl Run {
    /// Reads pgbench's closing lines (PostgreSQL 14 and newer).
    pub fn read(way: Way, mode: Mode, clients: u32, output: &str) -> Result<Self> {
        let number = |prefix: &str| -> Result<f64> {
            let line = output.lines().find_map(|line| line.strip_prefix(prefix));
            let word = line.and_then(|rest| rest.split_whitespace().next());
            let word =
                word.with_context(|| format!("no `{prefix}` in pgbench's output: {output}"))?;
            word.parse()
                .with_context(|| format!("`{word}` is no number"))
        };
        Ok(Self {
            way,
            mode,
            clients,
            tps: number("tps = ")?,
            latency_ms: number("latency average = ")?,
            processor_us: 0.0,
        })
    }
}

/// All measurements of a bench run.
#[derive(Debug)]
pub struct Report {
    command: String,
    rounds: u32,
    machine: String,
    runs: Vec<Run>,
}

impl Report {
    /// `machine` is what is worth knowing of it.
    pub fn new(command: String, rounds: u32, machine: String, runs: Vec<Run>) -> Self {
        Self {
            command,
            rounds,
            machine,
            runs,
        }
    }

    fn median(
        &self,
        way: Way,
        (mode, clients): (Mode, u32),
        value: fn(&Run) -> f64,
    ) -> Option<f64> {
        let fits = |run: &&Run| run.way == way && run.mode == mode && run.clients == clients;
        median(self.runs.iter().filter(fits).map(value).collect())
    }

    fn row(&self, f: &mut fmt::Formatter<'_>, way: Way, what: (Mode, u32)) -> fmt::Result {
        let Some(tps) = self.median(way, what, |run| run.tps) else {
            return Ok(());
        };
        let latency = |way| self.median(way, what, |run| run.latency_ms);
        let own = latency(way).unwrap_or(0.0);
        let against = |other| match self.median(other, what, |run| run.tps) {
            Some(base) if base > 0.0 => format!("{:.2}", tps / base),
            _ => "-".into(),
        };
        let added = (own - latency(Way::Direct).unwrap_or(own)) * 1000.0;
        let (mode, clients) = what;
        writeln!(
            f,
            "| {} | {clients} | {way} | {tps:.0} | {:.1} | {added:+.1} | {} | {} | {:.1} |",
            mode.name(),
            own * 1000.0,
            against(Way::Direct),
            against(Way::PgBouncer),
            self.median(way, what, |run| run.processor_us)
                .unwrap_or(0.0)
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "`{}`; {} rounds, medians; {}.\n",
            self.command, self.rounds, self.machine
        )?;
        writeln!(
            f,
            "| mode | clients | way | tps | average µs | added µs | to direct | to PgBouncer | its CPU µs |"
        )?;
        writeln!(f, "|---|--:|---|--:|--:|--:|--:|--:|--:|")?;
        let mut all: Vec<(Mode, u32)> = self
            .runs
            .iter()
            .map(|run| (run.mode, run.clients))
            .collect();
        all.dedup();
        for what in all {
            for way in [Way::Direct, Way::PgBouncer, Way::Portcullis, Way::Beside] {
                self.row(f, way, what)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "<!-- bench:begin -->";
    const END: &str = "<!-- bench:end -->";

    fn report() -> Report {
        let run = |way, tps, latency_ms| Run {
            way,
            mode: Mode::Prepared,
            clients: 1,
            tps,
            latency_ms,
            processor_us: 0.0,
        };
        Report {
            command: "x".into(),
            rounds: 3,
            machine: "m".into(),
            runs: vec![
                run(Way::Direct, 1000.0, 0.1),
                run(Way::Portcullis, 500.0, 0.13),
                run(Way::Direct, 900.0, 0.1),
                run(Way::Portcullis, 9.0, 9.0),
                run(Way::Direct, 5000.0, 0.1),
                run(Way::Portcullis, 800.0, 0.12),
            ],
        }
    }

    #[test]
    fn reads_pgbench() {
        let output = "latency average = 0.045 ms\ninitial connection time = 2.1 ms\n\
                      tps = 22012.5 (without initial connection time)\n";
        let run = Run::read(Way::Direct, Mode::Simple, 8, output).expect("reads");
        assert_eq!((run.tps, run.latency_ms), (22012.5, 0.045));
        assert!(Run::read(Way::Direct, Mode::Simple, 8, "pgbench: error").is_err());
    }

    #[test]
    fn the_median_ignores_one_bad_round() {
        let text = report().to_string();
        assert!(
            text.contains("| prepared | 1 | direct | 1000 | 100.0 | +0.0 | 1.00 | - | 0.0 |"),
            "{text}"
        );
        assert!(
            text.contains("| prepared | 1 | Portcullis | 500 | 130.0 | +30.0 | 0.50 | - | 0.0 |"),
            "{text}"
        );
    }

    #[test]
    fn only_the_text_between_the_markers_changes() {
        let text = format!("head\n{BEGIN}\nold\n{END}\ntail\n");
        let new = put_between(&text, BEGIN, END, "new\n").expect("markers");
        assert!(new.starts_with("head\n") && new.ends_with("\ntail\n") && !new.contains("old"));
        assert!(put_between("no markers", BEGIN, END, "new\n").is_err());
    }
}
