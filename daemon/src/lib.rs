//! Portcullis: a host daemon that holds every network connection of an AI agent.
//!
//! The module tree and the arrows that it may have are in ARCHITECTURE.md;
//! `cargo xtask tidy` checks them. What may panic is denied in all of it, beside its tests
//! (.clippy.toml): a panic in one connection's task must not be an agent's to cause.
#![deny(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

pub mod app;
pub mod audit;
pub mod authority;
pub mod capture;
pub mod config;
pub mod control;
pub mod dns;
pub mod hold;
pub mod identity;
pub mod launch;
pub mod masking;
pub mod metrics;
pub mod policy;
pub mod protocol;
pub mod proxy;
pub mod roots;
pub mod sys;
pub mod types;
pub mod vault;
pub mod web;
pub mod whole;
