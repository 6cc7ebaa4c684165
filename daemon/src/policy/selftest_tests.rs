use super::*;
use crate::policy::expand_verb;

const SHOP: &str = include_str!("../../../policies/library/shop.yaml");

/// Knows the statements of the shipped sample; the real analyser is the protocol's.
fn stub(_: &Service, sql: &str) -> Result<Vec<Effect>, String> {
    let effects: &[(&str, &str)] = match sql {
        "SELECT id, total FROM orders" => &[("sql.select", "public.orders")],
        "SELECT * FROM orders JOIN products ON true" => &[
            ("sql.select", "public.orders"),
            ("sql.select", "public.products"),
        ],
        "BEGIN" => &[("sql.tx", "")],
        "SELECT email FROM customers" => &[("sql.select", "public.customers")],
        "SELECT * FROM orders, hr.pay" => {
            &[("sql.select", "public.orders"), ("sql.select", "hr.pay")]
        }
        "UPDATE orders SET total = 0" => &[("sql.update", "public.orders")],
        "DROP TABLE orders" => &[("sql.ddl", "public.orders")],
        "WITH d AS (DELETE FROM orders RETURNING *) SELECT * FROM d" => &[
            ("sql.delete", "public.orders"),
            ("sql.select", "public.orders"),
        ],
        other => return Err(format!("no such statement: {other}")),
    };
    let effect = |(verb, path): &(&str, &str)| {
        let verb = expand_verb(verb).map_err(|_| "verb")?[0];
        Ok(if path.is_empty() {
            Effect::on_service(verb)
        } else {
            Effect::on_path(verb, *path)
        })
    };
    effects
        .iter()
        .map(effect)
        .collect::<Result<_, &str>>()
        .map_err(Into::into)
}

fn failures(text: &str) -> Vec<Problem> {
    let (policy, _) = Policy::from_texts([("shop.yaml", text)], 1).expect("loads");
    policy.run_tests(&stub)
}

#[test]
fn the_shipped_policy_passes_its_own_tests() {
    let (policy, warnings) = Policy::from_texts([("shop.yaml", SHOP)], 1).expect("loads");
    assert_eq!(warnings, []);
    assert_eq!(policy.test_count(), 8);
    assert_eq!(policy.run_tests(&stub), []);
}

#[test]
fn a_failing_test_says_where_and_which_rule() {
    let wide = SHOP.replace("{orders,products}", "*");
    let failed = failures(&wide);
    assert_eq!(failed.len(), 1);
    let line = wide
        .lines()
        .position(|line| line.contains("SELECT email"))
        .map(|at| at as u32 + 1);
    assert_eq!(Some(failed[0].line()), line);
    let expected = "a test of the policy fails: it expects deny and is allowed";
    assert_eq!(failed[0].message(), expected);
    assert!(
        failed[0]
            .help()
            .is_some_and(|help| help.starts_with("allowed by read-shop (shop.yaml:"))
    );

    let narrow = SHOP.replace("{orders,products}", "products");
    let failed = failures(&narrow);
    assert_eq!(failed.len(), 2);
    assert_eq!(
        failed[0].help(),
        Some("sql.select on shop/public.orders is allowed by no rule of role analyst")
    );
}

#[test]
fn what_the_analyser_cannot_read_counts_as_denied() {
    let failed = failures(&SHOP.replace("sql: 'BEGIN'", "sql: 'BEGIN!'"));
    assert_eq!(failed.len(), 1);
    assert_eq!(
        failed[0].help(),
        Some("the statement can't be read: no such statement: BEGIN!")
    );
    assert_eq!(
        failures(&SHOP.replace("sql: 'DROP TABLE orders'", "sql: 'GRAB'")),
        []
    );
}

#[test]
fn a_test_may_name_a_principal() {
    let text = SHOP
        .replace("as: [analyst]", "as: [bob]")
        .replace("{as: analyst,", "{as: bob,");
    assert_eq!(failures(&text), []);
}
