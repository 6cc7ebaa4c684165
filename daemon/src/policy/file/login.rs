//! How the gate logs in at a service: `auth`, `credential`, `client_cert`, `client_key`.
//!
//! Invariant: what is read here can be used together. A key or a method that could never
//! count is an error, and so is one that would need what is not there.

use std::path::PathBuf;

use super::credential;
use super::reader::{Fields, Reader};
use super::tree::Node;
use crate::policy::credential::CredentialRef;
use crate::policy::problem::{At, Spot, suggest};
use crate::policy::service::{Auth, ClientCert, Tls};

/// The part of a service that is about logging in.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) credential: Option<CredentialRef>,
    pub(super) client_cert: Option<ClientCert>,
    pub(super) auth: Vec<Auth>,
}

/// The words of `auth`.
const METHODS: &[(&str, Auth)] = &[
    ("scram-sha-256", Auth::ScramSha256),
    ("scram-sha-256-plus", Auth::ScramSha256Plus),
    ("md5", Auth::Md5),
    ("password", Auth::Password),
    ("password-unencrypted", Auth::PasswordUnencrypted),
    ("cert", Auth::Cert),
];

/// Methods of pg_hba.conf that are no way in for the gate.
const NOT_OFFERED: &[&str] = &[
    "trust", "gss", "sspi", "ident", "peer", "ldap", "radius", "pam", "bsd", "oauth",
];

/// `tls` is none where it is wrong itself.
pub(super) fn read(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    tls: Option<&Tls>,
) -> Option<Login> {
    let encrypted = tls.is_none_or(|tls| *tls != Tls::Disable);
    let auth = methods(reader, fields, encrypted);
    let client_cert = client_cert(reader, fields, encrypted);
    let only_cert = auth.as_deref().map(|auth| auth == [Auth::Cert]);
    let credential = secret(reader, fields, only_cert);
    let (auth, client_cert) = (auth?, client_cert?);
    if auth.contains(&Auth::Cert) && client_cert.is_none() {
        let spot = fields.optional("auth").map(|node| reader.spot(node));
        let help = "say `client_cert:` and `client_key:`";
        let message = "`auth` lists `cert`, and the service has no `client_cert`";
        reader.found.error(spot?, message, Some(help.into()));
        return None;
    }
    Some(Login {
        credential: credential?,
        client_cert,
        auth,
    })
}

fn methods(reader: &mut Reader<'_>, fields: &Fields<'_>, encrypted: bool) -> Option<Vec<Auth>> {
    let Some(node) = fields.optional("auth") else {
        return Some(vec![Auth::ScramSha256]);
    };
    let words = reader.texts(node, "`auth`")?;
    let read: Vec<_> = words
        .iter()
        .map(|word| method(reader, word, encrypted))
        .collect();
    let mut auth = Vec::new();
    for (method, word) in read.into_iter().zip(words) {
        let method = method?;
        if auth.contains(&method) {
            let message = format!("`{}` is there twice in `auth`", word.value);
            reader.found.error(word.spot, message, None);
            return None;
        }
        auth.push(method);
    }
    Some(auth)
}

fn method(reader: &mut Reader<'_>, word: &At<String>, encrypted: bool) -> Option<Auth> {
    let text = word.value.as_str();
    let Some((_, method)) = METHODS.iter().find(|(name, _)| *name == text) else {
        let names: Vec<_> = METHODS.iter().map(|(name, _)| *name).collect();
        let (message, help) = match NOT_OFFERED.contains(&text) {
            true => (
                format!("`auth: [{text}]` is not offered"),
                format!("the gate logs in by {}", names.join(", ")),
            ),
            false => (
                format!("unknown method `{}` of `auth`", text.escape_debug()),
                suggest(text, "methods", &names),
            ),
        };
        reader.found.error(word.spot, message, Some(help));
        return None;
    };
    let help = match method {
        _ if encrypted => return Some(*method),
        Auth::ScramSha256Plus => "there is no TLS that SCRAM could be bound to",
        Auth::Cert => "without TLS no certificate is shown",
        Auth::Password => {
            "the password would go out unencrypted: use TLS, or say `password-unencrypted`"
        }
        Auth::ScramSha256 | Auth::Md5 | Auth::PasswordUnencrypted => return Some(*method),
    };
    let message = format!("`auth: [{text}]` does not go with `tls: disable`");
    reader.found.error(word.spot, message, Some(help.into()));
    None
}

fn client_cert(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    encrypted: bool,
) -> Option<Option<ClientCert>> {
    let (chain, key) = match (
        fields.optional("client_cert"),
        fields.optional("client_key"),
    ) {
        (None, None) => return Some(None),
        (Some(chain), Some(key)) => (chain, key),
        (chain, key) => {
            let message = "`client_cert` and `client_key` belong together";
            let spot = chain.or(key).map(|node| reader.spot(node));
            reader.found.error(spot?, message, None);
            return None;
        }
    };
    if !encrypted {
        let spot = reader.spot(chain);
        let message = "`client_cert` has no use with `tls: disable`";
        reader.found.error(spot, message, None);
        return None;
    }
    let (chain, key) = (chain_file(reader, chain), key_place(reader, key));
    Some(Some(ClientCert {
        chain: chain?,
        key: key?,
    }))
}

fn chain_file(reader: &mut Reader<'_>, node: &Node) -> Option<PathBuf> {
    let path = reader.text(node, "`client_cert`")?;
    if !path.value.starts_with('/') {
        let message = "the path of `client_cert` is not absolute";
        reader.found.error(path.spot, message, None);
        return None;
    }
    Some(path.value.into())
}

fn key_place(reader: &mut Reader<'_>, node: &Node) -> Option<CredentialRef> {
    let key = credential::line(reader, node, "`client_key`")?;
    if matches!(key, CredentialRef::File(_) | CredentialRef::Systemd(_)) {
        return Some(key);
    }
    let spot = reader.spot(node);
    let help = "write client_key: file:/path/of/the/key.pem or client_key: systemd:NAME";
    let message = "a private key has several lines, and is kept in a file";
    reader.found.error(spot, message, Some(help.into()));
    None
}

/// `only_cert` is none where `auth` is wrong itself.
fn secret(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    only_cert: Option<bool>,
) -> Option<Option<CredentialRef>> {
    let node = match (fields.optional("credential"), only_cert) {
        (None, Some(true)) => return Some(None),
        (Some(node), Some(true)) => {
            let spot: Spot = reader.spot(node);
            let message = "`credential` has no use with `auth: [cert]`";
            reader.found.error(spot, message, None);
            return None;
        }
        _ => reader.required(fields, "credential")?,
    };
    credential::read(reader, node).map(Some)
}
