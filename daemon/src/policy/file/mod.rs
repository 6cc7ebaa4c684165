//! One policy file: its sections, each value with its place.
//!
//! Reads the tree into typed parts; what refers to other parts (roles, services) is
//! checked by `compile`, over all files. Absent on purpose: obligations (`mask`,
//! `limits`, ...), which this version refuses because nothing would enforce them.

mod credential;
mod login;
mod reader;
mod role;
mod rule;
mod service;
mod test;
mod tree;
mod when;

use reader::{Reader, Shape};
pub(super) use role::RoleSpec;
pub(super) use rule::RuleSpec;
pub(super) use service::ServiceSpec;
pub(super) use test::{Expect, TestSpec};
use tree::{Node, Value};
pub(super) use when::{TokenWhen, When};

use super::problem::Diagnostics;

/// What one file says.
#[derive(Debug, Default)]
pub(super) struct FileSpec {
    pub(super) roles: Vec<RoleSpec>,
    pub(super) services: Vec<ServiceSpec>,
    pub(super) rules: Vec<RuleSpec>,
    pub(super) tests: Vec<TestSpec>,
    /// Roles and services that have a name and are otherwise wrong: who refers to them
    /// is not wrong as well.
    pub(super) broken: Broken,
}

/// Names of what is wrong.
#[derive(Debug, Default)]
pub(super) struct Broken {
    pub(super) roles: Vec<String>,
    pub(super) services: Vec<String>,
}

const FILE: Shape = Shape {
    what: "a policy file",
    known: &["version", "roles", "services", "rules", "tests"],
    later: &[],
};

/// Reads a file; what is wrong goes to `found`. None when it could not be taken apart at all.
pub(super) fn read(file: usize, text: &str, found: &mut Diagnostics) -> Option<FileSpec> {
    let mut spec = FileSpec::default();
    let tree = tree::parse(file, text, found)?;
    let mut reader = Reader { file, found };
    let fields = reader.fields(&tree, &FILE)?;
    if let Some(version) = reader.required(&fields, "version") {
        read_version(&mut reader, version);
    }
    for (name, node) in reader.entries_of(&fields, "roles") {
        let text = name.value;
        match role::read(&mut reader, name, node) {
            Some(role) => spec.roles.push(role),
            None => spec.broken.roles.push(text.into()),
        }
    }
    for (name, node) in reader.entries_of(&fields, "services") {
        let text = name.value;
        match service::read(&mut reader, name, node) {
            Some(service) => spec.services.push(service),
            None => spec.broken.services.push(text.into()),
        }
    }
    for node in reader.items_of(&fields, "rules") {
        spec.rules.extend(rule::read(&mut reader, node));
    }
    for node in reader.items_of(&fields, "tests") {
        spec.tests.extend(test::read(&mut reader, node));
    }
    Some(spec)
}

fn read_version(reader: &mut Reader<'_>, version: &Node) {
    if version.value != Value::Integer(1) {
        let help = "this version of Portcullis reads `version: 1`";
        reader.found.error(
            reader.spot(version),
            "unknown policy version",
            Some(help.into()),
        );
    }
}
