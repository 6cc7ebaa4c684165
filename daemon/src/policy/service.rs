//! A named backend: where it is, and how the gate presents itself there.
//!
//! The values are checked when the policy loads, so that a connection never finds a
//! service that it can't use. Absent on purpose: the secret itself; name resolution.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::credential::CredentialRef;
use crate::types::ServiceName;

/// The protocol that a service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proto {
    /// PostgreSQL frontend/backend protocol 3.
    Postgres,
}

/// An address that agents connect to when they mean the service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    /// A name in lower case, or an IP address (IPv4-mapped IPv6 is written as IPv4).
    pub host: Arc<str>,
    /// TCP port, never 0.
    pub port: u16,
}

impl Destination {
    /// The host, where it is an IP address and not a name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Reads `host:port` or `[ipv6]:port`; the error says what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (host, port) = text.rsplit_once(':').ok_or("no port")?;
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let port = match port.parse() {
            Ok(port) if digits && port != 0 => port,
            _ => return Err("the port is no number from 1 to 65535"),
        };
        let host = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
            Some(bracketed) => bracketed
                .and_then(|inside| inside.parse::<IpAddr>().ok())
                .filter(IpAddr::is_ipv6)
                .ok_or("the text in brackets is no IPv6 address")?
                .to_canonical()
                .to_string(),
            None => plain_host(host)?,
        };
        Ok(Self {
            host: host.into(),
            port,
        })
    }
}

fn plain_host(host: &str) -> Result<String, &'static str> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return match ip {
            IpAddr::V4(ip) => Ok(ip.to_string()),
            IpAddr::V6(_) => Err("an IPv6 address stands in brackets"),
        };
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return Err("the host is no name and no address");
    }
    // 10.0.0, 0x7f.1 and 010.0.0.1 are addresses to some resolvers and names to others.
    if host
        .rsplit('.')
        .next()
        .is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit()))
    {
        return Err("the host is neither an address in full nor a name");
    }
    Ok(host.to_ascii_lowercase())
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Encryption towards the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// None at all.
    Disable,
    /// TLS, with the certificate checked against the host's name.
    VerifyFull {
        /// PEM file of the authorities to trust; the system's when there is none.
        ca: Option<PathBuf>,
    },
}

/// A way in which the gate may log in at an upstream (PostgreSQL's own words).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// SCRAM bound to the TLS connection, and nothing less.
    ScramSha256Plus,
    /// SCRAM, bound where the connection is TLS and the server offers it.
    ScramSha256,
    /// A hash that whoever sees it can try passwords against; the server proves nothing.
    Md5,
    /// The password as it is, over TLS.
    Password,
    /// The password as it is, over anything.
    PasswordUnencrypted,
    /// The client certificate alone.
    Cert,
}

/// The certificate that the gate shows to an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCert {
    /// PEM file of the certificate, and of those between it and the authority.
    pub chain: PathBuf,
    /// Where its private key is: a file of PEM, or one of the service manager's.
    pub key: CredentialRef,
}

/// A named backend of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name in rules and records.
    pub name: ServiceName,
    /// What it speaks.
    pub proto: Proto,
    /// Where agents find it, and where the gate dials it; at least one.
    pub at: Vec<Destination>,
    /// Encryption towards it.
    pub tls: Tls,
    /// The user that the gate logs in as.
    pub user: String,
    /// That user's credential; none where the client certificate is all that is shown.
    pub credential: Option<CredentialRef>,
    /// Further users, with their credentials: an agent that names one at start-up is it,
    /// if a rule lets it take on that role.
    pub users: BTreeMap<String, CredentialRef>,
    /// The gate's own certificate towards it.
    pub client_cert: Option<ClientCert>,
    /// How the gate may log in there; at least one.
    pub auth: Vec<Auth>,
    /// The databases that an agent may open; empty means whichever the user may.
    pub databases: Vec<String>,
    /// The schemas that a name without one is looked up in, in order; the gate sets them.
    /// None: the server's own, so that the gate knows no such name but the catalog's.
    pub search_path: Option<Vec<String>>,
}

impl Service {
    /// The credential of the user that the gate logs in as: one of `users`, or else `user`.
    pub fn credential_of(&self, user: &str) -> Option<&CredentialRef> {
        self.users.get(user).or(self.credential.as_ref())
    }

    /// Where its secrets are: the credentials, the key of the client certificate.
    pub fn secrets(&self) -> impl Iterator<Item = &CredentialRef> {
        let key = self.client_cert.as_ref().map(|cert| &cert.key);
        self.credential.iter().chain(self.users.values()).chain(key)
    }

    /// Whether an agent may open this database.
    pub fn has_database(&self, name: &str) -> bool {
        self.databases.is_empty() || self.databases.iter().any(|known| known == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_have_one_spelling() {
        for (text, host, port) in [
            ("DB.Corp.:5432", "db.corp", 5432),
            ("127.0.0.1:1", "127.0.0.1", 1),
            ("[::1]:65535", "::1", 65535),
            ("[0:0::1]:5432", "::1", 5432),
            ("[::ffff:10.0.0.1]:5432", "10.0.0.1", 5432),
        ] {
            let read = Destination::parse(text).expect(text);
            assert_eq!((&*read.host, read.port), (host, port), "{text}");
        }
    }

    #[test]
    fn half_addresses_are_refused() {
        for text in [
            "db",
            "db:",
            "db:0",
            "db:65536",
            "db:+1",
            "db:-1",
            ":5432",
            "::1:5432",
            "[::1:5432",
            "[10.0.0.1]:1",
            "a b:1",
            "-a:1",
            "a..b:1",
            "10.0.0:5432",
            "010.0.0.1:5432",
            "http://x:1",
            "db/x:1",
            "[::1]x:1",
        ] {
            assert!(Destination::parse(text).is_err(), "{text}");
        }
    }
}
