use proptest::prelude::*;
use serde_json::json;

use super::*;

fn unhex<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).unwrap().try_into().unwrap()
}

fn key(suite: Suite, byte: u8) -> SecretKey {
    SecretKey::from_seed(suite, &[byte; 32]).unwrap()
}

/// RFC 8032 section 7.1, test 2.
#[test]
fn ed25519_signs_the_published_vector() {
    let seed = unhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
    let key = SecretKey::from_seed(Suite::Ed25519, &seed).unwrap();
    assert_eq!(
        hex::encode(key.public().to_bytes()),
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    );
    assert_eq!(
        hex::encode(key.sign(&[0x72])),
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
         085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    );
}

/// RFC 6979 appendix A.2.5, SHA-256, message "sample".
#[test]
fn p256_signs_the_published_vector() {
    let seed = unhex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721");
    let key = SecretKey::from_seed(Suite::P256, &seed).unwrap();
    assert_eq!(
        hex::encode(key.sign(b"sample")),
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716\
         f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
    );
}

/// GB/T 32918.5-2017 appendix A.2.
#[test]
fn sm2_verifies_the_published_vector() {
    let seed = unhex("3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8");
    let key = SecretKey::from_seed(Suite::Sm2, &seed).unwrap();
    let bytes = key.public().to_bytes();
    assert_eq!(hex::encode(&bytes[1..]), "09f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020");
    let signature: [u8; 64] = unhex(
        "f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3\
         b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa",
    );
    assert_eq!(key.public().verify(b"message digest", &signature), Ok(()));
    assert_eq!(key.public().verify(b"message digesu", &signature), Err(VerifyError::Mismatch));
}

/// RFC 8037 appendix A.3; RFC 7517 appendix A.1 with the thumbprint computed from RFC 7638's definition.
#[test]
fn thumbprints_follow_rfc_7638() {
    use base64::Engine as _;
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let key = PublicKey::from_jwk(&jwk).unwrap();
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key.thumbprint().bytes());
    assert_eq!(text, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    for suite in Suite::ALL {
        let key = self::key(suite, 7);
        let canonical = crate::json::canonical(&key.public().to_jwk()).unwrap();
        assert_eq!(key.public().thumbprint(), crate::Digest::sha256(&canonical), "{suite:?}");
    }
}

/// Test vectors of the did:key method: section 5 of the W3C CCG report.
#[test]
fn published_multikeys_round_trip() {
    for (text, suite) in [
        ("z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK", Suite::Ed25519),
        ("zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169", Suite::P256),
    ] {
        let key = PublicKey::from_multikey(text).unwrap();
        assert_eq!((key.suite(), key.to_multikey().as_str()), (suite, text));
    }
}

#[test]
fn multikeys_of_other_kinds_are_refused() {
    let secp256k1 = "zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme";
    let good = key(Suite::Sm2, 7).public().to_multikey();
    for text in ["", "z", "m", secp256k1, &good[1..], &format!("{good}1"), &good[..40], &"z1".repeat(500), "z0OIl"] {
        assert!(PublicKey::from_multikey(text).is_err(), "{text}");
    }
}

#[test]
fn jwks_that_are_not_plain_public_keys_are_refused() {
    let good = key(Suite::P256, 7).public().to_jwk();
    assert!(PublicKey::from_jwk(&good).is_ok());
    let other = key(Suite::P256, 8).public().to_jwk();
    let with = |member: &str, value: serde_json::Value| {
        let mut jwk = good.clone();
        jwk[member] = value;
        jwk
    };
    let x = good["x"].as_str().unwrap();
    for bad in [
        json!(null),
        json!({}),
        with("d", json!("AA")),
        with("k", json!("AA")),
        with("kty", json!("RSA")),
        with("kty", json!("OKP")),
        with("crv", json!("P-384")),
        with("crv", json!("SM2")),
        with("alg", json!("none")),
        with("alg", json!("SM2SM3")),
        with("alg", json!(7)),
        with("use", json!("enc")),
        with("x", json!(7)),
        with("x", json!(format!("{x}="))),
        with("x", json!(format!("{x}AA"))),
        with("x", json!(x.replace(['-', '_'], "+"))),
        with("x", other["x"].clone()),
        with("y", json!(null)),
        with("y", json!("AA")),
    ] {
        assert!(bad == good || PublicKey::from_jwk(&bad).is_err(), "{bad}");
    }
    assert!(PublicKey::from_jwk(&with("alg", json!("ES256"))).is_ok());
    assert!(PublicKey::from_jwk(&with("use", json!("sig"))).is_ok());
}

