//! The way of an operation that is known: nothing on it allocates.

use super::bench::*;
use super::*;
use crate::policy::Request;
use crate::protocol::{Step, Verdict};
use crate::types::{Principal, ServiceName};

/// Runs until idle; each question is allowed.
fn advance(bench: &mut Bench, verdict: &Verdict) {
    loop {
        match bench.relay.advance(&mut bench.io) {
            Ok(Step::Idle) => return,
            Ok(Step::Judge(_)) => bench.relay.verdict(verdict, &mut bench.io),
            Ok(_) => {}
            Err(_) => panic!("a fault"),
        }
    }
}

fn exchange(bench: &mut Bench, verdict: &Verdict, ask: &[u8], answer: &[u8]) {
    bench.io.from_agent.extend_from_slice(ask);
    advance(bench, verdict);
    assert_eq!(bench.io.to_upstream, ask);
    bench.io.to_upstream.clear();
    bench.io.from_upstream.extend_from_slice(answer);
    advance(bench, verdict);
    assert_eq!(bench.io.to_agent, answer);
    bench.io.to_agent.clear();
}

#[test]
fn a_prepared_statement_that_runs_again_allocates_nothing_however_many_rows_come() {
    let mut bench = Bench::new();
    let effects = [crate::policy::Effect::on_path(
        crate::policy::Verb::SqlSelect,
        "public.orders",
    )];
    let decision = bench.policy.decide(&Request {
        principal: &Principal::named("analyst"),
        service: &ServiceName::from("shop"),
        effects: &effects,
    });
    assert!(decision.is_allow());
    let verdict = Verdict::Decided(Arc::new(decision));
    let prepare = [parse("s", GOOD), sync()].concat();
    let prepared = [frame(b'1', b""), ready(b'I')].concat();
    exchange(&mut bench, &verdict, &prepare, &prepared);
    let ask = [bind("", "s"), execute(""), sync()].concat();
    let rows = frame(b'D', b"\0\x01\0\0\0\x01x").repeat(100);
    let end = [frame(b'C', b"SELECT 100\0"), ready(b'I')].concat();
    let answer = [frame(b'2', b""), rows, end].concat();
    for _ in 0..3 {
        exchange(&mut bench, &verdict, &ask, &answer);
    }
    let counted = allocation_counter::measure(|| {
        for _ in 0..10 {
            exchange(&mut bench, &verdict, &ask, &answer);
        }
    });
    assert_eq!(counted.count_total, 0);
}
