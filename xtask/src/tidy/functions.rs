//! Functions over 50 lines: a question each.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::Finding;
use super::paths::is_test_only;
use super::sizes::is_test_file;

const ASK: usize = 50;

/// Checks one file; test code is left out.
pub fn check(name: &str, file: &syn::File) -> Vec<Finding> {
    if is_test_file(name) {
        return Vec::new();
    }
    let mut functions = Functions {
        name,
        findings: Vec::new(),
    };
    functions.visit_file(file);
    functions.findings
}

struct Functions<'a> {
    name: &'a str,
    findings: Vec<Finding>,
}

impl Functions<'_> {
    fn judge(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (first, last) = (signature.span().start().line, block.span().end().line);
        let lines = last - first + 1;
        if lines > ASK {
            let message = format!(
                "`{}` has {lines} lines: more than one idea?",
                signature.ident
            );
            self.findings
                .push(Finding::question(self.name, first, message));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test_only(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.judge(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.judge(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_function_is_asked_about() {
        let body = "let _ = 1;\n".repeat(49);
        let find = |text: &str| check("a.rs", &syn::parse_file(text).expect("parses"));
        assert!(find(&format!("fn f() {{\n{}}}", "let _ = 1;\n".repeat(48))).is_empty());
        let found = find(&format!("struct S;\nimpl S {{ fn f() {{\n{body}}} }}"));
        assert_eq!((found.len(), found[0].line), (1, 2));
        assert!(find(&format!("#[cfg(test)]\nmod t {{ fn f() {{\n{body}}} }}")).is_empty());
    }
}
