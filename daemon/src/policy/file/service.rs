//! An entry of `services:`.

use std::collections::BTreeMap;

use super::credential;
use super::login::{self, Login};
use super::reader::{Fields, Reader, Shape};
use super::tree::{Node, Value};
use crate::policy::credential::CredentialRef;
use crate::policy::problem::{At, Spot, suggest};
use crate::policy::service::{Auth, Destination, Proto, Service, Tls};
use crate::types::ServiceName;

/// A service and the places that other services may clash with.
#[derive(Debug)]
pub(in crate::policy) struct ServiceSpec {
    pub(in crate::policy) spot: Spot,
    pub(in crate::policy) service: Service,
    /// The places of the service's destinations, in their order.
    pub(in crate::policy) at: Vec<Spot>,
}

const SERVICE: Shape = Shape {
    what: "a service",
    known: &[
        "proto",
        "at",
        "tls",
        "ca",
        "user",
        "credential",
        "users",
        "auth",
        "client_cert",
        "client_key",
        "database",
        "databases",
        "search_path",
    ],
    later: &["host_key", "approval", "mode"],
};

/// Protocols of the design that this version does not speak.
const LATER_PROTOS: &[&str] = &[
    "ssh",
    "http",
    "https",
    "kubernetes",
    "mcp",
    "mysql",
    "redis",
];

/// The longest identifier of PostgreSQL in bytes (NAMEDATALEN - 1).
const LONGEST_IDENTIFIER: usize = 63;

pub(super) fn read(reader: &mut Reader<'_>, name: At<&str>, node: &Node) -> Option<ServiceSpec> {
    let name = reader.name(name, "the name of a service");
    let fields = reader.fields(node, &SERVICE)?;
    let proto = reader
        .required(&fields, "proto")
        .and_then(|node| proto(reader, node));
    let at = reader
        .required(&fields, "at")
        .and_then(|node| destinations(reader, node));
    let tls = tls(reader, &fields);
    let user = reader
        .required(&fields, "user")
        .and_then(|node| identifier(reader, node, "`user`"));
    let login = login::read(reader, &fields, tls.as_ref());
    let own = user.as_ref().map(|user| user.value.as_str());
    let users = users(reader, &fields, own, login.as_ref());
    let databases = databases(reader, &fields);
    let search_path = search_path(reader, &fields);
    let (at, tls) = (at?, tls?);
    warn_of_plain_text(reader, &at, &tls);
    let (name, login) = (name?, login?);
    let Login {
        credential,
        client_cert,
        auth,
    } = login;
    let (at, spots) = at.into_iter().map(|at| (at.value, at.spot)).unzip();
    let service = Service {
        name: ServiceName::from(name.value.as_str()),
        proto: proto?,
        at,
        tls,
        user: user?.value,
        credential,
        client_cert,
        auth,
        users: users?,
        databases: databases?,
        search_path: search_path?,
    };
    Some(ServiceSpec {
        spot: name.spot,
        service,
        at: spots,
    })
}

fn proto(reader: &mut Reader<'_>, node: &Node) -> Option<Proto> {
    let text = reader.text(node, "`proto`")?;
    match text.value.as_str() {
        "postgres" => return Some(Proto::Postgres),
        later if LATER_PROTOS.contains(&later) => {
            let message = format!("`proto: {later}` is not supported by this version");
            let help = "this version speaks `postgres`";
            reader.found.error(text.spot, message, Some(help.into()));
        }
        other => {
            let message = format!("unknown protocol `{other}`");
            let help = match other {
                "postgresql" | "pg" | "psql" => "did you mean `postgres`?".into(),
                other => suggest(other, "protocols", &["postgres"]),
            };
            reader.found.error(text.spot, message, Some(help));
        }
    }
    None
}

