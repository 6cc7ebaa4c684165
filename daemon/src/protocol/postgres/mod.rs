//! PostgreSQL, protocol 3.0 and 3.2: the agent's side is answered without a password, the
//! upstream's side is logged into with the service's own credential.
//!
//! `codec` reads and builds messages, `session` holds the states, `analyse` turns
//! statement texts into effects, `enforce` turns a denial into what the server and the
//! agent each see. Absent for now: GSSAPI, replication.

pub mod analyse;
pub mod codec;
mod enforce;
mod session;

pub use session::{PostgresSession, Settings};

/// The protocol's name in TLS (ALPN; manual 55.2.11).
pub const ALPN: &[u8] = b"postgresql";
