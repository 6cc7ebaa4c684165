//! The agent's side of the start-up: what it may ask for, and what the upstream is told.
//!
//! TLS is there for who asks for it, GSSAPI is answered "no". No password is asked. Settings
//! that change how a statement is read are pinned, so that the server reads what the gate
//! judged; another setting that is not harmless is an effect, judged before anything is
//! dialled.

mod encryption;

use super::Settings;
use crate::protocol::postgres::analyse;
use crate::protocol::postgres::codec::Malformed;
use crate::protocol::postgres::codec::message::{self, ErrorMessage};
use crate::protocol::postgres::codec::startup::{Packet, read};
use crate::protocol::{Buffers, CloseReason, Opening, Step};
use encryption::Encryption;

/// The newest minor version of protocol 3 that agents may speak; 3.1 was never used.
const NEWEST_MINOR: u16 = 2;

/// Waits for the agent's StartupMessage.
#[derive(Debug, Default)]
pub(super) struct Startup {
    encryption: Encryption,
}

/// A start-up that the gate accepts.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) opening: Opening,
    /// The parameters of the gate's own StartupMessage.
    pub(super) upstream: Vec<(String, String)>,
    /// Whether the agent's protocol has long cancel keys: it is 3.2.
    pub(super) long_key: bool,
}

pub(super) enum Next {
    Step(Step),
    Accepted(Accepted),
    Refuse(ErrorMessage, CloseReason),
}

impl Startup {
    /// Whether the proxy is at the handshake.
    pub(super) fn is_handshaking(&self) -> bool {
        self.encryption.is_handshaking()
    }

    /// The handshake that it asked for is done.
    pub(super) fn secured(&mut self) {
        self.encryption.secured();
    }

    pub(super) fn advance(&mut self, settings: &Settings, io: &mut Buffers) -> Next {
        if let Some(step) = self.encryption.before(&io.from_agent) {
            return Next::Step(step);
        }
        loop {
            let (packet, len) = match read(&io.from_agent) {
                Ok(Some(found)) => found,
                Ok(None) => return Next::Step(Step::Idle),
                Err(malformed) => return unreadable(malformed),
            };
            drop(io.from_agent.split_to(len));
            match packet {
                Packet::Ssl => match self.encryption.asked_for_tls(io) {
                    Ok(Some(step)) => return Next::Step(step),
                    Ok(None) => {}
                    Err(error) => return error.into(),
                },
                Packet::Gssenc => match self.encryption.asked_for_gssapi(io) {
                    Ok(()) => {}
                    Err(error) => return error.into(),
                },
                Packet::Cancel(key) => return Next::Step(Step::Cancel(key)),
                Packet::Startup { minor, parameters } => {
                    return accept(minor, parameters, settings, io);
                }
            }
        }
    }
}

fn unreadable(malformed: Malformed) -> Next {
    let what = match malformed {
        Malformed::Length => "start-up packet with an impossible length",
        Malformed::TooLong => "start-up packet longer than 10,000 bytes",
        _ => "start-up packet that is not PostgreSQL's",
    };
    let error = ErrorMessage::fatal("08P01", format!("{what}: this service speaks PostgreSQL"));
    Next::Refuse(error, CloseReason::AgentProtocol(what))
}

fn accept(
    minor: u16,
    parameters: Vec<(String, String)>,
    settings: &Settings,
    io: &mut Buffers,
) -> Next {
    let mut opening = Opening::default();
    let mut upstream = Vec::new();
    if let Some(schemas) = &settings.search_path {
        upstream.push(("search_path".to_owned(), search_path(schemas)));
    }
    upstream.push(("standard_conforming_strings".to_owned(), "on".to_owned()));
    let mut unknown = Vec::new();
    // The server takes the command line first, wherever it stands.
    let (first, then): (Vec<_>, Vec<_>) =
        parameters.iter().partition(|(name, _)| name == "options");
    for (name, value) in first.into_iter().chain(then) {
        match name.as_str() {
            "user" => opening.user.clone_from(value),
            "database" => opening.database.clone_from(value),
            "replication" if is_off(value) => {}
            "replication" => return refuse(replication()),
            "options" => {
                if let Err(error) = command_line(value, &mut upstream, &mut opening) {
                    return refuse(error);
                }
            }
            name if name.starts_with("_pq_.") => unknown.push(name),
            name => {
                setting(name.to_owned(), value.clone(), &mut upstream, &mut opening);
            }
        }
    }
    if opening.user.is_empty() {
        return refuse(ErrorMessage::fatal(
            "28000",
            "no user name in the start-up packet",
        ));
    }
    log_in_as(settings, &mut opening);
    upstream.insert(0, ("user".to_owned(), opening.login.clone()));
    if opening.database.is_empty() {
        opening.database.clone_from(&opening.user);
    }
    if !settings.databases.is_empty() && !settings.databases.contains(&opening.database) {
        return refuse(wrong_database(&opening.database, &settings.databases));
    }
    upstream.push(("database".to_owned(), opening.database.clone()));
    // As PostgreSQL 18 does it: what is older than the newest is spoken as it was asked for.
    let spoken = minor.min(NEWEST_MINOR);
    if spoken < minor || !unknown.is_empty() {
        message::negotiate_version(&mut io.to_agent, spoken, &unknown);
    }
    Next::Accepted(Accepted {
        opening,
        upstream,
        long_key: spoken >= 2,
    })
}

