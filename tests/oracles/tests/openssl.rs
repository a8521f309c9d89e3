//! The system's openssl: its signatures verify here and ours there, hashes agree, and it reads our key files.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of a test; a panic is its failure")]

use std::path::{Path, PathBuf};

use shuyu_base::{HashKind, SecretKey, Suite, VerifyError};
use shuyu_oracles::openssl;

const MESSAGE: &[u8] = b"what is signed";
const DISTINGUISHING_ID: &str = "distid:1234567812345678";

fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openssl").join(name);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("message"), MESSAGE).unwrap();
    dir
}

/// A key of openssl's making, in `key.pem` without and in `sealed.pem` with encryption.
fn their_key(dir: &Path, suite: Suite) -> SecretKey {
    let algorithm: &[&str] = match suite {
        Suite::Ed25519 => &["-algorithm", "ED25519"],
        Suite::P256 => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        Suite::Sm2 => &["-algorithm", "SM2"],
    };
    openssl(dir, &[&["genpkey", "-out", "key.pem"], algorithm].concat(), b"").unwrap();
    openssl(dir, &["pkcs8", "-topk8", "-in", "key.pem", "-out", "sealed.pem", "-passout", "pass:secret"], b"").unwrap();
    SecretKey::from_encrypted_pem(&std::fs::read_to_string(dir.join("sealed.pem")).unwrap(), b"secret").unwrap()
}

/// A key of ours, which openssl opens and whose public half it writes to `public.pem`.
fn our_key(dir: &Path, suite: Suite, seed: u8) -> SecretKey {
    let key = SecretKey::from_seed(suite, &[seed; 32]).unwrap();
    let sealed = key.to_encrypted_pem(b"secret", [seed; 16], [!seed; 16]).unwrap();
    std::fs::write(dir.join("sealed.pem"), sealed).unwrap();
    let arguments = ["pkey", "-in", "sealed.pem", "-passin", "pass:secret", "-pubout", "-out", "public.pem"];
    openssl(dir, &arguments, b"").unwrap();
    key
}

/// What `pkeyutl` wants to know of a suite beside the key.
fn scheme(suite: Suite) -> &'static [&'static str] {
    match suite {
        Suite::Ed25519 => &[],
        Suite::P256 => &["-digest", "sha256"],
        Suite::Sm2 => &["-digest", "sm3", "-pkeyopt", DISTINGUISHING_ID],
    }
}

/// `SEQUENCE { r INTEGER, s INTEGER }` as 64 bytes.
fn from_der(der: &[u8]) -> Vec<u8> {
    assert_eq!((der[0], usize::from(der[1])), (0x30, der.len() - 2));
    let mut rest = &der[2..];
    let mut both = Vec::new();
    for _ in 0..2 {
        assert_eq!(rest[0], 0x02);
        let (number, after) = rest[2..].split_at(usize::from(rest[1]));
        let digits = number.strip_prefix(&[0]).unwrap_or(number);
        both.extend(vec![0; 32 - digits.len()]);
        both.extend(digits);
        rest = after;
    }
    both
}

fn to_der(signature: &[u8; 64]) -> Vec<u8> {
    let number = |digits: &[u8]| {
        let digits = &digits[digits.iter().position(|digit| *digit != 0).unwrap()..];
        let sign: &[u8] = if digits[0] < 0x80 { &[] } else { &[0] };
        [&[0x02, (sign.len() + digits.len()) as u8], sign, digits].concat()
    };
    let numbers = [number(&signature[..32]), number(&signature[32..])].concat();
    [&[0x30, numbers.len() as u8], numbers.as_slice()].concat()
}

fn encoded(suite: Suite, signature: &[u8; 64]) -> Vec<u8> {
    match suite {
        Suite::Ed25519 => signature.to_vec(),
        Suite::P256 | Suite::Sm2 => to_der(signature),
    }
}

#[test]
fn we_accept_signatures_of_openssl() {
    for suite in Suite::ALL {
        let dir = scratch(&format!("theirs-{}", suite.name()));
        let key = their_key(&dir, suite);
        for _ in 0..8 {
            let sign = ["pkeyutl", "-sign", "-inkey", "key.pem", "-rawin", "-in", "message"];
            let said = openssl(&dir, &[&sign, scheme(suite)].concat(), b"").unwrap();
            let signature = if suite == Suite::Ed25519 { said } else { from_der(&said) };
            assert_eq!(key.public().verify(MESSAGE, &signature), Ok(()), "{suite:?}");
            assert_eq!(key.public().verify(b"other", &signature), Err(VerifyError::Mismatch), "{suite:?}");
        }
    }
}

#[test]
fn openssl_accepts_our_signatures_and_refuses_other_messages() {
    for (suite, seed) in Suite::ALL.into_iter().zip(1..) {
        let dir = scratch(&format!("ours-{}", suite.name()));
        let key = our_key(&dir, suite, seed);
        std::fs::write(dir.join("signature"), encoded(suite, &key.sign(MESSAGE))).unwrap();
        std::fs::write(dir.join("other"), b"other").unwrap();
        let verify = |file| {
            let common = ["pkeyutl", "-verify", "-pubin", "-inkey", "public.pem", "-rawin", "-in", file];
            openssl(&dir, &[&common[..], &["-sigfile", "signature"], scheme(suite)].concat(), b"")
        };
        let said = verify("message").unwrap();
        assert!(String::from_utf8_lossy(&said).contains("Signature Verified Successfully"));
        verify("other").unwrap_err();
    }
}

/// The other command of openssl, which streams: `dgst -sm3` with the identity as a signature option.
#[test]
fn sm2_by_dgst_both_ways() {
    let dir = scratch("dgst-ours");
    let key = our_key(&dir, Suite::Sm2, 9);
    std::fs::write(dir.join("signature"), to_der(&key.sign(MESSAGE))).unwrap();
    let verify = ["dgst", "-sm3", "-verify", "public.pem", "-signature", "signature", "-sigopt"];
    let said = openssl(&dir, &[&verify[..], &[DISTINGUISHING_ID, "message"]].concat(), b"").unwrap();
    assert!(String::from_utf8_lossy(&said).contains("Verified OK"));
    // The identity is part of what is signed (GB/T 32918.2 section 5.5).
    openssl(&dir, &[&verify[..], &["distid:8765432187654321", "message"]].concat(), b"").unwrap_err();

    let dir = scratch("dgst-theirs");
    let key = their_key(&dir, Suite::Sm2);
    let sign = ["dgst", "-sm3", "-sign", "key.pem", "-sigopt", DISTINGUISHING_ID, "message"];
    let signature = from_der(&openssl(&dir, &sign, b"").unwrap());
    assert_eq!(key.public().verify(MESSAGE, &signature), Ok(()));
}

#[test]
fn hashes_are_the_same() {
    let dir = scratch("hashes");
    for length in [0, 1, 55, 56, 63, 64, 65, 127, 128, 10_000] {
        let message: Vec<u8> = (0..length).map(|at| (at * 31) as u8).collect();
        for kind in [HashKind::Sha256, HashKind::Sm3] {
            let said = openssl(&dir, &["dgst", &format!("-{}", kind.name()), "-binary"], &message).unwrap();
            assert_eq!(said, kind.digest(&[&message]).bytes(), "{} of {length} bytes", kind.name());
        }
    }
}