/// The last character of 32 bytes in base64url carries two unused bits, which must be zero (RFC 4648 section 3.5).
#[test]
fn base64url_with_stray_bits_is_refused() {
    let text = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    for last in ["p", "q", "r"] {
        let x = format!("{}{last}", &text[..text.len() - 1]);
        assert!(PublicKey::from_jwk(&json!({"kty": "OKP", "crv": "Ed25519", "x": x})).is_err());
    }
}

#[test]
fn points_that_are_weak_or_not_canonical_are_refused() {
    let identity = unhex::<32>("0100000000000000000000000000000000000000000000000000000000000000");
    let order_eight = unhex::<32>("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a");
    // y = p + 3: the same point as y = 3 under a second name.
    let not_canonical = unhex::<32>("f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
    for bytes in [identity, order_eight, not_canonical] {
        let suite = Suite::Ed25519;
        assert_eq!(PublicKey::from_bytes(suite, &bytes), Err(ParseKeyError::BadPoint { suite }));
    }
    for suite in [Suite::P256, Suite::Sm2] {
        for bytes in [vec![0], vec![2; 32], vec![0xff; 33], vec![0; 33], vec![4; 65]] {
            assert!(PublicKey::from_bytes(suite, &bytes).is_err(), "{suite:?}");
        }
    }
}

#[test]
fn seeds_outside_the_range_are_refused() {
    // The orders n of the two curves; SM2 excludes n - 1 as well.
    let p256 = unhex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    let mut sm2: [u8; 32] = unhex("fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54123");
    for (suite, seed) in [(Suite::P256, p256), (Suite::Sm2, sm2), (Suite::P256, [0; 32]), (Suite::Sm2, [0; 32])] {
        assert_eq!(SecretKey::from_seed(suite, &seed).unwrap_err(), BadSeedError { suite });
    }
    sm2[31] -= 1;
    assert!(SecretKey::from_seed(Suite::Sm2, &sm2).is_err());
    sm2[31] -= 1;
    assert!(SecretKey::from_seed(Suite::Sm2, &sm2).is_ok());
}

#[test]
fn signatures_out_of_range_are_refused() {
    let n_p256 = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let n_sm2 = "fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54123";
    for (suite, n) in [(Suite::P256, n_p256), (Suite::Sm2, n_sm2)] {
        let key = key(suite, 9);
        let good = hex::encode(key.sign(b"m"));
        let (r, s) = good.split_at(64);
        let zero = "0".repeat(64);
        for bad in [[n, s], [r, n], [&zero, s], [r, &zero], [&"f".repeat(64), s], [r, &"f".repeat(64)]] {
            let bytes = hex::decode(bad.concat()).unwrap();
            assert_eq!(key.public().verify(b"m", &bytes), Err(VerifyError::OutOfRange), "{suite:?}");
        }
    }
    // RFC 8032 section 5.1.7: S must be below the order.
    let key = key(Suite::Ed25519, 9);
    let mut signature = key.sign(b"m");
    signature[32..].fill(0xff);
    assert!(key.public().verify(b"m", &signature).is_err());
}

#[test]
fn debug_output_names_no_secret() {
    for suite in Suite::ALL {
        let text = format!("{:?}", key(suite, 0xab));
        assert!(text.starts_with(&format!("SecretKey({}, public sha256:", suite.name())), "{text}");
        assert!(!text.contains("abab") && !text.contains("171"), "{text}");
    }
}

#[test]
fn encrypted_files_round_trip_and_refuse_a_wrong_passphrase() {
    for suite in Suite::ALL {
        let key = key(suite, 3);
        let pem = key.to_encrypted_pem(b"correct horse", [1; 16], [2; 16]).unwrap();
        assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), "{pem}");
        let read = SecretKey::from_encrypted_pem(&pem, b"correct horse").unwrap();
        assert_eq!(read.public(), key.public());
        let wrong = SecretKey::from_encrypted_pem(&pem, b"correct horsf").unwrap_err();
        assert_eq!(wrong, KeyFileError::WrongPassphrase);
    }
}

#[test]
fn key_files_that_are_not_ours_to_open_are_refused() {
    let pem = key(Suite::Ed25519, 3).to_encrypted_pem(b"p", [1; 16], [2; 16]).unwrap();
    let plain = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                 -----END PRIVATE KEY-----\n";
    for text in ["", "x", plain, &pem.replace("ENCRYPTED ", "")] {
        assert_eq!(SecretKey::from_encrypted_pem(text, b"p").unwrap_err(), KeyFileError::NotEncryptedPem, "{text}");
    }
    assert!(matches!(SecretKey::check_encrypted_pem(&"-".repeat(9000)), Err(KeyFileError::TooLarge { .. })));
}

