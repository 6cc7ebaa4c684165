//! The control socket: what sysadmins and `portcullis run` ask of the daemon.
//!
//! HTTP with JSON over a unix socket, version 1 below `/v1`. Who may connect is the
//! socket's mode; who asks is its peer credentials; nobody inside an agent session is
//! answered. The server reaches the rest of the daemon only through [`SessionsHandle`].

pub mod api;
pub mod client;
pub mod commands;
pub mod server;

pub use server::{Peer, SessionsHandle};
