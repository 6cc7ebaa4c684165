//! The daemon's record, as a test reads it: one JSON object a line.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// The complete lines of the record so far, parsed; none if there is no file yet.
pub fn read(path: &Path) -> Result<Vec<Value>> {
    let parse =
        |line: String| serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"));
    lines(path)?.into_iter().map(parse).collect()
}

/// The same as they stand in the file. A last line without its newline is still being
/// written and is left out.
pub fn lines(path: &Path) -> Result<Vec<String>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let complete = text.rfind('\n').map_or("", |end| &text[..=end]);
    Ok(complete.lines().map(str::to_owned).collect())
}

/// A field as text: a string as it is, anything else as JSON; empty if it is not there.
pub fn text(line: &Value, field: &str) -> String {
    match line.get(field) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Whether the line is this kind of event.
pub fn is(line: &Value, event: &str) -> bool {
    text(line, "event") == event
}

/// Whether the line is a decision on a statement that contains this text.
pub fn is_decision(line: &Value, part: &str) -> bool {
    is(line, "decision") && text(line, "statement").contains(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_line_waits() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("audit");
        fs::write(&path, "{\"event\":\"decision\",\"rows\":3}\n{\"event\":").expect("write");
        let lines = read(&path).expect("reads");
        assert_eq!(lines.len(), 1);
        assert!(is(&lines[0], "decision"));
        assert_eq!(text(&lines[0], "rows"), "3");
        assert_eq!(text(&lines[0], "nothing"), "");
    }

    #[test]
    fn a_broken_line_is_an_error() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("audit");
        fs::write(&path, "{\"event\"\n").expect("write");
        assert!(read(&path).is_err());
    }
}
