//! Which unix sockets of helpers outside a session may reach, from policy to kernel.

use std::path::Path;

use crate::capture::{CaptureError, Gate, UnixAddress};
use crate::identity::AgentSession;
use crate::policy::Policy;

/// Makes the policy's list for the session's principal the one in force.
///
/// # Errors
/// Too many of them over all sessions; the session keeps what it had.
pub(super) fn allow(
    gate: &Gate,
    session: &AgentSession,
    policy: &Policy,
    agent_socket: &Path,
) -> Result<(), CaptureError> {
    let names = policy.unix_sockets_of(&session.principal);
    let mut addresses: Vec<UnixAddress> = names.iter().filter_map(|name| address(name)).collect();
    // The daemon itself, for what agents may ask of it.
    addresses.extend(UnixAddress::path(agent_socket));
    gate.set_unix_allowed(session.cgroup, &addresses)
}

/// The policy has checked the name; what the kernel can't be told is not allowed.
fn address(name: &str) -> Option<UnixAddress> {
    let address = match name.strip_prefix('@') {
        Some(name) => UnixAddress::abstract_name(name.as_bytes()),
        None => UnixAddress::path(name.as_ref()),
    };
    match address {
        Ok(address) => Some(address),
        Err(error) => {
            tracing::error!("unix socket {name} stays refused: {error}");
            None
        }
    }
}
