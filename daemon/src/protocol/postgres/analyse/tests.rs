//! The corpus, and texts that try to break the analyser.

use super::*;

fn effects(text: &str) -> Vec<String> {
    let path = ["public".to_owned()];
    let operation = analyse(text, &Context { search_path: &path });
    operation.effects.iter().map(Effect::to_string).collect()
}

#[test]
fn smoke() {
    for text in include_str!("/tmp/smoke.sql").split(";;\n") {
        let path = ["public".to_owned()];
        let operation = analyse(text, &Context { search_path: &path });
        println!(
            "{text}\n    {}  {:?}",
            effects(text).join("; "),
            operation.problem
        );
    }
}
