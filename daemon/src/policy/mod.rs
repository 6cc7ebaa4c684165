//! The policy: YAML in, one pure function `decide` out.
//!
//! Deny beats allow, the default is deny, every object of every effect must be covered.
//! A [`Permit`] is the only proof of an allow and only this module makes one.
//! Absent on purpose: I/O beside reading the policy files, clocks, protocol knowledge.
#![forbid(unsafe_code)]

mod cgroup;
mod compile;
mod credential;
mod decision;
mod file;
mod glob;
mod index;
mod load;
mod matcher;
mod membership;
mod problem;
mod refusal;
mod request;
mod selftest;
mod service;
mod verb;

pub use credential::{CredentialRef, Helper, HelperFormat, VaultRef};
pub use decision::{Decision, Denial, DenyReason, Permit, RuleRef};
pub use matcher::Policy;
pub use membership::Binding;
pub use problem::{LoadErrors, Problem, Warning};
pub use request::{Effect, Object, Request};
pub use service::{Auth, ClientCert, Destination, Proto, Service, Tls};
pub use verb::{UnknownVerb, Verb, expand_verb};
