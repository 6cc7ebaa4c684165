//! SET, RESET and SHOW.
//!
//! A setting is harmless only if it is on a list; what decides how a statement is read
//! (search_path, role, client_encoding, standard_conforming_strings) is not; what the gate
//! can't follow (search_path) is unknown on top of that. RESET is safe
//! for what is: the server resets to the values of the start-up message, which the gate sends.

use pg_query::protobuf::VariableSetKind;

use super::lists;
use super::names;
use super::statements::SERVER;
use super::tree::{Node, Tree};
use super::walk::Walker;
use crate::policy::{Effect, Verb};

/// What a setting in the start-up packet does; nothing if it is harmless. The agent's
/// encoding is known from what the server reports.
pub(in crate::protocol::postgres) fn at_start_up(name: &str, value: &str) -> Vec<Effect> {
    let setting = || Effect::on_path(Verb::SqlSession, names::path("setting", name));
    match name {
        "client_encoding" => Vec::new(),
        name if lists::is_safe_setting(name) => Vec::new(),
        "role" | "session_authorization" => {
            vec![Effect::on_path(
                Verb::SqlPrivilege,
                names::path("role", value),
            )]
        }
        "search_path" => vec![setting(), super::unknown()],
        STRINGS if !value.eq_ignore_ascii_case("on") => vec![setting(), super::unknown()],
        // These load code into the server.
        "local_preload_libraries" | "session_preload_libraries" | "dynamic_library_path" => {
            vec![setting(), Effect::on_path(Verb::SqlUnsafeIo, SERVER)]
        }
        _ => vec![setting()],
    }
}

/// While it is off, a backslash in a string is not what the gate takes it for.
const STRINGS: &str = "standard_conforming_strings";

/// A setting by which the server reads texts, or looks names up.
pub(super) fn is_read_by(name: &str) -> bool {
    let settings = ["search_path", STRINGS, "client_encoding"];
    settings.iter().any(|one| one.eq_ignore_ascii_case(name))
}

impl Walker<'_> {
    pub(super) fn set(&mut self, node: &Node) {
        let kind = self.int(node, "kind");
        let name = self.text(node, "name").to_ascii_lowercase();
        let arguments = self.field(node, "args").items();
        let kind = i32::try_from(kind).map(VariableSetKind::try_from);
        match (kind, name.as_str()) {
            (Ok(Ok(VariableSetKind::VarResetAll)), _) => self.on_service(Verb::SqlSession),
            (Ok(Ok(VariableSetKind::VarSetMulti)), "session characteristics") => {
                self.on_service(Verb::SqlSession);
            }
            (Ok(Ok(VariableSetKind::VarSetMulti)), "transaction" | "transaction snapshot") => {
                self.on_service(Verb::SqlTx);
            }
            (
                Ok(Ok(VariableSetKind::VarSetMulti | VariableSetKind::Undefined))
                | Ok(Err(_))
                | Err(_),
                _,
            ) => {
                self.unknown("a SET of a kind that the gate does not know");
            }
            (_, "role" | "session_authorization") => {
                let role = arguments.first().and_then(Tree::string).unwrap_or("none");
                self.on(Verb::SqlPrivilege, &names::path("role", role));
            }
            (Ok(Ok(VariableSetKind::VarSetValue)), "client_encoding") => {
                let encoding = match arguments {
                    [encoding] => encoding.string().unwrap_or_default().to_ascii_lowercase(),
                    _ => String::new(),
                };
                if matches!(encoding.as_str(), "utf8" | "utf-8" | "unicode") {
                    self.on_service(Verb::SqlSession);
                } else {
                    self.setting(&name);
                }
            }
            (_, name) if lists::is_safe_setting(name) => self.on_service(Verb::SqlSession),
            // Back to what the gate has set.
            (Ok(Ok(VariableSetKind::VarReset | VariableSetKind::VarSetDefault)), name) => {
                self.setting(name);
            }
            (_, name) => {
                self.setting(name);
                let value = arguments.first().and_then(Tree::string);
                match name {
                    "search_path" => self.search_path_changes(),
                    STRINGS if !value.is_some_and(|value| value.eq_ignore_ascii_case("on")) => {
                        self.unknown("strings would be read otherwise than they are judged");
                    }
                    _ => {}
                }
            }
        }
    }

    pub(super) fn show(&mut self, node: &Node) {
        let name = self.text(node, "name").to_ascii_lowercase();
        if lists::is_readable_setting(&name) {
            self.on_service(Verb::SqlSession);
        } else {
            self.setting(&name);
        }
    }

    /// Unqualified names would stand for other objects than those that are judged, and the
    /// server does not report it.
    pub(super) fn search_path_changes(&mut self) {
        self.unknown("search_path changes: names would stand for other things");
    }

    fn setting(&mut self, name: &str) {
        self.on(Verb::SqlSession, &names::path("setting", name));
    }
}
