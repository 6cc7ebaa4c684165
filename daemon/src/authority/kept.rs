//! The authority as it is kept: key and certificate in one file, so that they always fit.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::leaf::serial;
use super::{AuthorityError, file};
use crate::types::Secret;

const NAME: &str = "authority.pem";
/// There while the one that is there may be somebody else's.
const MARK: &str = "authority.pem.doubted";
/// Ten years: who trusts it does so by hand.
const LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
const SKEW: Duration = Duration::from_secs(24 * 60 * 60);

/// The authority as it is kept.
pub struct Kept {
    path: PathBuf,
    key: KeyPair,
    certificate: CertificateDer<'static>,
    facts: Facts,
}

/// What its certificate says.
struct Facts {
    subject: String,
    ends: SystemTime,
}

impl Kept {
    /// Reads the one in this directory.
    ///
    /// # Errors
    /// There is none, or it is not to be trusted.
    pub fn load(directory: &Path) -> Result<Self, AuthorityError> {
        let path = directory.join(NAME);
        file::check_directory(directory)?;
        let text = file::read(&path)?;
        let mark = directory.join(MARK);
        if is_there(&mark) {
            return Err(AuthorityError::Doubted { path, mark });
        }
        let content = |problem: &str| AuthorityError::Content {
            path: path.clone(),
            problem: problem.to_owned(),
        };
        let bytes = text.expose();
        let key = PrivateKeyDer::from_pem_slice(bytes).map_err(|_| content("no private key"))?;
        let key = KeyPair::try_from(&key).map_err(|_| content("not a private key of ours"))?;
        let certificate =
            CertificateDer::from_pem_slice(bytes).map_err(|_| content("no certificate"))?;
        let facts = check(&certificate, &key).map_err(content)?;
        if facts.ends <= SystemTime::now() {
            return Err(content("the certificate has ended"));
        }
        Ok(Self {
            path,
            key,
            certificate,
            facts,
        })
    }

    /// Whether something is in the place of one.
    pub fn is_there(directory: &Path) -> bool {
        is_there(&directory.join(NAME))
    }

    /// Makes its directory, if it is not there.
    ///
    /// # Errors
    /// It can't be made, or others can write to it.
    pub fn make_directory(directory: &Path) -> Result<(), AuthorityError> {
        file::make_directory(directory)
    }

    /// Says of the one that is there that it may be somebody else's: nobody takes it until
    /// it has gone, or somebody says otherwise by removing the mark.
    ///
    /// # Errors
    /// The mark can't be written.
    pub fn doubt(directory: &Path) -> Result<(), AuthorityError> {
        file::mark(&directory.join(MARK))
    }

    /// The same as [`Self::load`], and a new one where there is none.
    ///
    /// # Errors
    /// The one that is there is not to be trusted, or none can be made.
    pub fn load_or_make(directory: &Path) -> Result<Self, AuthorityError> {
        match Self::load(directory) {
            Err(AuthorityError::None(_)) => {}
            result => return result,
        }
        // Two that start at once: the second takes what the first has made.
        place_new(directory)?;
        Self::load(directory)
    }

    /// A new one in a directory that nobody else reaches any more, and that has none.
    ///
    /// # Errors
    /// None can be made; there is one all the same, which is doubted from now on.
    pub(super) fn make(directory: &Path) -> Result<Self, AuthorityError> {
        file::sweep(directory, &format!(".{NAME}."))?;
        if !place_new(directory)? {
            Self::doubt(directory)?;
        }
        Self::load(directory)
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        let block = pem::Pem::new("CERTIFICATE", self.certificate.as_ref());
        pem::encode_config(&block, lines)
    }

    /// Its file, whose it is, until when, and the certificate's SHA-256, for people.
    pub fn describe(&self) -> String {
        let ends = jiff::Timestamp::try_from(self.facts.ends);
        let ends = ends.map(|ends| ends.strftime("%Y-%m-%d").to_string());
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.certificate);
        let digest: Vec<String> = digest.as_ref().iter().map(|b| format!("{b:02X}")).collect();
        format!(
            "subject  {}\nends     {}\nsha256   {}\nfile     {}",
            self.facts.subject,
            ends.unwrap_or_default(),
            digest.join(":"),
            self.path.display()
        )
    }

    pub(super) fn ends(&self) -> SystemTime {
        self.facts.ends
    }

    pub(super) fn into_issuer(self) -> Result<Issuer<'static, KeyPair>, AuthorityError> {
        let problem = |error: rcgen::Error| AuthorityError::Content {
            path: self.path,
            problem: error.to_string(),
        };
        Issuer::from_ca_cert_der(&self.certificate, self.key).map_err(problem)
    }
}

/// Whether the one that is there now is a new one.
fn place_new(directory: &Path) -> Result<bool, AuthorityError> {
    let text = make().map_err(|error| AuthorityError::Sign {
        names: "itself".into(),
        problem: error.to_string(),
    })?;
    // It was said of another.
    file::remove(&directory.join(MARK))?;
    file::place(&directory.join(NAME), &text)
}

fn is_there(path: &Path) -> bool {
    !path
        .symlink_metadata()
        .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// A new key, and its certificate for itself.
fn make() -> Result<Secret, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let host = nix::unistd::gethostname().unwrap_or_default();
    let name: String = format!("Portcullis on {}", host.to_string_lossy())
        .chars()
        .take(64)
        .collect();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(serial());
    // It signs what agents see, and no further authorities.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let now = SystemTime::now();
    params.not_before = (now - SKEW).into();
    params.not_after = (now + LIFE).into();
    let certificate = params.self_signed(&key)?;
    let mut text = key.serialize_pem();
    text.push_str(&certificate.pem());
    Ok(Secret::new(text))
}

/// Whether the certificate is one that can sign, and of this key.
fn check(certificate: &CertificateDer<'_>, key: &KeyPair) -> Result<Facts, &'static str> {
    let (_, read) =
        x509_parser::parse_x509_certificate(certificate).map_err(|_| "no readable certificate")?;
    if read.public_key().raw != rcgen::PublicKeyData::subject_public_key_info(key) {
        return Err("the certificate is not of this key");
    }
    let signs = read
        .key_usage()
        .ok()
        .flatten()
        .is_some_and(|usage| usage.value.key_cert_sign());
    if !read.is_ca() || !signs {
        return Err("the certificate is not an authority's");
    }
    let ends = u64::try_from(read.validity().not_after.timestamp());
    let ends = ends.map_err(|_| "the certificate has ended")?;
    Ok(Facts {
        subject: read.subject().to_string(),
        ends: SystemTime::UNIX_EPOCH + Duration::from_secs(ends),
    })
}
