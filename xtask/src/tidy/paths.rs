//! The paths that a source file names, `use` trees and macro arguments included.
//!
//! Works on tokens, so that what a macro is given counts as well as what is imported.
//! Items under `#[cfg(test)]` are left out.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use quote::ToTokens;

/// A path as written, `["crate", "policy", "Permit"]`, and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPath {
    /// Its segments.
    pub segments: Vec<String>,
    /// Its first line, from 1.
    pub line: usize,
}

/// Every path of more than one segment, and `use` of a single name, in production code.
pub fn production_paths(file: &syn::File) -> Vec<NamedPath> {
    let mut found = Vec::new();
    for item in production_items(&file.items) {
        scan(item.to_token_stream(), &[], &mut found);
    }
    found
}

/// The items that are compiled without `test`, modules opened.
fn production_items(items: &[syn::Item]) -> Vec<&syn::Item> {
    items
        .iter()
        .filter(|item| !is_test_only(attributes(item)))
        .collect()
}

/// Whether one of these attributes is `#[cfg(test)]` or `#[test]`.
pub fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let text = attribute
            .meta
            .to_token_stream()
            .to_string()
            .replace(' ', "");
        text == "cfg(test)" || text == "test" || text == "tokio::test"
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Reads `a::b::{c, d::e}`, wherever it stands.
fn scan(tokens: TokenStream, prefix: &[String], found: &mut Vec<NamedPath>) {
    let mut current: Vec<String> = prefix.to_vec();
    let mut line = 0;
    let mut open = false;
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => {
                if !open {
                    finish(&mut current, prefix, line, found);
                }
                if current.len() == prefix.len() {
                    line = ident.span().start().line;
                }
                current.push(ident.to_string());
                open = false;
                colons = 0;
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => {
                colons += 1;
                open = colons == 2;
                if colons == 1 && punct.spacing() == Spacing::Alone {
                    finish(&mut current, prefix, line, found);
                    colons = 0;
                }
            }
            // `pub(in crate::a)` says who may see, not what is used.
            TokenTree::Group(_) if current.len() == 1 && current[0] == "pub" => {
                current.clear();
            }
            TokenTree::Group(group) => {
                let is_tree = open && group.delimiter() == Delimiter::Brace;
                let inner: Vec<String> = if is_tree { current.clone() } else { Vec::new() };
                if !is_tree {
                    finish(&mut current, prefix, line, found);
                }
                scan(group.stream(), &inner, found);
                current = prefix.to_vec();
                (open, colons) = (false, 0);
            }
            TokenTree::Punct(punct) if punct.as_char() == '*' && open => current.push("*".into()),
            _ => {
                finish(&mut current, prefix, line, found);
                (open, colons) = (false, 0);
            }
        }
    }
    finish(&mut current, prefix, line, found);
}

fn finish(current: &mut Vec<String>, prefix: &[String], line: usize, found: &mut Vec<NamedPath>) {
    if current.len() > prefix.len() && current.len() > 1 {
        found.push(NamedPath {
            segments: current.clone(),
            line,
        });
    }
    current.clear();
    current.extend_from_slice(prefix);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let file = syn::parse_file(text).expect("parses");
        production_paths(&file)
            .iter()
            .map(|path| path.segments.join("::"))
            .collect()
    }

    #[test]
    fn opens_use_trees() {
        let found = paths("use crate::{policy::{Permit, self}, types::*};");
        assert_eq!(
            found,
            [
                "crate::policy::Permit",
                "crate::policy::self",
                "crate::types::*"
            ]
        );
    }

    #[test]
    fn sees_inline_paths_and_macro_arguments() {
        let found = paths("fn f(x: crate::a::B) { log!(crate::c::D, x); match x { y::Z => {} } }");
        assert_eq!(found, ["crate::a::B", "crate::c::D", "y::Z"]);
    }

    #[test]
    fn leaves_visibility_out() {
        assert!(paths("pub(in super::super) struct S; pub(in crate::a) fn f() {}").is_empty());
    }

    #[test]
    fn leaves_tests_out() {
        assert!(paths("#[cfg(test)] mod tests { use crate::proxy::X; }").is_empty());
    }

    #[test]
    fn keeps_generics_and_fields_apart() {
        let found = paths("struct S { a: Vec<std::net::IpAddr>, b: super::T }");
        assert_eq!(found, ["std::net::IpAddr", "super::T"]);
    }
}
