//! An issuer's keys (RFC 7517, RFC 7518 section 6, RFC 8037), and a signature's proof.
//!
//! A key serves for the algorithms of its own type only, whatever a token says: an RSA key
//! for RS*, a P-256 key for ES256. What can't be used is left out, since issuers publish
//! keys for other ends beside those for tokens.

use std::collections::HashMap;

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{DecodingKey, DecodingKeyKind};
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::Value;

use super::json;
use super::refusal::TokenRefusal;
use super::settings::Algorithm;

/// The keys of one issuer by `kid`. A `kid` may come twice, for keys of different types
/// (RFC 7517, section 4.5).
#[derive(Debug, Default)]
pub(super) struct KeySet(HashMap<String, Vec<Key>>);

/// A public key.
#[derive(Debug)]
pub(super) struct Key {
    /// Which algorithms it may be used for.
    algorithms: Vec<Algorithm>,
    for_signatures: bool,
    key: DecodingKey,
}

impl KeySet {
    /// Reads a JWK set; the error says what is wrong with it as a whole.
    pub(super) fn parse(text: &[u8]) -> Result<Self, &'static str> {
        let mut set = json::object(text).map_err(|_| "the key set is not a JSON object")?;
        let Some(Value::Array(list)) = set.remove("keys") else {
            return Err("the key set has no list of `keys`");
        };
        let mut keys: HashMap<String, Vec<Key>> = HashMap::new();
        for (kid, key) in list.into_iter().filter_map(read) {
            keys.entry(kid).or_default().push(key);
        }
        Ok(Self(keys))
    }

    pub(super) fn has(&self, kid: &str) -> bool {
        self.0.contains_key(kid)
    }

    /// The keys of this id that may have made such a signature.
    pub(super) fn usable(
        &self,
        kid: &str,
        algorithm: Algorithm,
    ) -> Result<Vec<&Key>, TokenRefusal> {
        let keys = self.0.get(kid).ok_or(TokenRefusal::UnknownKey)?;
        let keys: Vec<_> = keys.iter().filter(|key| key.for_signatures).collect();
        if keys.is_empty() {
            return Err(TokenRefusal::KeyNotForSignatures);
        }
        let fits = |key: &&Key| key.algorithms.contains(&algorithm);
        let keys: Vec<_> = keys.into_iter().filter(fits).collect();
        if keys.is_empty() {
            return Err(TokenRefusal::OtherAlgorithm);
        }
        Ok(keys)
    }
}

/// None for a key without an id, or of a type that no signature here is made with.
fn read(value: Value) -> Option<(String, Key)> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let of_type: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512],
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => &[Algorithm::ES256],
            EllipticCurve::P384 => &[Algorithm::ES384],
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            &[Algorithm::EdDSA]
        }
        _ => return None,
    };
    let said = jwk.common.key_algorithm;
    let agrees = |algorithm: &&Algorithm| said.is_none_or(|said| said == named(**algorithm));
    let operations = jwk.common.key_operations.as_deref();
    let for_signatures = matches!(
        jwk.common.public_key_use,
        None | Some(PublicKeyUse::Signature)
    ) && operations.is_none_or(|all| all.contains(&KeyOperations::Verify));
    let key = Key {
        algorithms: of_type.iter().filter(agrees).copied().collect(),
        for_signatures,
        key: DecodingKey::from_jwk(&jwk).ok()?,
    };
    Some((jwk.common.key_id?, key))
}

fn named(algorithm: Algorithm) -> KeyAlgorithm {
    match algorithm {
        Algorithm::RS256 => KeyAlgorithm::RS256,
        Algorithm::RS384 => KeyAlgorithm::RS384,
        Algorithm::RS512 => KeyAlgorithm::RS512,
        Algorithm::ES256 => KeyAlgorithm::ES256,
        Algorithm::ES384 => KeyAlgorithm::ES384,
        Algorithm::EdDSA => KeyAlgorithm::EdDSA,
    }
}

impl Key {
    /// Whether this key made the signature. RSA keys shorter than 2048 bits made none.
    pub(super) fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let rsa = |parameters| self.verify_rsa(parameters, message, signature);
        let other = |kind| self.verify_point(kind, message, signature);
        match algorithm {
            Algorithm::RS256 => rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::ES256 => other(&signature::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => other(&signature::ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => other(&signature::ED25519),
        }
    }

    fn verify_rsa(&self, parameters: &RsaParameters, message: &[u8], signature: &[u8]) -> bool {
        let DecodingKeyKind::RsaModulusExponent { n, e } = self.key.kind() else {
            return false;
        };
        // Some issuers write the sign byte of DER.
        let (n, e) = (without_zeros(n), without_zeros(e));
        let key = RsaPublicKeyComponents { n, e };
        key.verify(parameters, message, signature).is_ok()
    }

    fn verify_point(
        &self,
        kind: &'static dyn signature::VerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let DecodingKeyKind::SecretOrDer(key) = self.key.kind() else {
            return false;
        };
        UnparsedPublicKey::new(kind, key)
            .verify(message, signature)
            .is_ok()
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or(&[])
}
