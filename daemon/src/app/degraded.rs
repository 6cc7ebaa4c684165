//! Layers of the gate that this host does not have: each must be accepted by name in the
//! configuration, or the daemon does not start.

use anyhow::bail;

use crate::capture::{Gate, LsmState, MissingLayer};
use crate::config::DEFAULT_PATH;
use crate::launch;

/// Names that may be accepted although the layer is there: one configuration for hosts
/// with different kernels. `unix` stands for both unix hooks.
const KNOWN: [&str; 5] = ["lsm", "unix", "unix_connect", "unix_sendmsg", "processes"];

/// Layers that the LSM programs stand in for.
const COVERED: [&str; 3] = ["unix_connect", "unix_sendmsg", "processes"];

/// What is missing here: of the cgroup programs, of BPF LSM, of the launcher's own means.
pub(super) fn missing(gate: &Gate) -> Vec<MissingLayer> {
    let mut missing = gate.missing_layers().to_vec();
    missing.extend(processes());
    match gate.lsm() {
        // Its programs close what these leave open, and for every process of a session.
        LsmState::InForce(_) => missing.retain(|layer| !COVERED.contains(&layer.name)),
        LsmState::Unavailable(why) => missing.push(lsm(why)),
    }
    missing
}

fn lsm(why: &str) -> MissingLayer {
    MissingLayer {
        name: "lsm",
        why: why.into(),
        leaves_open: "for processes that `portcullis run` did not start: other socket families, \
                      inherited sockets, other processes, mounts and capabilities, and for root \
                      among them the gate's pins and the daemon's files",
    }
}

fn processes() -> Option<MissingLayer> {
    let why = launch::process_guard().err()?;
    Some(MissingLayer {
        name: "processes",
        why,
        leaves_open: "the memory and descriptors of other processes of the agent's user",
    })
}

/// Refuses what is missing and not accepted.
///
/// # Errors
/// One line for each such layer, and the line of configuration that accepts them; or an
/// accepted name that is no layer.
pub(super) fn check(missing: &[MissingLayer], accepted: &[String]) -> anyhow::Result<()> {
    let is_known = |name: &&String| {
        KNOWN.contains(&name.as_str()) || missing.iter().any(|layer| covers(name, layer))
    };
    if let Some(name) = accepted.iter().find(|name| !is_known(name)) {
        let known = KNOWN.join(", ");
        bail!("gate.accept_degraded: there is no layer \"{name}\" (layers: {known})");
    }
    let open: Vec<&MissingLayer> = missing
        .iter()
        .filter(|layer| !accepted.iter().any(|name| covers(name, layer)))
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = open.iter().map(|layer| line(layer)).collect();
    let mut names: Vec<&str> = accepted.iter().map(String::as_str).collect();
    names.extend(open.iter().map(|layer| layer.name));
    bail!(
        "the gate is not whole on this host:\n{}\nto accept that, write in the configuration file (by default {DEFAULT_PATH}): \
         gate: {{accept_degraded: [{}]}}",
        lines.join("\n"),
        names.join(", ")
    )
}

/// What the log and the refusal say of a layer.
pub(super) fn line(layer: &MissingLayer) -> String {
    let MissingLayer {
        name,
        why,
        leaves_open,
    } = layer;
    format!("layer {name} is missing ({why}); it leaves open: {leaves_open}")
}

/// `unix` covers `unix_connect`.
fn covers(name: &str, layer: &MissingLayer) -> bool {
    let rest = layer.name.strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &'static str) -> MissingLayer {
        MissingLayer {
            name,
            why: "old kernel".into(),
            leaves_open: "this and that",
        }
    }

    fn check_names(missing: &[&'static str], accepted: &[&str]) -> Result<(), String> {
        let missing: Vec<_> = missing.iter().map(|name| layer(name)).collect();
        let accepted: Vec<String> = accepted.iter().map(|name| (*name).into()).collect();
        check(&missing, &accepted).map_err(|error| error.to_string())
    }

    #[test]
    fn each_missing_layer_must_be_accepted() {
        assert_eq!(check_names(&[], &[]), Ok(()));
        assert_eq!(check_names(&["lsm"], &["lsm"]), Ok(()));
        assert_eq!(
            check_names(&["unix_connect", "unix_sendmsg"], &["unix"]),
            Ok(())
        );
        let error = check_names(&["lsm", "unix_connect"], &["lsm"]).expect_err("refused");
        assert!(error.contains("layer unix_connect is missing (old kernel); it leaves open"));
        assert!(
            error.contains("gate: {accept_degraded: [lsm, unix_connect]}"),
            "{error}"
        );
        assert!(!error.contains("layer lsm"), "{error}");
    }

    #[test]
    fn names_of_no_layer_are_refused_and_spare_ones_are_not() {
        assert_eq!(check_names(&[], &["lsm", "unix"]), Ok(()));
        let error = check_names(&["lsm"], &["lsm", "lms"]).expect_err("refused");
        assert!(error.contains("\"lms\""), "{error}");
        assert!(check_names(&["unix_connect"], &["uni"]).is_err());
    }
}
