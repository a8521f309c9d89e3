//! SM2 and SM3 against sm-crypto, both ways, and the range check that sm-crypto lacks and ours must have.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of a test; a panic is its failure")]

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use shuyu_base::{HashKind, PublicKey, SecretKey, Suite, VerifyError};
use shuyu_oracles::Foreign;

/// The order of the curve (GB/T 32918.5), big endian.
const N: [u8; 32] = [
    0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x72, 0x03, 0xdf,
    0x6b, 0x21, 0xc6, 0x05, 0x2b, 0x53, 0xbb, 0xf4, 0x09, 0x39, 0xd5, 0x41, 0x23,
];

fn foreign() -> &'static Foreign {
    Foreign::build(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap()
}

/// x ‖ y in hexadecimal digits, as sm-crypto writes a public key.
fn point(key: &PublicKey) -> String {
    let jwk = key.to_jwk();
    ["x", "y"].map(|member| hex::encode(URL_SAFE_NO_PAD.decode(jwk[member].as_str().unwrap()).unwrap())).concat()
}

fn accepts(key: &PublicKey, message: &[u8], r: &[u8], s: &[u8]) -> bool {
    let question = json!({
        "public": point(key), "message": hex::encode(message), "r": hex::encode(r), "s": hex::encode(s),
    });
    foreign().ask("sm2-verify", question).unwrap().answer().unwrap().as_bool().unwrap()
}

/// Messages around the block length of SM3, which is 64 bytes.
fn messages() -> Vec<Vec<u8>> {
    [0, 1, 55, 56, 63, 64, 65, 300].into_iter().map(|length| (0..length).map(|at| (at * 7) as u8).collect()).collect()
}

#[test]
fn sm_crypto_accepts_our_signatures_and_refuses_other_messages() {
    for (seed, message) in (1..).zip(messages()) {
        let key = SecretKey::from_seed(Suite::Sm2, &[seed; 32]).unwrap();
        let signature = key.sign(&message);
        let (r, s) = signature.split_at(32);
        assert!(accepts(key.public(), &message, r, s));
        assert!(!accepts(key.public(), &[message, vec![0]].concat(), r, s));
    }
}

#[test]
fn we_accept_signatures_of_sm_crypto_and_refuse_other_messages() {
    for (seed, message) in (1..).zip(messages()) {
        let key = SecretKey::from_seed(Suite::Sm2, &[seed; 32]).unwrap();
        let question = [("secret", hex::encode([seed; 32])), ("message", hex::encode(&message))];
        let question = question.each_ref().map(|(member, text)| (*member, text.as_str()));
        let said = foreign().ask_texts("sm2-sign", &question).unwrap().answer().unwrap();
        let signature: Vec<u8> = ["r", "s"].map(|member| hex::decode(said[member].as_str().unwrap()).unwrap()).concat();
        assert_eq!(key.public().verify(&message, &signature), Ok(()));
        assert_eq!(key.public().verify(&[message, vec![0]].concat(), &signature), Err(VerifyError::Mismatch));
    }
}

#[test]
fn the_same_secret_gives_the_same_point() {
    for seed in [1, 0x42, 0xfe] {
        let key = SecretKey::from_seed(Suite::Sm2, &[seed; 32]).unwrap();
        let said = foreign().ask_texts("sm2-public", &[("secret", &hex::encode([seed; 32]))]).unwrap();
        assert_eq!(said.answer().unwrap(), point(key.public()));
    }
}

#[test]
fn sm3_is_the_same() {
    for message in messages() {
        let said = foreign().ask_texts("sm3", &[("message", &hex::encode(&message))]).unwrap();
        assert_eq!(said.answer().unwrap(), hex::encode(HashKind::Sm3.digest(&[&message]).bytes()));
    }
}

/// `a + b`, big endian, with one byte for the carry.
fn sum(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut carry = 0;
    let mut digits: Vec<u8> = a
        .iter()
        .zip(b)
        .rev()
        .map(|(a, b)| {
            let total = u16::from(*a) + u16::from(*b) + carry;
            carry = total >> 8;
            total as u8
        })
        .collect();
    digits.push(carry as u8);
    digits.reverse();
    digits
}

/// GB/T 32918.3 section 7.1, steps B1 and B2: r and s lie in [1, n-1].
#[test]
fn numbers_outside_their_range_are_refused_here() {
    let key = SecretKey::from_seed(Suite::Sm2, &[7; 32]).unwrap();
    let signature = key.sign(b"message");
    let (r, s) = signature.split_at(32);
    let one_more = sum(&N, &[[0; 31].as_slice(), &[1]].concat())[1..].to_vec();
    for number in [[0; 32].as_slice(), &N, &one_more, &[0xff; 32]] {
        for (r, s) in [(r, number), (number, s), (number, number)] {
            assert_eq!(key.public().verify(b"message", &[r, s].concat()), Err(VerifyError::OutOfRange));
        }
    }
}
