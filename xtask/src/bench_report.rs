//! Medians, ratios and the table of `docs/benchmarks.md`.

use std::fmt;
use std::process::Command;

use anyhow::{Context, Result};

const BEGIN: &str = "<!-- bench:begin -->";
const END: &str = "<!-- bench:end -->";

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
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::PgBouncer => "PgBouncer",
            Self::Portcullis => "Portcullis",
        })
    }
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// How.
    pub way: Way,
    /// Connections at once.
    pub clients: u32,
    /// Transactions each second, the time to connect left out.
    pub tps: f64,
    /// Average time of a transaction in milliseconds.
    pub latency_ms: f64,
}

impl Run {
    /// Reads pgbench's closing lines (PostgreSQL 14 and newer).
    pub fn read(way: Way, clients: u32, output: &str) -> Result<Self> {
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
            clients,
            tps: number("tps = ")?,
            latency_ms: number("latency average = ")?,
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
    /// Adds what is worth knowing of the machine.
    pub fn new(command: String, rounds: u32, runs: Vec<Run>) -> Result<Self> {
        let machine = machine()?;
        Ok(Self {
            command,
            rounds,
            machine,
            runs,
        })
    }

    /// The text with the table between its markers replaced.
    pub fn put_into(&self, text: &str) -> Result<String> {
        put_between(text, BEGIN, END, &self.to_string())
    }

    fn median(&self, way: Way, clients: u32, value: fn(&Run) -> f64) -> Option<f64> {
        let fits = |run: &&Run| run.way == way && run.clients == clients;
        let mut values: Vec<f64> = self.runs.iter().filter(fits).map(value).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        if values.len() % 2 == 1 {
            return values.get(middle).copied();
        }
        Some(f64::midpoint(
            *values.get(middle.checked_sub(1)?)?,
            *values.get(middle)?,
        ))
    }

    fn row(&self, f: &mut fmt::Formatter<'_>, way: Way, clients: u32) -> fmt::Result {
        let Some(tps) = self.median(way, clients, |run| run.tps) else {
            return Ok(());
        };
        let latency = self
            .median(way, clients, |run| run.latency_ms)
            .unwrap_or(0.0);
        let against = |other| match self.median(other, clients, |run| run.tps) {
            Some(base) if base > 0.0 => format!("{:.2}", tps / base),
            _ => "-".into(),
        };
        let direct = self
            .median(Way::Direct, clients, |run| run.latency_ms)
            .unwrap_or(latency);
        let added = (latency - direct) * 1000.0;
        writeln!(
            f,
            "| {clients} | {way} | {tps:.0} | {:.1} | {added:+.1} | {} | {} |",
            latency * 1000.0,
            against(Way::Direct),
            against(Way::PgBouncer)
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
            "| clients | way | tps | average µs | added µs | to direct | to PgBouncer |"
        )?;
        writeln!(f, "|--:|---|--:|--:|--:|--:|--:|")?;
        let mut clients: Vec<u32> = self.runs.iter().map(|run| run.clients).collect();
        clients.dedup();
        for clients in clients {
            for way in [Way::Direct, Way::PgBouncer, Way::Portcullis] {
                self.row(f, way, clients)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let run = |way, tps, latency_ms| Run {
            way,
            clients: 1,
            tps,
            latency_ms,
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
        let run = Run::read(Way::Direct, 8, output).expect("reads");
        assert_eq!((run.tps, run.latency_ms), (22012.5, 0.045));
        assert!(Run::read(Way::Direct, 8, "pgbench: error").is_err());
    }

    #[test]
    fn the_median_ignores_one_bad_round() {
        let text = report().to_string();
        assert!(
            text.contains("| 1 | direct | 1000 | 100.0 | +0.0 | 1.00 | - |"),
            "{text}"
        );
        assert!(
            text.contains("| 1 | Portcullis | 500 | 130.0 | +30.0 | 0.50 | - |"),
            "{text}"
        );
    }

    #[test]
    fn only_the_text_between_the_markers_changes() {
        let text = format!("head\n{BEGIN}\nold\n{END}\ntail\n");
        let new = report().put_into(&text).expect("markers");
        assert!(new.starts_with("head\n") && new.ends_with("\ntail\n") && !new.contains("old"));
        assert!(report().put_into("no markers").is_err());
    }
}
