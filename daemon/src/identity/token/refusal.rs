//! Why a token is refused, one reason for each way to be wrong.

use thiserror::Error;

/// A part of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What stands before the first dot.
    Header,
    /// Between the dots.
    Claims,
    /// After the second dot.
    Signature,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Claims => "claims",
            Self::Signature => "signature",
        })
    }
}

/// Why a token opens nothing. Never repeats what the token says, only what was expected;
/// a name in it (a claim's, a header's) is one that this program knows.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenRefusal {
    /// Not looked into.
    #[error("the token is longer than {longest} bytes")]
    TooLong {
        /// The bound.
        longest: usize,
    },
    /// Five parts: RFC 7516.
    #[error("the token is encrypted; only signed tokens (three parts) are read")]
    Encrypted,
    /// RFC 7515, section 7.1.
    #[error("this is not a signed token: it must have three parts with dots between")]
    NotThreeParts,
    /// RFC 7515, section 2: no padding, no white space.
    #[error("the token's {0} is not base64url")]
    NotBase64(Part),
    /// Not a JSON object.
    #[error("the token's {0} is not a JSON object")]
    NotJson(Part),
    /// Two programs may read two different tokens.
    #[error("the token's {0} has the same name twice")]
    Duplicate(Part),
    /// `alg: none`.
    #[error("the token is not signed (`alg` is none)")]
    NotSigned,
    /// An issuer's public key must never serve as a shared secret.
    #[error("the token is signed with a shared secret (HMAC); only public keys are accepted")]
    SharedSecret,
    /// Unknown, or no text.
    #[error("the token's `alg` is none of RS256, RS384, RS512, ES256, ES384, EdDSA")]
    UnknownAlgorithm,
    /// Known, and not among the issuer's `algorithms`.
    #[error("the configuration does not accept the token's `alg` of this issuer")]
    AlgorithmNotAccepted,
    /// `crit`, `b64`.
    #[error("the token demands an extension (`{0}`) that is not supported")]
    Extension(&'static str),
    /// `jwk`, `jku`, `x5c`, `x5u`.
    #[error("the token brings a key of its own (`{0}`); only the issuer's key set counts")]
    OwnKey(&'static str),
    /// `zip`.
    #[error("the token is compressed (`zip`)")]
    Compressed,
    /// `cty`.
    #[error("the token holds another token (`cty`)")]
    Nested,
    /// `typ` of something that opens nothing: a logout token, a DPoP proof.
    #[error("the token's `typ` is that of another kind of token: expected JWT or at+jwt")]
    OtherType,
    /// No `kid`.
    #[error("the token does not say which key signed it (`kid`)")]
    NoKeyId,
    /// Empty, longer than 256 bytes, no text.
    #[error("the token's `kid` is not a text of 1 to 256 bytes")]
    BadKeyId,
    /// Also after the set was fetched anew.
    #[error("the issuer's key set has no key with the token's `kid`")]
    UnknownKey,
    /// `use` or `key_ops` of the key.
    #[error("the issuer's key with the token's `kid` is not for signatures")]
    KeyNotForSignatures,
    /// Type, curve or `alg` of the key.
    #[error("the token's `alg` is not that of the issuer's key")]
    OtherAlgorithm,
    /// Forged, or changed on the way.
    #[error("the signature does not fit the token and the issuer's key")]
    BadSignature,
    /// A claim that must be there.
    #[error("the token has no `{0}` claim")]
    Missing(&'static str),
    /// Text where a list must be, and the like.
    #[error("the token's `{0}` claim is of the wrong kind")]
    WrongKind(&'static str),
    /// Not a whole number of seconds from 1970 to 9999.
    #[error("the token's `{0}` claim is not a time in whole seconds")]
    NotATime(&'static str),
    /// `iss`, compared byte by byte.
    #[error("the configuration lists no such issuer")]
    UnknownIssuer,
    /// `aud`.
    #[error("the token is for another audience")]
    OtherAudience,
    /// `azp`.
    #[error("the token was issued to another client (`azp`)")]
    OtherClient,
    /// Several audiences, and `azp` does not say which one asked.
    #[error("the token has several audiences and no `azp`")]
    NoClient,
    /// `exp`.
    #[error("the token expired {ago} seconds ago")]
    Expired {
        /// By the daemon's clock.
        ago: i64,
    },
    /// `nbf`.
    #[error("the token is valid only in {wait} seconds; compare the clocks")]
    NotYetValid {
        /// By the daemon's clock.
        wait: i64,
    },
    /// `iat`.
    #[error("the token was issued {ahead} seconds in the future; compare the clocks")]
    IssuedInFuture {
        /// By the daemon's clock.
        ahead: i64,
    },
    /// The issuer's `max_age`.
    #[error("the token was issued {age} seconds ago, more than the configured max_age")]
    TooOld {
        /// By the daemon's clock.
        age: i64,
    },
    /// `exp` is not after `iat`.
    #[error("the token expires before it was issued")]
    ExpiresFirst,
    /// The claim that names the principal.
    #[error("the claim that names the principal is not a text of 1 to 256 printable bytes")]
    BadName,
    /// The issuer does not answer, and there are no keys to fall back on.
    #[error("the issuer's keys can't be had: {0}")]
    NoKeys(String),
}
