//! What must not be committed: large files, binaries, paths of somebody's machine.

use super::Finding;

const LARGEST: usize = 1024 * 1024;

/// Split, so that this file does not find itself.
const FORBIDDEN: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/tmp/bash", "_jobs"),
];

/// Checks one file of any kind.
pub fn check(name: &str, bytes: &[u8]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if bytes.len() > LARGEST {
        let message = format!("{} bytes: too large to commit", bytes.len());
        findings.push(Finding::error(name, 0, message));
    }
    // Captured bytes are fixtures on purpose.
    let captured = ["tests/fixtures/", "tests/fuzz/corpus/"];
    if bytes.contains(&0) && !captured.iter().any(|place| name.starts_with(place)) {
        findings.push(Finding::error(name, 0, "a binary file"));
    }
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = String::from_utf8_lossy(line);
        for forbidden in FORBIDDEN
            .iter()
            .filter(|forbidden| line.contains(**forbidden))
        {
            let message = format!("names a path of one machine: `{forbidden}`");
            findings.push(Finding::error(name, index + 1, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_files_are_found() {
        assert!(check("a.txt", b"fine\n").is_empty());
        assert_eq!(check("a.txt", &vec![b'a'; LARGEST + 1]).len(), 1);
        assert_eq!(check("a.o", b"\x7fELF\0").len(), 1);
        assert!(check("tests/fixtures/startup.bin", b"\0\0\0\x08").is_empty());
        let found = check(
            "a.rs",
            format!("\nlet x = \"{}here\";", FORBIDDEN[0]).as_bytes(),
        );
        assert_eq!((found.len(), found[0].line), (1, 2));
    }
}
