//! The system's openssl as a second opinion: it reads our key files and checks our signatures, and we read its.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of a test; a panic is its failure"
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use shuyu_base::{SecretKey, Suite};

/// Runs openssl, which `./x` installs, and returns what it printed.
fn openssl(dir: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// The last bytes of a SubjectPublicKeyInfo are the key: 32 bytes of Ed25519, or a point of 65 bytes.
fn same_public_key(der: &[u8], key: &SecretKey) {
    let expected = key.public().to_bytes();
    match key.suite() {
        Suite::Ed25519 => assert!(der.ends_with(&expected)),
        Suite::P256 | Suite::Sm2 => assert_eq!(der[der.len() - 64..der.len() - 32], expected[1..]),
    }
}

#[test]
fn openssl_reads_our_key_files() {
    for suite in Suite::ALL {
        let dir = scratch(&format!("read-{}", suite.name()));
        let key = SecretKey::from_seed(suite, &[0x42; 32]).unwrap();
        std::fs::write(dir.join("key.pem"), key.to_encrypted_pem(b"secret", [5; 16], [6; 16]).unwrap()).unwrap();
        let der =
            openssl(&dir, &["pkey", "-in", "key.pem", "-passin", "pass:secret", "-pubout", "-outform", "DER"], b"");
        same_public_key(&der, &key);
    }
}

#[test]
fn we_read_key_files_of_openssl() {
    for (suite, algorithm) in [
        (Suite::Ed25519, &["-algorithm", "ED25519"][..]),
        (Suite::P256, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
        (Suite::Sm2, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:SM2"]),
    ] {
        let dir = scratch(&format!("write-{}", suite.name()));
        let plain = openssl(&dir, &[&["genpkey"], algorithm].concat(), b"");
        let der = openssl(&dir, &["pkey", "-pubout", "-outform", "DER"], &plain);
        for cost in [&["-scrypt"][..], &["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA256"]] {
            let sealed = openssl(&dir, &[&["pkcs8", "-topk8", "-passout", "pass:secret"], cost].concat(), &plain);
            let key = SecretKey::from_encrypted_pem(std::str::from_utf8(&sealed).unwrap(), b"secret").unwrap();
            assert_eq!(key.suite(), suite);
            same_public_key(&der, &key);
        }
    }
}

/// A DER `INTEGER` of an unsigned big-endian number.
fn der_integer(number: &[u8]) -> Vec<u8> {
    let first = number.iter().position(|b| *b != 0).unwrap();
    let mut body = if number[first] < 0x80 { vec![] } else { vec![0] };
    body.extend(&number[first..]);
    [&[0x02, u8::try_from(body.len()).unwrap()], body.as_slice()].concat()
}

#[test]
fn openssl_accepts_our_signatures() {
    for suite in Suite::ALL {
        let dir = scratch(&format!("verify-{}", suite.name()));
        let key = SecretKey::from_seed(suite, &[0x43; 32]).unwrap();
        std::fs::write(dir.join("key.pem"), key.to_encrypted_pem(b"secret", [5; 16], [6; 16]).unwrap()).unwrap();
        openssl(&dir, &["pkey", "-in", "key.pem", "-passin", "pass:secret", "-pubout", "-out", "pub.pem"], b"");
        std::fs::write(dir.join("message"), b"the message").unwrap();
        let signature = key.sign(b"the message");
        let encoded = match suite {
            Suite::Ed25519 => signature.to_vec(),
            Suite::P256 | Suite::Sm2 => {
                let numbers = [der_integer(&signature[..32]), der_integer(&signature[32..])].concat();
                [&[0x30, u8::try_from(numbers.len()).unwrap()], numbers.as_slice()].concat()
            }
        };
        std::fs::write(dir.join("signature"), encoded).unwrap();
        let common = ["pkeyutl", "-verify", "-pubin", "-inkey", "pub.pem", "-rawin", "-in", "message"];
        let digest: &[&str] = match suite {
            Suite::Ed25519 => &[],
            Suite::P256 => &["-digest", "sha256"],
            Suite::Sm2 => &["-digest", "sm3", "-pkeyopt", "distid:1234567812345678"],
        };
        let said = openssl(&dir, &[&common[..], &["-sigfile", "signature"], digest].concat(), b"");
        assert!(String::from_utf8_lossy(&said).contains("Signature Verified Successfully"));
    }
}
