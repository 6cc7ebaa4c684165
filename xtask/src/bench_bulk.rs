//! Much data at once: COPY out of 1 GB, and a SELECT of a million rows. No masking rule is
//! in force.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::Result;
use portcullis_tests::process;

use crate::bench_postgres::Stage;
use crate::bench_report::{Way, median};

const LIMIT: Duration = Duration::from_secs(300);
/// A million rows of about 1,000 bytes.
const TABLE: &str = "CREATE TABLE pgbench_bulk AS SELECT g AS id, repeat(md5(g::text), 31) AS body \
                     FROM generate_series(1, 1000000) g; GRANT SELECT ON pgbench_bulk TO agent_ro";
const WORK: [(&str, &str); 2] = [
    ("COPY of 1 GB out", "COPY pgbench_bulk TO STDOUT"),
    (
        "SELECT of 1,000,000 rows",
        "SELECT * FROM pgbench_accounts LIMIT 1000000",
    ),
];

/// Measures, as a table.
pub fn measure(stage: &Stage, rounds: u32) -> Result<String> {
    stage.server.sql("bench", TABLE)?;
    let mut text = format!(
        "psql with its output thrown away; {rounds} rounds, medians.\n\n\
         | what | way | seconds | speed to direct |\n|---|---|--:|--:|\n"
    );
    for (what, sql) in WORK {
        let mut times: Vec<(Way, Vec<f64>)> = stage.ways().map(|way| (way, Vec::new())).collect();
        for round in 0..=rounds {
            for (way, times) in &mut times {
                let took = once(stage, *way, sql)?;
                // The first round fills the caches.
                if round > 0 {
                    println!("round {round}, {what}, {way}: {took:.2} s");
                    times.push(took);
                }
            }
        }
        let medians: Vec<_> = times
            .into_iter()
            .map(|(way, times)| (way, median(times).unwrap_or(f64::NAN)))
            .collect();
        let direct = medians.first().map_or(f64::NAN, |(_, took)| *took);
        for (way, took) in medians {
            writeln!(
                text,
                "| {what} | {way} | {took:.2} | {:.2} |",
                direct / took
            )?;
        }
    }
    stage.server.sql("bench", "DROP TABLE pgbench_bulk")?;
    Ok(text)
}

fn once(stage: &Stage, way: Way, sql: &str) -> Result<f64> {
    let words = ["-XAtq", "-o", "/dev/null", "-c", sql];
    let start = Instant::now();
    process::check(&mut stage.client(way, "psql", &words), "", LIMIT)?;
    Ok(start.elapsed().as_secs_f64())
}
