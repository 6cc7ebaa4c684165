//! One certificate of the gate's end of TLS, with a key of its own.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::NoServerSessionStorage;

use super::{AuthorityError, Leaf, Purpose};

/// How long a certificate lives.
const LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// A clock that was just corrected must not make a new certificate one of the future.
const SKEW: Duration = Duration::from_secs(60 * 60);
/// The longest common name (RFC 5280, appendix A.1).
const LONGEST_COMMON_NAME: usize = 64;

/// Signs a fresh key for these names.
pub(super) fn issue(
    issuer: &Issuer<'static, KeyPair>,
    (hosts, protocol): &Purpose,
    authority_ends: SystemTime,
    now: SystemTime,
) -> Result<Leaf, AuthorityError> {
    let failed = |problem: String| AuthorityError::Sign {
        names: hosts.join(", "),
        problem,
    };
    let (begins, ends) = (now - SKEW, (now + LIFE).min(authority_ends));
    let mut params = params(hosts).map_err(|error| failed(error.to_string()))?;
    params.not_before = begins.into();
    params.not_after = ends.into();
    let sign = || {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, issuer)?;
        Ok((certificate, key))
    };
    let (certificate, key) = sign().map_err(|error: rcgen::Error| failed(error.to_string()))?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key);
    let mut config = config.map_err(|error| failed(error.to_string()))?;
    config.alpn_protocols = vec![protocol.to_vec()];
    // As the server: each connection stands for itself, and leaves nothing behind here.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Leaf {
        config: Arc::new(config),
        begins,
        ends,
    })
}

fn params(hosts: &[Arc<str>]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // For clients that know of addresses in this place only (libpq before 15).
    if let Some(first) = hosts.first().filter(|it| it.len() <= LONGEST_COMMON_NAME) {
        params
            .distinguished_name
            .push(DnType::CommonName, first.as_ref());
    }
    for host in hosts {
        params.subject_alt_names.push(match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(host.as_ref().try_into()?),
        });
    }
    params.serial_number = Some(serial());
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// Unpredictable, positive and of one length (RFC 5280, 4.1.2.2).
pub(super) fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    let [first, ..] = &mut bytes;
    *first = (*first & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}
