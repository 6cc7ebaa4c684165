//! Tests whose result differs through the gate, each with the reason.
//!
//! The tables are checked both ways: a difference that is in none fails the command, and so
//! does an entry that no longer differs, but for those that hang on chance.

use super::Suite;

const NO_PASSWORD: &str = "the gate asks the agent for no password and logs in with its own, so \
                           that a missing or wrong one is nothing";
const OWN_SERVER: &str = "starts a standby of its own, which no agent can reach: only services are";

/// Suite, test, why.
const KNOWN: &[(Suite, &str, &str)] = &[
    (Suite::TokioPostgres, "md5_password_missing", NO_PASSWORD),
    (Suite::TokioPostgres, "md5_password_wrong", NO_PASSWORD),
    (Suite::TokioPostgres, "plain_password_missing", NO_PASSWORD),
    (Suite::TokioPostgres, "plain_password_wrong", NO_PASSWORD),
    (Suite::TokioPostgres, "scram_password_missing", NO_PASSWORD),
    (Suite::TokioPostgres, "scram_password_wrong", NO_PASSWORD),
    (
        Suite::Asyncpg,
        "TestConnectionAttributes::test_target_attribute_not_matched",
        OWN_SERVER,
    ),
    (
        Suite::Asyncpg,
        "TestConnectionAttributes::test_target_server_attribute_port",
        OWN_SERVER,
    ),
];

/// Those that differ in some runs only, since they race with something.
const RACES: &[(Suite, &str, &str)] = &[
    (
        Suite::Asyncpg,
        "TestExecuteMany::test_executemany_server_failure_during_writes",
        "wants its 4 MB to be stuck in the socket when the server's error comes; the gate reads \
         ahead, and may have taken all of it",
    ),
    (
        Suite::Asyncpg,
        "TestConnectionCommandTimeout::test_command_timeout_01",
        "gives a cancel request and the next query a fifth of a second; fails direct, too, on a \
         busy machine",
    ),
    (
        Suite::Asyncpg,
        "TestPool::test_pool_handles_query_cancel_in_release",
        "gives a cancel request half a second, of which it sleeps a part itself: too little on a \
         busy machine",
    ),
];

/// Why a test differs; none if that is not known.
pub fn reason(suite: Suite, test: &str) -> Option<&'static str> {
    let mut all = KNOWN.iter().chain(RACES);
    let found = all.find(|(of, name, _)| *of == suite && *name == test);
    found.map(|(_, _, why)| *why)
}

/// The tests of a suite that are known to differ in each run.
pub fn tests(suite: Suite) -> impl Iterator<Item = &'static str> {
    let of_it = KNOWN.iter().filter(move |(of, _, _)| *of == suite);
    of_it.map(|(_, test, _)| *test)
}

#[cfg(test)]
mod tests {
    use super::super::results::{Both, Outcome, Results};
    use super::*;

    #[test]
    fn an_entry_that_no_longer_differs_is_told() {
        let name = "md5_password_wrong".to_owned();
        let of = |outcome| Results::from_iter([(name.clone(), outcome)]);
        let both = |through| Both {
            version: String::new(),
            direct: of(Outcome::Passed),
            through: of(through),
        };
        let differs = both(Outcome::Failed);
        let found = differs.differences(Suite::TokioPostgres);
        assert_eq!(found[0].why, Some(NO_PASSWORD));
        assert!(
            !differs
                .agreeing(Suite::TokioPostgres)
                .contains(&name.as_str())
        );
        let same = both(Outcome::Passed);
        assert!(same.agreeing(Suite::TokioPostgres).contains(&name.as_str()));
        // Another suite's test of that name is another test.
        assert_eq!(differs.differences(Suite::Asyncpg)[0].why, None);
    }
}
