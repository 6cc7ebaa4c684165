//! End-to-end tests: the built daemon, the real kernel, a real server, real clients.
//!
//! They run as root, after `cargo build -p portcullis` and `cargo xtask setup`. Tests that
//! are marked "ignored" are the inside halves of others, which start them in a session.

mod audit;
mod bindings;
mod bounded;
mod connections;
mod containers;
mod credential;
mod degraded;
mod dns;
mod drivers;
mod held;
mod hostile;
mod journald;
mod launcher;
mod lifecycle;
mod metrics;
mod model;
mod namespaces;
mod oidc;
mod policy_files;
mod reload;
mod run;
mod sessions;
mod stage;
mod statements;
mod tokens;
mod upstream;
mod upstream_tls;
mod vault;
