//! What a session may learn: the addresses of its services' hosts, and nothing else.
//!
//! Pure. A name that another session may use does not exist for this one. Absent on
//! purpose: any way to ask another server.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::RecordType;

use super::wire::Question;
use crate::types::ServiceName;

/// A host that the policy names, as last resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// The services that are there.
    pub services: Vec<ServiceName>,
    /// Its addresses; none if it can't be resolved.
    pub addresses: Vec<IpAddr>,
}

/// All hosts that the policy calls by name, in lower case without a last dot.
#[derive(Debug, Clone, Default)]
pub struct Zone {
    hosts: HashMap<Arc<str>, Host>,
}

impl Zone {
    /// Adds a host of a service, and the addresses that it has.
    pub fn add(
        &mut self,
        host: &Arc<str>,
        service: &ServiceName,
        addresses: impl Iterator<Item = IpAddr>,
    ) {
        let found = self.hosts.entry(Arc::clone(host)).or_default();
        if !found.services.contains(service) {
            found.services.push(service.clone());
        }
        for address in addresses.map(|address| address.to_canonical()) {
            if !found.addresses.contains(&address) {
                found.addresses.push(address);
            }
        }
    }
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The addresses of the type that was asked for.
    Addresses(Vec<IpAddr>),
    /// The host at an address.
    Host(Arc<str>),
    /// The name is there, what was asked for is not.
    NoData,
    /// No such name.
    NoName,
    /// The daemon can't resolve the name at the moment.
    Unresolved,
    /// Not a question that is answered here.
    Refused,
}

/// Answers for a session that may use the services that `may` says; also gives the host
/// that it is about.
pub(super) fn answer(
    zone: &Zone,
    may: impl Fn(&ServiceName) -> bool,
    question: &Question,
) -> (Answer, Option<Arc<str>>) {
    let is_open = |host: &Host| host.services.iter().any(&may);
    if !question.is_internet() || matches!(question.kind(), RecordType::AXFR | RecordType::IXFR) {
        return (Answer::Refused, None);
    }
    if let Some(address) = question.reverse() {
        let mut here: Vec<&Arc<str>> = zone
            .hosts
            .iter()
            .filter(|(_, host)| host.addresses.contains(&address) && is_open(host))
            .map(|(name, _)| name)
            .collect();
        here.sort();
        return match here.first() {
            Some(name) if question.kind() == RecordType::PTR => {
                (Answer::Host(Arc::clone(name)), None)
            }
            Some(_) => (Answer::NoData, None),
            None => (Answer::NoName, None),
        };
    }
    let found = zone.hosts.get_key_value(question.host().as_str());
    let Some((name, host)) = found.filter(|(_, host)| is_open(host)) else {
        return (Answer::NoName, None);
    };
    if host.addresses.is_empty() {
        return (Answer::Unresolved, None);
    }
    let wanted = |address: &IpAddr| match question.kind() {
        RecordType::A => address.is_ipv4(),
        RecordType::AAAA => address.is_ipv6(),
        _ => false,
    };
    let addresses: Vec<IpAddr> = host.addresses.iter().copied().filter(wanted).collect();
    if addresses.is_empty() {
        return (Answer::NoData, None);
    }
    (Answer::Addresses(addresses), Some(Arc::clone(name)))
}
