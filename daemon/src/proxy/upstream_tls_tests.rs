use rcgen::{
    CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    SignatureAlgorithm,
};

use super::*;

fn pair(algorithm: &'static SignatureAlgorithm) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate_for(algorithm).expect("key");
    let params = CertificateParams::new(vec!["gate".to_owned()]).expect("names");
    (params.self_signed(&key).expect("certificate"), key)
}

#[test]
fn the_end_point_is_hashed_as_its_signature_is() {
    for (algorithm, hash) in [
        (&PKCS_ECDSA_P256_SHA256, Some(&SHA256)),
        (&PKCS_ECDSA_P384_SHA384, Some(&SHA384)),
        (&PKCS_ED25519, None),
    ] {
        let (certificate, _) = pair(algorithm);
        let der = certificate.der();
        let expected = hash.map(|hash| digest(hash, der).as_ref().to_vec());
        assert_eq!(end_point(der), expected);
    }
    assert_eq!(end_point(b""), None);
    assert_eq!(end_point(b"no certificate"), None);
}

/// The identifiers as they stand in certificates: OID, then parameters.
#[test]
fn each_signature_names_its_hash() {
    let rsa = |last: u8| {
        let oid = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, last];
        [&[0x30, 13, 0x06, 9][..], &oid, &[0x05, 0]].concat()
    };
    let named = |der: &[u8]| {
        let (_, identifier) = AlgorithmIdentifier::from_der(der).expect("identifier");
        hash(&identifier)
    };
    for (last, expected) in [
        (4, Some(&SHA256)),
        (5, Some(&SHA256)),
        (11, Some(&SHA256)),
        (12, Some(&SHA384)),
        (13, Some(&SHA512)),
        (14, None),
        (1, None),
    ] {
        assert_eq!(named(&rsa(last)), expected, "{last}");
    }
    // RSASSA-PSS: the hash is in the parameters, SHA-1 if it is not there.
    let pss = |parameters: &[u8]| {
        let oid = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 10];
        let body = [&[0x06, 9][..], &oid, parameters].concat();
        let length = u8::try_from(body.len()).expect("short");
        [&[0x30, length][..], &body].concat()
    };
    let sha = |last: u8| {
        let oid = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, last];
        let identifier = [&[0x30, 11, 0x06, 9][..], &oid].concat();
        [&[0x30, 15, 0xa0, 13][..], &identifier].concat()
    };
    for (parameters, expected) in [
        (&sha(1)[..], Some(&SHA256)),
        (&sha(2), Some(&SHA384)),
        (&sha(3), Some(&SHA512)),
        (&sha(4), None),
        (&[0x30, 0], Some(&SHA256)),
        (&[], None),
        (&[0x05, 0], None),
    ] {
        assert_eq!(named(&pss(parameters)), expected, "{parameters:?}");
    }
}

#[test]
fn a_client_certificate_is_shown_only_with_its_own_key() {
    let directory = tempfile::tempdir().expect("directory");
    let chain = directory.path().join("gate.crt");
    let (certificate, key) = pair(&PKCS_ECDSA_P256_SHA256);
    std::fs::write(&chain, certificate.pem()).expect("write");
    let client_cert = ClientCert {
        chain: chain.clone(),
        key: crate::policy::CredentialRef::File("/nowhere".into()),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let show = |key: &str| showing(&config, &client_cert, &Secret::new(key.into()));
    assert!(show(&key.serialize_pem()).is_ok());
    let (_, other) = pair(&PKCS_ECDSA_P256_SHA256);
    let said = show(&other.serialize_pem()).expect_err("shown").to_string();
    assert!(
        said.contains("gate.crt") && said.contains("client_key"),
        "{said}"
    );
    for key in [
        "",
        "hunter2",
        "-----BEGIN hunter2-----\nhunter2\n",
        "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n",
    ] {
        let error = show(key).expect_err("shown");
        assert!(error.is_ours());
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    std::fs::write(&chain, "").expect("write");
    let said = show(&key.serialize_pem()).expect_err("shown").to_string();
    assert!(said.contains("no certificate"), "{said}");
}
