//! Tests whose result differs through the gate, each with the reason.
//!
//! The table is checked both ways: a difference that is not in it fails the command, and
//! so does an entry that no longer differs.

use super::Suite;

const NO_PASSWORD: &str = "the gate asks the agent for no password and logs in with its own, so \
                           that a missing or wrong one is nothing";

/// Suite, test, why.
const KNOWN: &[(Suite, &str, &str)] = &[
    (Suite::TokioPostgres, "md5_password_missing", NO_PASSWORD),
    (Suite::TokioPostgres, "md5_password_wrong", NO_PASSWORD),
    (Suite::TokioPostgres, "plain_password_missing", NO_PASSWORD),
    (Suite::TokioPostgres, "plain_password_wrong", NO_PASSWORD),
    (Suite::TokioPostgres, "scram_password_missing", NO_PASSWORD),
    (Suite::TokioPostgres, "scram_password_wrong", NO_PASSWORD),
];

/// Why a test differs; none if that is not known.
pub fn reason(suite: Suite, test: &str) -> Option<&'static str> {
    let found = KNOWN
        .iter()
        .find(|(of, name, _)| *of == suite && *name == test);
    found.map(|(_, _, why)| *why)
}

/// The tests of a suite that are known to differ.
pub fn tests(suite: Suite) -> impl Iterator<Item = &'static str> {
    let of_it = KNOWN.iter().filter(move |(of, _, _)| *of == suite);
    of_it.map(|(_, test, _)| *test)
}