/// A planted file may not choose how much memory and time it costs; N = 0 once made the library panic.
#[test]
fn key_files_that_cost_too_much_are_refused() {
    use pkcs8::der::Encode as _;
    use pkcs8::pkcs5::{EncryptionScheme, pbes2};
    for (n, r, p) in [(0, 8, 1), (1, 8, 1), (3, 8, 1), (1 << 18, 8, 1), (1 << 14, 9, 1), (1 << 14, 8, 17), (4, 0, 1)] {
        let cost = pkcs8::pkcs5::scrypt::Params::new(4, 8, 1).unwrap();
        let mut scheme = pbes2::Parameters::generate_scrypt_aes256cbc(cost, &[1; 16], [2; 16]).unwrap();
        if let pbes2::Kdf::Scrypt(cost) = &mut scheme.kdf {
            (cost.cost_parameter, cost.block_size, cost.parallelization) = (n, r, p);
        }
        let info = pkcs8::EncryptedPrivateKeyInfoRef {
            encryption_algorithm: EncryptionScheme::Pbes2(scheme),
            encrypted_data: pkcs8::der::asn1::OctetStringRef::new(&[0; 48]).unwrap(),
        };
        let document = pkcs8::SecretDocument::try_from(info.to_der().unwrap()).unwrap();
        let pem = document.to_pem("ENCRYPTED PRIVATE KEY", pkcs8::LineEnding::LF).unwrap();
        let refused = SecretKey::from_encrypted_pem(&pem, b"p").unwrap_err();
        assert_eq!(refused, KeyFileError::UnsupportedEncryption, "{n} {r} {p}");
    }
}

fn any_suite() -> impl Strategy<Value = Suite> {
    prop_oneof![Just(Suite::Ed25519), Just(Suite::P256), Just(Suite::Sm2)]
}

/// SEC 1 readers take tag 5 (compact, x alone) in 33 bytes as well; a key has one form only.
#[test]
fn a_point_in_the_compact_form_is_refused() {
    for suite in [Suite::P256, Suite::Sm2] {
        for seed in 1..16 {
            let mut bytes = SecretKey::from_seed(suite, &[seed; 32]).unwrap().public().to_bytes();
            bytes[0] = 5;
            assert_eq!(PublicKey::from_bytes(suite, &bytes), Err(ParseKeyError::BadPoint { suite }));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_signed_verifies_and_nothing_else(
        suite in any_suite(), seed in any::<[u8; 32]>(), message in any::<Vec<u8>>(), bit in 0_usize..512
    ) {
        let key = SecretKey::from_seed(suite, &seed).unwrap();
        let mut signature = key.sign(&message);
        prop_assert_eq!(key.public().verify(&message, &signature), Ok(()));
        prop_assert_eq!(signature, key.sign(&message));
        signature[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(key.public().verify(&message, &signature).is_err());
    }

    #[test]
    fn public_forms_round_trip(suite in any_suite(), seed in any::<[u8; 32]>()) {
        let secret = SecretKey::from_seed(suite, &seed).unwrap();
        let key = secret.public();
        prop_assert_eq!(&PublicKey::from_bytes(suite, &key.to_bytes()).unwrap(), key);
        prop_assert_eq!(&PublicKey::from_multikey(&key.to_multikey()).unwrap(), key);
        prop_assert_eq!(&PublicKey::from_jwk(&key.to_jwk()).unwrap(), key);
    }

    #[test]
    fn any_bytes_are_read_without_panic(suite in any_suite(), bytes in proptest::collection::vec(any::<u8>(), 0..70)) {
        let _ = PublicKey::from_bytes(suite, &bytes);
        let _ = PublicKey::from_multikey(&format!("z{}", bs58::encode(&bytes).into_string()));
        let _ = key(suite, 1).public().verify(b"m", &bytes);
    }

    #[test]
    fn any_text_is_read_without_panic(text in ".{0,200}", body in "[A-Za-z0-9+/]{0,120}") {
        let _ = PublicKey::from_multikey(&text);
        let _ = SecretKey::check_encrypted_pem(&text);
        let pem = format!("-----BEGIN ENCRYPTED PRIVATE KEY-----\n{body}\n-----END ENCRYPTED PRIVATE KEY-----\n");
        let _ = SecretKey::check_encrypted_pem(&pem);
    }
}
