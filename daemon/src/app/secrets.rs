//! The vault, from the configuration, the service manager and the environment.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;

use super::hidden;
use crate::config::{Config, Vault as Configured};
use crate::hold::Needs;
use crate::policy::{CredentialRef, Policy, Service};
use crate::sys;
use crate::types::Secret;
use crate::vault::{Parts, Vault, hashicorp};

/// Takes the variables that the policy names out of the environment: nothing that this
/// process starts, and nobody who reads `/proc/PID/environ`, sees them from here on.
///
/// # Errors
/// The process has more than one thread, or the configuration's `vault:` is no address.
pub(super) fn vault(config: &Config, policy: &Policy) -> anyhow::Result<Vault> {
    let mut environment = HashMap::new();
    for credential in policy.services().flat_map(Service::secrets) {
        if let CredentialRef::Env(name) = credential
            && !environment.contains_key(name)
            && let Some(value) = sys::environment::take(name)
                .with_context(|| format!("cannot take {name} out of the environment"))?
        {
            environment.insert(name.clone(), Secret::new(value));
        }
    }
    Ok(Vault::new(Parts {
        environment,
        systemd: hidden::systemd_credentials(),
        hashicorp: hashicorp(&config.vault)?,
    }))
}

/// What the policy's credentials take that the daemon else would give up.
pub(super) fn needs(policy: &Policy) -> Needs {
    let mut credentials = policy.services().flat_map(Service::secrets);
    Needs {
        programs: credentials.any(|from| matches!(from, CredentialRef::Exec(_))),
    }
}

fn hashicorp(config: &Configured) -> anyhow::Result<Option<hashicorp::Settings>> {
    let Some(address) = &config.address else {
        return Ok(None);
    };
    let login = match (&config.approle, &config.token_file) {
        (Some(it), _) => hashicorp::Login::AppRole {
            mount: it.mount.clone(),
            role_id: it.role_id.clone(),
            secret_id_file: it.secret_id_file.clone(),
        },
        (None, Some(file)) => hashicorp::Login::TokenFile(file.clone()),
        (None, None) => return Ok(None),
    };
    Ok(Some(hashicorp::Settings {
        address: address
            .parse()
            .with_context(|| format!("vault.address: {address} is no URL"))?,
        ca: config.ca.clone(),
        namespace: config.namespace.clone(),
        login,
        patience: Duration::from_secs(config.timeout_seconds),
    }))
}
