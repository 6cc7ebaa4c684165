//! Which module of the daemon may import which, and which crates some may not touch.
//!
//! The tables are the design: to want an arrow that is not here is to ask for a change of
//! it, in this one place and in ARCHITECTURE.md, with the reason.

use super::Finding;
use super::paths::production_paths;

/// A -> B: module A (or below it) may import B (or below it). The longest A that fits a
/// file counts. Each module may import itself.
const ARROWS: &[(&str, &[&str])] = &[
    ("bin", &["app", "config", "control"]),
    ("lib", &["*"]),
    ("app", &["*"]),
    ("config", &["*"]),
    // launch: `portcullis run` takes from itself what an agent may not have.
    // sys: the process that asks, as it was when it connected.
    (
        "control",
        &[
            "policy",
            "approval",
            "audit",
            "types",
            "launch",
            "sys",
            "proxy::SessionsHandle",
            // `portcullis authority` puts the certificate into files of others.
            "whole",
        ],
    ),
    (
        "proxy",
        &[
            "protocol",
            "policy",
            "masking",
            "approval",
            "audit",
            "vault",
            "identity",
            "capture",
            // Whether an agent that says nothing is still there.
            "sys",
            "types",
            "metrics",
            // Which name a session asked for; queries that come by TCP.
            "dns", // Whom an upstream's certificate must come from.
            "roots",
            // Certificates for the agents' side.
            "authority",
        ],
    ),
    ("protocol", &["policy", "masking", "types"]),
    (
        "vault",
        &[
            "policy::Permit",
            // Where the policy says that a credential is.
            "policy::CredentialRef",
            "policy::Helper",
            "policy::HelperFormat",
            "policy::VaultRef",
            // Starts a program without capabilities.
            "sys",
            "types",
            "web",
        ],
    ),
    ("approval", &["policy::Request", "types"]),
    (
        "audit::sink",
        &["audit::record", "audit::AuditError", "types"],
    ),
    // A record lists what was judged.
    ("audit", &["policy::Effect", "types"]),
    // Its answers depend on the policy, are recorded, and it must know who asks. It has its
    // own sockets, as the gate's listeners don't carry datagrams.
    (
        "dns",
        &["policy", "audit", "identity", "capture", "types", "metrics"],
    ),
    ("capture", &["sys", "types"]),
    // An issuer's keys come over HTTP.
    ("identity", &["sys", "types", "web"]),
    ("policy", &["types"]),
    ("masking", &["types"]),
    ("launch", &["sys", "types"]),
    // Its filter has rules in common with the agent's.
    ("hold", &["launch::rules", "sys"]),
    ("metrics", &["types"]),
    ("web", &["roots", "types"]),
    // Its key is a secret.
    ("authority", &["types", "whole"]),
    ("roots", &[]),
    ("sys", &[]),
    ("types", &[]),
    ("whole", &[]),
];

/// Crates and parts of std that a module may not touch, with why.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    ("protocol", SANS_IO, "a protocol session is sans-IO"),
    ("policy", PURE, "the decision is a pure function"),
    ("masking", SANS_IO, "masking is a pure function"),
    (
        "types",
        &["tokio", "aya"],
        "types are shared by pure modules",
    ),
];
const SANS_IO: &[&str] = &[
    "tokio",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::fs",
    "std::process",
];
const PURE: &[&str] = &[
    "tokio",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::process",
];

/// Crates that only one module uses.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("aya", &["capture"]),
    ("pg_query", &["protocol"]),
    ("axum", &["control"]),
    ("landlock", &["launch"]),
    ("seccompiler", &["launch", "hold"]),
    ("hickory_proto", &["dns"]),
    ("rcgen", &["authority"]),
];

/// Checks one file; files outside `daemon/src` have no arrows.
pub fn check(name: &str, file: &syn::File) -> Vec<Finding> {
    let Some(module) = module_of(name) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for path in production_paths(file) {
        let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
        let problem = match resolve(&module, &segments) {
            Some(target) => forbidden_arrow(&module, &target),
            None => forbidden_crate(&module, &segments.join("::")),
        };
        findings.extend(problem.map(|message| Finding::error(name, path.line, message)));
    }
    findings
}

/// `daemon/src/audit/sink/file.rs` is `audit::sink::file`; a module's `tests.rs` has none.
fn module_of(name: &str) -> Option<Vec<String>> {
    let inner = name.strip_prefix("daemon/src/")?.strip_suffix(".rs")?;
    let mut parts: Vec<String> = inner.split('/').map(str::to_owned).collect();
    let last = parts.last()?.clone();
    if last == "tests" || last.ends_with("_tests") || parts.iter().any(|part| part == "tests") {
        return None;
    }
    if last == "mod" {
        parts.pop();
    }
    Some(parts)
}

/// The module path within the crate, or none if the path leads to another crate.
fn resolve(module: &[String], segments: &[&str]) -> Option<Vec<String>> {
    let (first, rest) = segments.split_first()?;
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    match *first {
        "crate" => Some(own(rest)),
        // The binaries and the tests see the library by its name.
        "portcullis" if module.first().is_some_and(|name| name == "bin") => Some(own(rest)),
        "self" => Some(module.iter().cloned().chain(own(rest)).collect()),
        "super" => {
            let ups = segments
                .iter()
                .take_while(|segment| **segment == "super")
                .count();
            let base = module.get(..module.len().checked_sub(ups)?)?;
            let rest: Vec<String> = own(segments.get(ups..)?);
            Some(base.iter().cloned().chain(rest).collect())
        }
        _ => None,
    }
}

fn forbidden_arrow(module: &[String], target: &[String]) -> Option<String> {
    let own_top = module.first()?;
    let target_text = target.join("::");
    let Some((from, allowed)) = entry_for(module) else {
        return Some(format!("module `{own_top}` is not in the table of arrows"));
    };
    let within = |base: &str| base == "*" || is_below(&target_text, base);
    // `super::*` and `crate` alone name no other module.
    if target.is_empty() || within(from) || allowed.iter().any(|base| within(base)) {
        return None;
    }
    // A nested entry is stricter than its module: its own parent's items need an arrow too.
    let list = if allowed.is_empty() {
        "nothing of ours".into()
    } else {
        allowed.join(", ")
    };
    Some(format!(
        "`{from}` may not import `{target_text}`, only: {list}"
    ))
}

fn entry_for(module: &[String]) -> Option<(&'static str, &'static [&'static str])> {
    let text = module.join("::");
    ARROWS
        .iter()
        .filter(|(from, _)| is_below(&text, from))
        .max_by_key(|(from, _)| from.len())
        .map(|(from, allowed)| (*from, *allowed))
}

fn is_below(path: &str, base: &str) -> bool {
    path.strip_prefix(base)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn forbidden_crate(module: &[String], path: &str) -> Option<String> {
    let own = module.first()?;
    for (base, list, why) in FORBIDDEN {
        if own == base && list.iter().any(|banned| is_below(path, banned)) {
            return Some(format!("`{own}` may not use `{path}`: {why}"));
        }
    }
    for (name, homes) in ONLY_IN {
        if !homes.contains(&own.as_str()) && is_below(path, name) {
            return Some(format!("`{name}` is used in `{}` only", homes.join("`, `")));
        }
    }
    None
}

#[cfg(test)]
#[path = "arrows_tests.rs"]
mod tests;
