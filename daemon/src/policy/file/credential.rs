//! `credential:` of a service: a line, or a mapping with `exec` or `vault`.

use std::time::Duration;

use super::reader::{Fields, Reader, Shape};
use super::tree::{Node, Value};
use crate::policy::credential::{CredentialRef, Helper, HelperFormat, VaultRef, Wrong};
use crate::policy::problem::{Spot, suggest};

const CREDENTIAL: Shape = Shape {
    what: "a credential",
    known: &["exec", "timeout", "format", "vault"],
    later: &[],
};

const TIMEOUT: Duration = Duration::from_secs(5);
/// A connection waits for it, and its start-up is bounded too.
const LONGEST: u64 = 60;

pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<CredentialRef> {
    if !matches!(node.value, Value::Map(_)) {
        return line(reader, node, "`credential`");
    }
    let fields = reader.fields(node, &CREDENTIAL)?;
    match (fields.optional("exec"), fields.optional("vault")) {
        (Some(argv), None) => helper(reader, argv, &fields).map(CredentialRef::Exec),
        (None, Some(place)) => {
            for name in ["timeout", "format"] {
                if let Some(node) = fields.optional(name) {
                    let spot = reader.spot(node);
                    let message = format!("`{name}` belongs to `exec`, not to `vault`");
                    reader.found.error(spot, message, None);
                }
            }
            let text = reader.text(place, "`vault`")?;
            said(reader, text.spot, VaultRef::parse(&text.value)).map(CredentialRef::Vault)
        }
        (Some(_), Some(_)) => {
            let message = "a credential with both `exec` and `vault`";
            reader.found.error(fields.spot, message, None);
            None
        }
        (None, None) => {
            let help = "write {exec: [/path, argument]} or {vault: secret/data/app#password}";
            let message = "a credential has no `exec` and no `vault`";
            reader.found.error(fields.spot, message, Some(help.into()));
            None
        }
    }
}

/// What is only named: `file:`, `systemd:` or `env:`.
pub(super) fn line(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<CredentialRef> {
    let text = reader.text(node, what)?;
    said(reader, text.spot, CredentialRef::parse(&text.value))
}

/// What is no reference may be the secret itself: the file's lines are not shown.
fn said<T>(reader: &mut Reader<'_>, spot: Spot, result: Result<T, Wrong>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err((message, help)) => {
            reader.found.hide_lines(reader.file);
            reader.found.error(spot, message, Some(help.into()));
            None
        }
    }
}

fn helper(reader: &mut Reader<'_>, argv: &Node, fields: &Fields<'_>) -> Option<Helper> {
    let argv = reader.texts(argv, "`exec`");
    let timeout = match fields.optional("timeout") {
        Some(node) => timeout(reader, node),
        None => Some(TIMEOUT),
    };
    let format = match fields.optional("format") {
        Some(node) => format(reader, node),
        None => Some(HelperFormat::Text),
    };
    let argv = argv?;
    if let Some(program) = argv.first().filter(|one| !one.value.starts_with('/')) {
        let help = "nothing is looked up in PATH, and no shell reads the list";
        let message = "the path of the program is not absolute";
        reader.found.error(program.spot, message, Some(help.into()));
        return None;
    }
    Some(Helper {
        argv: argv.into_iter().map(|word| word.value).collect(),
        timeout: timeout?,
        format: format?,
    })
}

fn timeout(reader: &mut Reader<'_>, node: &Node) -> Option<Duration> {
    let text = reader.text(node, "`timeout`")?;
    let seconds = text.value.strip_suffix('s').and_then(|n| n.parse().ok());
    match seconds {
        Some(seconds @ 1..=LONGEST) => Some(Duration::from_secs(seconds)),
        _ => {
            let message = format!("`timeout` is from 1s to {LONGEST}s");
            reader.found.error(text.spot, message, None);
            None
        }
    }
}

fn format(reader: &mut Reader<'_>, node: &Node) -> Option<HelperFormat> {
    let text = reader.text(node, "`format`")?;
    match text.value.as_str() {
        "text" => Some(HelperFormat::Text),
        "json" => Some(HelperFormat::Json),
        other => {
            let message = format!("unknown `format: {}`", other.escape_debug());
            let help = suggest(other, "values", &["text", "json"]);
            reader.found.error(text.spot, message, Some(help));
            None
        }
    }
}
