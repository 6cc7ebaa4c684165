//! Which addresses mean which service.
//!
//! Names are resolved by the host's resolver, when the policy loads and again from time
//! to time; an address that two services claim belongs to neither.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use crate::policy::{Policy, Service};
use crate::types::{OrigDst, ServiceName};

/// What an address stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The service.
    pub service: ServiceName,
    /// The host as the policy writes it: the name that the upstream must prove.
    pub host: String,
}

/// The addresses of all services.
#[derive(Debug, Default)]
pub struct Destinations {
    targets: HashMap<SocketAddr, Target>,
    /// What is wrong with some of them, for the log and `portcullis status`.
    pub problems: Vec<String>,
}

impl Destinations {
    /// The service at this address.
    pub fn find(&self, destination: OrigDst) -> Option<&Target> {
        self.targets.get(&destination.addr())
    }

    /// All addresses, for the kernel's map.
    pub fn addresses(&self) -> HashSet<SocketAddr> {
        self.targets.keys().copied().collect()
    }

    fn add(
        &mut self,
        address: SocketAddr,
        service: &Service,
        host: &str,
        two: &mut HashSet<SocketAddr>,
    ) {
        let address = OrigDst::new(address).addr();
        let target = Target {
            service: service.name.clone(),
            host: host.to_owned(),
        };
        match self.targets.insert(address, target) {
            Some(other) if other.service != service.name => {
                two.insert(address);
                self.problems.push(format!(
                    "{address} is both {} and {}: refused for both",
                    other.service, service.name
                ));
            }
            _ => {}
        }
    }
}

/// Resolves the addresses of every service of the policy.
pub async fn resolve(policy: &Policy) -> Destinations {
    let mut found = Destinations::default();
    let mut two = HashSet::new();
    for service in policy.services() {
        for at in &service.at {
            if let Some(ip) = at.ip() {
                found.add(SocketAddr::new(ip, at.port), service, &at.host, &mut two);
                continue;
            }
            match tokio::net::lookup_host((&*at.host, at.port)).await {
                Ok(addresses) => {
                    for address in addresses {
                        found.add(address, service, &at.host, &mut two);
                    }
                }
                Err(error) => {
                    found
                        .problems
                        .push(format!("cannot resolve {at} of {}: {error}", service.name));
                }
            }
        }
    }
    for address in two {
        found.targets.remove(&address);
    }
    found
}
