//! TLS towards upstreams: whom to believe, what to show, and what a login is bound to.
//!
//! The peer must prove the name that the policy gives. Where the policy names a client
//! certificate, it is shown to that service's servers and nobody else.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ring::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::TlsConnector;
use x509_parser::oid_registry as oid;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::AlgorithmIdentifier;

use super::stream::Stream;
use super::upstream::{DialError, patient};
use crate::policy::{ClientCert, Permit, Service, Tls};
use crate::protocol::Binding;
use crate::roots::{Roots, RootsError};
use crate::types::Secret;
use crate::vault::Vault;

/// TLS client settings by authority file, none for the system's trust store.
#[derive(Default)]
pub(super) struct TlsClients {
    roots: Mutex<HashMap<Option<PathBuf>, Arc<Roots>>>,
}

impl TlsClients {
    /// Turns a plain connection to TLS and verifies that the peer is `host` (RFC 6125).
    pub(super) async fn secure(
        &self,
        vault: &Vault,
        permit: &Permit,
        service: &Service,
        host: &str,
        stream: Stream,
    ) -> Result<Stream, DialError> {
        let failed = |source| DialError::Tls {
            host: host.to_owned(),
            source,
        };
        let (Stream::Plain(stream), Tls::VerifyFull { ca }) = (stream, &service.tls) else {
            return Err(failed(std::io::ErrorKind::InvalidInput.into()));
        };
        let mut config = self.config(ca.as_deref())?;
        if let Some(client_cert) = &service.client_cert {
            let key = vault.key(permit, &client_cert.key)?;
            config = Arc::new(showing(&config, client_cert, &key)?);
        }
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| {
            failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, error))
        })?;
        let secured = patient(TlsConnector::from(config).connect(name, stream)).await;
        secured
            .map(|stream| Stream::Tls(Box::new(stream)))
            .map_err(failed)
    }

    fn config(&self, authorities: Option<&Path>) -> Result<Arc<ClientConfig>, RootsError> {
        let file = authorities.map(Path::to_owned);
        let roots = {
            let mut known = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
            let roots = known.entry(file.clone());
            Arc::clone(roots.or_insert_with(|| Arc::new(Roots::new(file))))
        };
        roots.config()
    }
}

/// The same settings with our certificate. Read anew for each connection, as a credential
/// is: one that has been renewed counts at once.
fn showing(
    config: &ClientConfig,
    client_cert: &ClientCert,
    key: &Secret,
) -> Result<ClientConfig, DialError> {
    let failed = |problem: String| DialError::ClientCert {
        chain: client_cert.chain.clone(),
        problem,
    };
    let chain = CertificateDer::pem_file_iter(&client_cert.chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(error.to_string()))?;
    if chain.is_empty() {
        return Err(failed("there is no certificate in it".into()));
    }
    // What is wrong with the key might repeat a part of it.
    let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| {
        failed("`client_key` is no private key in PEM form, or has a passphrase".into())
    })?;
    let pair = CertifiedKey::from_der(chain, key, config.crypto_provider());
    let pair = pair.map_err(|error| failed(format!("with `client_key`: {error}")))?;
    let mut config = config.clone();
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(pair));
    // A session that another service's certificate began must not be gone on with.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// What a login on this connection can be bound to; none without TLS.
pub(super) fn binding(stream: &Stream) -> Option<Binding> {
    let Stream::Tls(stream) = stream else {
        return None;
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let end_point = chain.first().and_then(|certificate| end_point(certificate));
    Some(end_point.map_or(Binding::Undefined, Binding::EndPoint))
}

/// `tls-server-end-point` (RFC 5929, section 4.1).
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let hash = hash(&parsed.signature_algorithm)?;
    Some(digest(hash, certificate).as_ref().to_vec())
}

/// The hash of a certificate's signature; SHA-256 in place of MD5 and SHA-1.
fn hash(signature: &AlgorithmIdentifier<'_>) -> Option<&'static Algorithm> {
    let algorithm = &signature.algorithm;
    if *algorithm == oid::OID_PKCS1_RSASSAPSS {
        let parameters = RsaSsaPssParams::try_from(signature.parameters.as_ref()?).ok()?;
        let named = parameters.hash_algorithm_oid();
        let known = [
            (oid::OID_HASH_SHA1, &SHA256),
            (oid::OID_NIST_HASH_SHA256, &SHA256),
            (oid::OID_NIST_HASH_SHA384, &SHA384),
            (oid::OID_NIST_HASH_SHA512, &SHA512),
        ];
        let mut known = known.into_iter();
        return known.find(|(oid, _)| oid == named).map(|(_, hash)| hash);
    }
    let known = [
        (oid::OID_PKCS1_MD5WITHRSAENC, &SHA256),
        (oid::OID_PKCS1_SHA1WITHRSA, &SHA256),
        (oid::OID_PKCS1_SHA256WITHRSA, &SHA256),
        (oid::OID_PKCS1_SHA384WITHRSA, &SHA384),
        (oid::OID_PKCS1_SHA512WITHRSA, &SHA512),
        (oid::OID_SIG_ECDSA_WITH_SHA256, &SHA256),
        (oid::OID_SIG_ECDSA_WITH_SHA384, &SHA384),
        (oid::OID_SIG_ECDSA_WITH_SHA512, &SHA512),
    ];
    let mut known = known.into_iter();
    known
        .find(|(oid, _)| oid == algorithm)
        .map(|(_, hash)| hash)
}

#[cfg(test)]
#[path = "upstream_tls_tests.rs"]
mod tests;
