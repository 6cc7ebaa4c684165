//! Programs that use a driver as applications do: psycopg 3 and node-postgres.
//!
//! Each prints one line for each thing that it tries, what came of it included. A line
//! counts as passed through the gate only if it is the same as direct.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use portcullis_tests::paths::{fixture, venv_python};

use super::fetch::{check, once};
use super::results::{Both, Outcome, Results};
use super::world::{Plan, Tools, World};

/// The versions that the program is written for.
const NODE: [&str; 2] = ["pg@8.16.3", "pg-cursor@2.15.3"];

/// Runs the program with psycopg 3.
pub fn psycopg(tools: &Tools) -> Result<Both> {
    let python = venv_python()?;
    let version =
        check(Command::new(&python).args(["-c", "import psycopg; print(psycopg.__version__)"]))?;
    let venv = python.ancestors().nth(2).context("a venv")?;
    let words = [
        tools.near(venv)?.join("bin/python"),
        tools.near(&fixture("compat/psycopg_program.py"))?,
    ];
    let words = words.map(|path| path.display().to_string());
    compare(tools, version.trim(), &words, &[])
}

/// Runs the program with node-postgres.
pub fn node_postgres(tools: &Tools) -> Result<Both> {
    let dir = tools.dir.join("node");
    once(&dir, &NODE.join(" "), |dir| {
        let mut npm = Command::new("npm");
        npm.args([
            "install",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--silent",
        ]);
        check(npm.args(NODE).current_dir(dir)).map(drop)
    })?;
    let modules = tools.near(&dir)?.join("node_modules").display().to_string();
    let program = tools.near(&fixture("compat/node_program.cjs"))?;
    let words = ["node".to_owned(), program.display().to_string()];
    let version = NODE.first().and_then(|name| name.split_once('@'));
    let (_, version) = version.context("a version")?;
    compare(tools, version, &words, &[("NODE_PATH", modules.as_str())])
}

fn compare(
    tools: &Tools,
    version: &str,
    words: &[String],
    variables: &[(&str, &str)],
) -> Result<Both> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut direct: Option<Vec<String>> = None;
    tools.both(version.into(), &Plan::default(), |world| {
        let lines = lines(world, &words, variables)?;
        let expected = direct.get_or_insert_with(|| lines.clone());
        let mut results = Results::default();
        for line in &lines {
            let name = line.split(": ").next().unwrap_or_default();
            let same = expected.contains(line);
            if !same {
                let other = expected
                    .iter()
                    .find(|other| other.starts_with(&format!("{name}: ")));
                println!(
                    "direct:  {}\nthrough: {line}",
                    other.map_or("nothing", String::as_str)
                );
            }
            if line.contains(": FAILED") {
                println!("{line}");
            }
            results.add(name, Outcome::of(same && !line.contains(": FAILED")));
        }
        Ok(results)
    })
}

/// What the program printed; its last line says that it came to its end.
fn lines(world: &World, words: &[&str], variables: &[(&str, &str)]) -> Result<Vec<String>> {
    let done = world.run(words, variables)?;
    let mut lines: Vec<String> = done.stdout.lines().map(str::to_owned).collect();
    let end = lines.pop();
    ensure!(
        done.code() == 0 && end.as_deref() == Some("end"),
        "{}",
        done.both()
    );
    Ok(lines)
}
