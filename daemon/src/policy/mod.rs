//! The policy: YAML in, one pure function `decide` out.
//!
//! Deny beats allow, the default is deny, every object of every effect must be covered.
//! A [`Permit`] is the only proof of an allow and only this module makes one.
//! Absent on purpose: I/O beside reading the policy files, clocks, protocol knowledge.
#![forbid(unsafe_code)]

mod decision;
mod request;
mod verb;

pub use decision::{Decision, Denial, DenyReason, Permit, RuleRef};
pub use request::{Effect, Object, Request};
pub use verb::{UnknownVerb, Verb, expand_verb};
