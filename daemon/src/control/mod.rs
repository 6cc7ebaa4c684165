//! The control socket: what sysadmins and `portcullis run` ask of the daemon.
//!
//! HTTP with JSON over a unix socket, version 1 below `/v1`. Who may connect is the
//! socket's mode; who asks is its peer credentials. Nobody inside an agent session is
//! answered there; for them there is a socket of their own, which can do very little. The server reaches the rest of the daemon only through [`SessionsHandle`].

pub mod api;
pub mod client;
pub mod commands;
pub mod inside;
pub mod server;

use std::path::{Path, PathBuf};

pub use server::{Peer, SessionsHandle};

/// The authority's certificate, for whoever is inside a session: beside their socket.
pub fn agent_certificate(control: &Path) -> PathBuf {
    agent_socket(control).with_file_name("authority.crt")
}

/// The socket for processes inside agent sessions, found from the control socket. In a
/// directory of its own: agents may not look into the daemon's.
pub fn agent_socket(control: &Path) -> PathBuf {
    let directory = control.parent().unwrap_or(Path::new("/run"));
    let mut directory = directory.as_os_str().to_owned();
    directory.push("-agents");
    PathBuf::from(directory).join("agent.sock")
}
