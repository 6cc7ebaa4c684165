//! `unsafe` stands only where the house allows it, and each has a SAFETY note.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::Finding;

/// Files and folders that may have it.
const ALLOWED: &[&str] = &[
    "daemon/src/sys.rs",
    "daemon/src/sys/",
    "ebpf/",
    // Makes the system calls of an agent that does not use a library.
    "tests/kernel/agent.rs",
];

/// Checks one file, its tests too.
pub fn check(name: &str, text: &str, file: &syn::File) -> Vec<Finding> {
    let mut uses = Unsafe::default();
    uses.visit_file(file);
    let lines: Vec<&str> = text.lines().collect();
    let mut findings = Vec::new();
    for (line, is_pod) in uses.found {
        if !is_pod && !ALLOWED.iter().any(|allowed| name.starts_with(allowed)) {
            let message = format!("`unsafe` is allowed only in {}", ALLOWED.join(", "));
            findings.push(Finding::error(name, line, message));
        }
        if !has_note(&lines, line) {
            findings.push(Finding::error(
                name,
                line,
                "`unsafe` without a SAFETY note above it",
            ));
        }
    }
    findings
}

#[derive(Default)]
struct Unsafe {
    /// The line, and whether it is an impl of `Pod`.
    found: Vec<(usize, bool)>,
}

impl<'ast> Visit<'ast> for Unsafe {
    fn visit_expr_unsafe(&mut self, item: &'ast syn::ExprUnsafe) {
        self.found
            .push((item.unsafe_token.span().start().line, false));
        visit::visit_expr_unsafe(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let Some(token) = item.unsafety {
            let last = item
                .trait_
                .as_ref()
                .and_then(|(path, _)| path.segments.last());
            let is_pod = last.is_some_and(|segment| segment.ident == "Pod");
            self.found.push((token.span().start().line, is_pod));
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_signature(&mut self, item: &'ast syn::Signature) {
        if let syn::Safety::Unsafe(token) = item.safety {
            self.found.push((token.span().start().line, false));
        }
        visit::visit_signature(self, item);
    }
}

/// A note in the comments and attributes just above, or on the line itself. A statement may
/// begin above the block: up to three lines of code lie between.
fn has_note(lines: &[&str], line: usize) -> bool {
    let is_note = |text: &&str| text.contains("SAFETY:") || text.contains("# Safety");
    let is_around = |text: &&str| {
        let text = text.trim_start();
        text.starts_with("//") || text.starts_with("#[")
    };
    let index = line.saturating_sub(1);
    if lines.get(index).is_some_and(is_note) {
        return true;
    }
    let above = || lines.iter().take(index).rev();
    (0..=3).any(|skip| {
        above()
            .skip(skip)
            .take_while(|text| is_around(text))
            .any(&is_note)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(name: &str, text: &str) -> Vec<String> {
        let file = syn::parse_file(text).expect("parses");
        check(name, text, &file)
            .into_iter()
            .map(|finding| finding.message)
            .collect()
    }

    #[test]
    fn unsafe_in_a_wrong_place_is_found() {
        let noted = "fn f() {\n    // SAFETY: no arguments.\n    unsafe { g() }\n}";
        assert!(messages("daemon/src/sys.rs", noted).is_empty());
        assert!(messages("ebpf/src/main.rs", noted).is_empty());
        let found = messages("daemon/src/proxy/mod.rs", noted);
        assert!(
            found.len() == 1 && found[0].contains("allowed only"),
            "{found:?}"
        );
    }

    #[test]
    fn a_missing_note_is_found() {
        for text in [
            "fn f() {\n    // Fast.\n    unsafe { g() }\n}",
            "/// Docs.\nunsafe fn f() {}",
            "// Fine.\nunsafe impl Send for X {}",
        ] {
            let found = messages("daemon/src/sys.rs", text);
            assert!(
                found.len() == 1 && found[0].contains("SAFETY"),
                "{text}: {found:?}"
            );
        }
    }

    #[test]
    fn a_pod_impl_may_stand_anywhere_with_its_note() {
        let text = "// SAFETY: repr(C), no padding.\nunsafe impl aya::Pod for Key {}";
        assert!(messages("daemon/src/capture/maps.rs", text).is_empty());
    }

    #[test]
    fn a_note_above_a_statement_counts() {
        let text = "fn f() {\n    // SAFETY: a, b.\n    let value =\n        unsafe { g() };\n}";
        assert!(messages("daemon/src/sys.rs", text).is_empty());
    }
}
