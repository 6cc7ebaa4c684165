//! Which addresses mean which service.
//!
//! Names are resolved by the host's resolver, when the policy loads and again from time
//! to time. Where several services are at one address, the name that the session asked for
//! tells them apart; without one the address belongs to none of them.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::dns::Zone;
use crate::policy::{Policy, Service};
use crate::types::{OrigDst, ServiceName};

/// What an address stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The service.
    pub service: ServiceName,
    /// The host as the policy writes it: the name that the upstream must prove.
    pub host: Arc<str>,
}

/// What is at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// This.
    One(&'a Target),
    /// Several services, and no name to choose by.
    Ambiguous,
    /// Nothing.
    None,
}

/// The addresses of all services.
#[derive(Debug, Default)]
pub struct Destinations {
    /// Never empty lists.
    targets: HashMap<SocketAddr, Vec<Target>>,
    /// The hosts that agents may ask for.
    pub zone: Zone,
    /// What is wrong with some of them, for the log and `portcullis status`.
    pub problems: Vec<String>,
}

impl Destinations {
    /// What is at this address for an agent that asked for `name`.
    pub fn find(&self, destination: OrigDst, name: Option<&str>) -> Found<'_> {
        let Some(all) = self.targets.get(&destination.addr()) else {
            return Found::None;
        };
        let named = |target: &&Target| name == Some(&*target.host);
        match (all.iter().find(named), all.split_last()) {
            (Some(target), _) => Found::One(target),
            (None, Some((last, rest))) if rest.iter().all(|one| one.service == last.service) => {
                Found::One(last)
            }
            _ => Found::Ambiguous,
        }
    }

    /// The hosts by which the service is at this address: all that may be vouched for there.
    pub fn hosts(&self, destination: OrigDst, service: &ServiceName) -> Vec<Arc<str>> {
        let all = self.targets.get(&destination.addr()).into_iter().flatten();
        let ours = all.filter(|target| target.service == *service);
        ours.map(|target| Arc::clone(&target.host)).collect()
    }

    /// All addresses, for the kernel's map.
    pub fn addresses(&self) -> HashSet<SocketAddr> {
        self.targets.keys().copied().collect()
    }

    fn add(&mut self, address: SocketAddr, service: &Service, host: &Arc<str>) {
        let address = OrigDst::new(address).addr();
        let target = Target {
            service: service.name.clone(),
            host: Arc::clone(host),
        };
        let all = self.targets.entry(address).or_default();
        if let Some(other) = all.iter().find(|other| other.service != service.name) {
            self.problems.push(format!(
                "{address} is both {} and {}: refused, unless the agent has asked for the name \
                 of one of them",
                other.service, service.name
            ));
        }
        if !all.contains(&target) {
            all.push(target);
        }
    }
}

/// Resolves the addresses of every service of the policy.
pub async fn resolve(policy: &Policy) -> Destinations {
    let mut found = Destinations::default();
    for service in policy.services() {
        for at in &service.at {
            if let Some(ip) = at.ip() {
                found.add(SocketAddr::new(ip, at.port), service, &at.host);
                continue;
            }
            let addresses: Vec<SocketAddr> =
                match tokio::net::lookup_host((&*at.host, at.port)).await {
                    Ok(addresses) => addresses.collect(),
                    Err(error) => {
                        found
                            .problems
                            .push(format!("cannot resolve {at} of {}: {error}", service.name));
                        Vec::new()
                    }
                };
            let ips = addresses.iter().map(SocketAddr::ip);
            found.zone.add(&at.host, &service.name, ips);
            for address in addresses {
                found.add(address, service, &at.host);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_one_address(targets: &[(&str, &str)]) -> Destinations {
        let target = |(service, host): &(&str, &str)| Target {
            service: ServiceName::from(*service),
            host: (*host).into(),
        };
        let address = "192.0.2.1:5432".parse().expect("literal");
        Destinations {
            targets: HashMap::from([(address, targets.iter().map(target).collect())]),
            ..Destinations::default()
        }
    }

    fn service<'a>(all: &'a Destinations, name: Option<&str>) -> Option<&'a str> {
        let address = OrigDst::new("192.0.2.1:5432".parse().expect("literal"));
        match all.find(address, name) {
            Found::One(target) => Some(target.service.as_str()),
            Found::Ambiguous | Found::None => None,
        }
    }

    #[test]
    fn the_name_tells_two_services_apart() {
        let two = at_one_address(&[("a", "a.corp"), ("b", "b.corp")]);
        assert_eq!(service(&two, Some("a.corp")), Some("a"));
        assert_eq!(service(&two, Some("b.corp")), Some("b"));
        assert_eq!(service(&two, None), None);
        assert_eq!(service(&two, Some("c.corp")), None);
    }

    #[test]
    fn a_service_has_its_own_hosts_at_an_address_and_no_others() {
        let three = at_one_address(&[("a", "a.corp"), ("b", "b.corp"), ("a", "192.0.2.1")]);
        let hosts = |address: &str, service: &str| {
            let address = OrigDst::new(address.parse().expect("literal"));
            let hosts = three.hosts(address, &ServiceName::from(service));
            hosts.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(hosts("192.0.2.1:5432", "a"), ["a.corp", "192.0.2.1"]);
        assert_eq!(hosts("192.0.2.1:5432", "b"), ["b.corp"]);
        assert_eq!(hosts("192.0.2.1:5433", "a"), [""; 0]);
    }

    #[test]
    fn one_service_needs_no_name() {
        let one = at_one_address(&[("a", "a.corp"), ("a", "192.0.2.1")]);
        assert_eq!(service(&one, None), Some("a"));
        assert_eq!(service(&one, Some("elsewhere")), Some("a"));
    }
}