/// The settings of `options`.
fn command_line(
    text: &str,
    upstream: &mut Vec<(String, String)>,
    opening: &mut Opening,
) -> Result<(), ErrorMessage> {
    let pairs = options(text).ok_or_else(|| refused_setting("options"))?;
    for (name, value) in pairs {
        if is_special(&name) {
            return Err(refused_setting(&name));
        }
        setting(name, value, upstream, opening);
    }
    Ok(())
}

/// What the start-up packet takes for something else than a setting, so that a setting of
/// that name must not get there: it would be a user or a switch that nobody has judged.
fn is_special(name: &str) -> bool {
    matches!(name, "" | "user" | "database" | "replication" | "options")
        || name.starts_with("_pq_.")
}

/// Whom the upstream sees. To be one of the further users is what SET SESSION AUTHORIZATION
/// does: a rule must allow it. Another name is no question to the gate.
fn log_in_as(settings: &Settings, opening: &mut Opening) {
    let other = opening.user != settings.user && settings.users.contains(&opening.user);
    if other {
        let role = analyse::at_start_up("session_authorization", &opening.user);
        opening.effects.extend(role);
        opening.login.clone_from(&opening.user);
    } else {
        opening.login.clone_from(&settings.user);
    }
}

/// Puts a setting of the agent's into the upstream's start-up, and what it does into the
/// opening. Of two values of one name the server takes the last.
fn setting(
    name: String,
    value: String,
    upstream: &mut Vec<(String, String)>,
    opening: &mut Opening,
) {
    let lower = name.to_ascii_lowercase();
    let same = |pinned: &str| match lower.as_str() {
        "search_path" => schemas(&value).is_some_and(|same| search_path(&same) == pinned),
        _ => value == pinned,
    };
    let is_it = |(known, _): &&(String, String)| known.eq_ignore_ascii_case(&lower);
    // Of all that were given, the last one counts.
    let last = upstream.iter().rfind(is_it);
    if last.is_some_and(|(_, last)| same(last)) {
        return;
    }
    if lower == "application_name" {
        opening.application.clone_from(&value);
    }
    opening.effects.extend(analyse::at_start_up(&lower, &value));
    upstream.push((name, value));
}

fn refuse(error: ErrorMessage) -> Next {
    Next::Refuse(error, CloseReason::Refused)
}

fn refused_setting(name: &str) -> ErrorMessage {
    let mut error = ErrorMessage::fatal(
        "42501",
        format!("the gate does not let an agent set \"{name}\" at start-up"),
    );
    error.hint = "Leave it out; settings go as `-c name=value`.".into();
    error
}

fn replication() -> ErrorMessage {
    let mut error = ErrorMessage::fatal(
        "42501",
        "the gate opens no replication connections: what they stream can't be judged",
    );
    error.hint = "Read the tables with SQL; leave `replication` out.".into();
    error
}

fn wrong_database(database: &str, allowed: &[String]) -> ErrorMessage {
    let mut error = ErrorMessage::fatal(
        "42501",
        format!("database \"{database}\" is not one of this service's databases"),
    );
    error.hint = format!("It has: {}.", allowed.join(", "));
    error
}

fn is_off(value: &str) -> bool {
    matches!(
        value.to_ascii_lowercase().as_str(),
        "false" | "off" | "no" | "0"
    )
}

fn search_path(schemas: &[String]) -> String {
    let quoted: Vec<String> = schemas
        .iter()
        .map(|schema| format!("\"{}\"", schema.replace('"', "\"\"")))
        .collect();
    quoted.join(", ")
}

/// The schemas of a search path, as PostgreSQL's `SplitIdentifierString` reads them; none
/// if it is not one, or has more in it than names.
fn schemas(path: &str) -> Option<Vec<String>> {
    let mut schemas = Vec::new();
    for name in path.split(',').map(str::trim) {
        let quoted = name
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        let plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        schemas.push(match quoted {
            Some(inner) if !inner.replace("\"\"", "").contains('"') => inner.replace("\"\"", "\""),
            None if plain(name) => name.to_ascii_lowercase(),
            _ => return None,
        });
    }
    Some(schemas)
}

/// Reads the command-line form of settings (`-c name=value`, `--name=value`), split as
/// PostgreSQL's `pg_split_opts` does; none for any other option.
fn options(text: &str) -> Option<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let mut words = split_options(text).into_iter();
    while let Some(word) = words.next() {
        let assignment = match word.strip_prefix("-c") {
            Some("") => words.next()?,
            Some(rest) => rest.to_owned(),
            None => word.strip_prefix("--")?.to_owned(),
        };
        let (name, value) = assignment.split_once('=')?;
        pairs.push((name.replace('-', "_"), value.to_owned()));
    }
    Some(pairs)
}

fn split_options(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            char if char.is_ascii_whitespace() => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(chars.next()),
            char => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests;
