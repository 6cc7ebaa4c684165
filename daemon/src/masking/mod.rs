//! Masking of what comes back. Empty for now: a policy with `mask:` is refused at load,
//! so that nobody believes in a mask that is not applied.