fn destinations(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<At<Destination>>> {
    let texts = reader.texts(node, "`at`")?;
    let read: Vec<_> = texts
        .into_iter()
        .map(|text| match Destination::parse(&text.value) {
            Ok(value) => Some(At {
                value,
                spot: text.spot,
            }),
            Err(what) => {
                let message = format!("`{}` is no destination: {what}", text.value);
                let help = "write host:port, 192.0.2.1:5432 or '[2001:db8::1]:5432'";
                reader.found.error(text.spot, message, Some(help.into()));
                None
            }
        })
        .collect();
    read.into_iter().collect()
}

fn tls(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Tls> {
    let ca = match fields.optional("ca") {
        Some(node) => {
            let path = reader.text(node, "`ca`")?;
            if !path.value.starts_with('/') {
                reader
                    .found
                    .error(path.spot, "the path of `ca` is not absolute", None);
                return None;
            }
            Some(path)
        }
        None => None,
    };
    let Some(node) = fields.optional("tls") else {
        return Some(Tls::VerifyFull {
            ca: ca.map(|path| path.value.into()),
        });
    };
    let text = reader.text(node, "`tls`")?;
    match (text.value.as_str(), ca) {
        ("verify-full", ca) => Some(Tls::VerifyFull {
            ca: ca.map(|path| path.value.into()),
        }),
        ("disable", None) => Some(Tls::Disable),
        ("disable", Some(ca)) => {
            reader
                .found
                .error(ca.spot, "`ca` has no use with `tls: disable`", None);
            None
        }
        (other @ ("allow" | "prefer" | "require" | "verify-ca"), _) => {
            let message = format!("`tls: {other}` is not offered");
            let help = "it does not prove who answers: use verify-full, with `ca:` for an \
                        authority of your own";
            reader.found.error(text.spot, message, Some(help.into()));
            None
        }
        (other, _) => {
            let message = format!("unknown `tls: {}`", other.escape_debug());
            let help = suggest(other, "values", &["verify-full", "disable"]);
            reader.found.error(text.spot, message, Some(help));
            None
        }
    }
}

/// Rows in clear text are worth a word when they leave the host.
fn warn_of_plain_text(reader: &mut Reader<'_>, at: &[At<Destination>], tls: &Tls) {
    if *tls != Tls::Disable {
        return;
    }
    for at in at {
        let local = at
            .value
            .ip()
            .map_or(&*at.value.host == "localhost", |ip| ip.is_loopback());
        if !local {
            let message = format!("rows go to and from {} unencrypted", at.value);
            let help = "tls: verify-full, or a destination on this host";
            reader.found.warn(at.spot, message, Some(help.into()));
        }
    }
}

/// Further users than `user`, each with its credential.
fn users(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    user: Option<&str>,
    login: Option<&Login>,
) -> Option<BTreeMap<String, CredentialRef>> {
    let mut users = Some(BTreeMap::new());
    for (name, node) in reader.entries_of(fields, "users") {
        if Some(name.value) == user {
            let message = format!("`{}` is the service's own `user`", name.value);
            let help = "its credential is the service's `credential`";
            reader.found.error(name.spot, message, Some(help.into()));
            users = None;
        }
        if login.is_some_and(|login| login.auth == [Auth::Cert]) {
            let message = "with `auth: [cert]` no credential of `users` is ever asked for";
            reader.found.error(name.spot, message, None);
            users = None;
        }
        let fits = (1..=LONGEST_IDENTIFIER).contains(&name.value.len());
        if !fits {
            let message = format!("a user's name has 1 to {LONGEST_IDENTIFIER} bytes");
            reader.found.error(name.spot, message, None);
        }
        match (fits, credential::read(reader, node), &mut users) {
            (true, Some(credential), Some(users)) => {
                users.insert(name.value.to_owned(), credential);
            }
            _ => users = None,
        }
    }
    users
}

fn databases(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Vec<String>> {
    match (fields.optional("database"), fields.optional("databases")) {
        (None, None) => Some(Vec::new()),
        (Some(one), None) => Some(vec![identifier(reader, one, "`database`")?.value]),
        (None, Some(several)) => identifiers(reader, several, "`databases`"),
        (Some(_), Some(several)) => {
            let spot = reader.spot(several);
            reader
                .found
                .error(spot, "a service with both `database` and `databases`", None);
            None
        }
    }
}

/// The word instead of a list: the gate sets nothing.
const SERVERS_OWN: &str = "server";

fn search_path(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Option<Vec<String>>> {
    let Some(node) = fields.optional("search_path") else {
        return Some(Some(vec!["public".into()]));
    };
    if matches!(&node.value, Value::Text(text) if text == SERVERS_OWN) {
        return Some(None);
    }
    let names = reader.list(node, "`search_path`")?;
    let names: Vec<_> = names
        .iter()
        .map(|name| identifier(reader, name, "`search_path`"))
        .collect();
    let mut path = Vec::new();
    for name in names {
        let name = name?;
        if name.value == "$user" || name.value.starts_with("pg_") {
            let message = format!("`{}` can't stand in `search_path`", name.value);
            let help = "list the schemas of tables; pg_catalog is always searched first, and \
                        temporary tables never";
            reader.found.error(name.spot, message, Some(help.into()));
            return None;
        }
        path.push(name.value);
    }
    Some(Some(path))
}

fn identifiers(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Vec<String>> {
    let items = reader.list(node, what)?;
    let names: Vec<_> = items
        .iter()
        .map(|item| identifier(reader, item, what).map(|name| name.value))
        .collect();
    names.into_iter().collect()
}

fn identifier(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<At<String>> {
    let text = reader.text(node, what)?;
    if text.value.len() > LONGEST_IDENTIFIER {
        let message = format!("{what} is longer than {LONGEST_IDENTIFIER} bytes");
        reader.found.error(
            text.spot,
            message,
            Some("PostgreSQL would cut it off".into()),
        );
        return None;
    }
    Some(text)
}
