use super::*;
use crate::audit::DecisionBody;
use crate::metrics::Metrics;
use crate::policy::Request;
use crate::protocol::Names;
use crate::types::{CgroupId, Principal, ServiceName};

const POLICY: &str = "
version: 1
roles: {analyst: {}}
services:
  shop: {proto: postgres, at: ['127.0.0.1:5432'], user: u, credential: 'file:/x'}
rules:
  - {id: read, role: analyst, allow: [sql.select], on: ['shop/public.orders']}
";

fn policy(generation: u64) -> Policy {
    let (policy, _) = Policy::from_texts([("p.yaml", POLICY)], generation).expect("policy");
    policy
}

fn session() -> Arc<AgentSession> {
    Arc::new(AgentSession::of_test("/x".as_ref(), CgroupId(7)))
}

fn question(text: &str, stage: Stage) -> Question {
    let operation = Arc::new(Operation {
        text: text.into(),
        fingerprint: "f".into(),
        effects: Vec::new(),
        problem: None,
        names: Names::default(),
    });
    Question {
        number: 1,
        stage,
        operation,
    }
}

fn known(policy: &Policy, question: &Question) -> Arc<Known> {
    let decision = policy.decide(&Request {
        principal: &Principal::named("analyst"),
        service: &ServiceName::from("shop"),
        effects: &question.operation.effects,
    });
    let text = DecisionText::new(&DecisionBody {
        stage: question.stage.name(),
        decision: word(&decision),
        rules: Vec::new(),
        reason: None,
        generation: policy.generation(),
        effects: &[],
        problem: None,
        fingerprint: "f",
        statement: &question.operation.text,
        roles: &[],
    });
    Arc::new(Known {
        decision: Arc::new(decision),
        text: text.expect("an object"),
        count: Metrics::default().decisions(&"shop".into(), "allow"),
    })
}

#[test]
fn a_decision_is_found_for_the_same_policy_session_operation_and_stage_only() {
    let (one, two) = (policy(1), policy(2));
    let (mine, renewed) = (session(), session());
    let asked = question("SELECT 1", Stage::Query);
    let mut memo = Memo::default();
    memo.keep(&one, &mine, &asked, known(&one, &asked));
    assert!(memo.find(&one, &mine, &asked).is_some());
    assert!(memo.find(&two, &mine, &asked).is_none());
    assert!(memo.find(&one, &renewed, &asked).is_none());
    let same_text = question("SELECT 1", Stage::Query);
    assert!(memo.find(&one, &mine, &same_text).is_none());
    let other = Question {
        stage: Stage::Execute,
        ..asked.clone()
    };
    assert!(memo.find(&one, &mine, &other).is_none());
    // What was decided before a change is not found when it is changed back.
    memo.keep(&two, &mine, &other, known(&two, &other));
    assert!(memo.find(&one, &mine, &asked).is_none());
    assert!(memo.find(&two, &mine, &asked).is_none());
}

#[test]
fn it_stays_small() {
    let (policy, session) = (policy(1), session());
    let mut memo = Memo::default();
    for number in 0..100 {
        let asked = question(&format!("SELECT {number}"), Stage::Query);
        memo.keep(&policy, &session, &asked, known(&policy, &asked));
    }
    assert_eq!(memo.entries.len(), ENTRIES);
    let long = question(&"x".repeat(LONGEST), Stage::Query);
    memo.keep(&policy, &session, &long, known(&policy, &long));
    assert!(memo.find(&policy, &session, &long).is_none());
}
