//! Compact JWS (RFC 7515), strict: the algorithm is fixed by the key, and one signature has one encoding.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use shuyu_base::{PublicKey, SecretKey, Suite, VerifyError, json as strict_json};

/// Longest compact JWS accepted, in bytes, where the caller names no other limit.
pub const MAX_JWS_BYTES: usize = 64 * 1024;
/// Longest protected header accepted, in bytes, decoded.
pub const MAX_HEADER_BYTES: usize = 4096;
/// Longest `kid` accepted, in bytes: a DID and a fragment.
pub const MAX_KID_BYTES: usize = 2048;

/// Header members that bring or point at a key, or change what is signed. None of them is ever needed here, since the
/// key comes from the DID document and the payload is always base64url.
const REFUSED_MEMBERS: [&str; 7] = ["jwk", "jku", "x5u", "x5c", "crit", "b64", "zip"];

/// A JWS whose signature was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The payload.
    pub payload: Vec<u8>,
    /// The key that signed, as the header names it.
    pub kid: String,
    /// The media type the header gives. Check it: a signature over one kind of message must not pass for another.
    pub typ: Option<String>,
}

/// A JWS whose signature was **not** checked: good for finding the issuer, for nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unverified {
    /// The payload.
    pub payload: Vec<u8>,
    /// The key that claims to have signed.
    pub kid: String,
    /// The media type the header gives.
    pub typ: Option<String>,
}

/// Why a JWS was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwsError {
    /// Longer than the limit: [`MAX_JWS_BYTES`] or the caller's.
    #[error("jws is {len_bytes} bytes, the limit is {max_bytes}")]
    TooLarge {
        /// Length found, in bytes.
        len_bytes: usize,
        /// The limit, in bytes.
        max_bytes: usize,
    },
    /// Not three parts with a dot between them.
    #[error("jws does not have three parts")]
    Parts,
    /// A part is not canonical base64url without padding.
    #[error("jws {part} is not canonical base64url")]
    Encoding {
        /// `header`, `payload` or `signature`.
        part: &'static str,
    },
    /// The header is not a JSON object within bounds, or repeats a member.
    #[error("jws header is not an acceptable JSON object")]
    Header,
    /// A header member is missing or has the wrong shape.
    #[error("jws header member `{member}` is missing or malformed")]
    Member {
        /// The member.
        member: &'static str,
    },
    /// A header member that this layer refuses.
    #[error("jws header member `{member}` is not accepted")]
    RefusedMember {
        /// The member.
        member: &'static str,
    },
    /// `alg` is `none`, symmetric or unknown.
    #[error("jws algorithm is not accepted")]
    Algorithm,
    /// No key goes by this `kid`.
    #[error("jws key `{kid}` is unknown")]
    UnknownKey {
        /// The `kid`.
        kid: String,
    },
    /// The key signs with another algorithm than the header names.
    #[error("jws names algorithm `{found}`, but its key signs with `{expected}`")]
    AlgorithmMismatch {
        /// The header's.
        found: &'static str,
        /// The key's.
        expected: &'static str,
    },
    /// The signature does not hold.
    #[error("jws signature does not hold")]
    Signature(#[source] VerifyError),
}

/// Signs `payload`. `kid` is the DID URL of the key; `typ` says what kind of message this is.
pub fn sign(key: &SecretKey, kid: &str, typ: &str, payload: &[u8]) -> String {
    let header = json!({"alg": key.suite().jose_alg(), "kid": kid, "typ": typ});
    let mut compact = URL_SAFE_NO_PAD.encode(header.to_string());
    compact.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut compact);
    let signature = key.sign(compact.as_bytes());
    compact.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut compact);
    compact
}

/// Checks a JWS with the key that `key_of` gives for its `kid`.
///
/// # Errors
/// [`JwsError`] says which rule is broken.
pub fn verify(compact: &str, key_of: impl FnOnce(&str) -> Option<PublicKey>) -> Result<Verified, JwsError> {
    verify_within(compact, MAX_JWS_BYTES, key_of)
}

/// As [`verify`], for messages that may be longer than [`MAX_JWS_BYTES`], such as presentations.
///
/// # Errors
/// As [`verify`].
pub fn verify_within(
    compact: &str,
    max_bytes: usize,
    key_of: impl FnOnce(&str) -> Option<PublicKey>,
) -> Result<Verified, JwsError> {
    let parts = Parts::split(compact, max_bytes)?;
    let header = Header::parse(parts.header)?;
    let key = key_of(&header.kid).ok_or_else(|| JwsError::UnknownKey { kid: header.kid.clone() })?;
    if key.suite() != header.suite {
        return Err(JwsError::AlgorithmMismatch { found: header.suite.jose_alg(), expected: key.suite().jose_alg() });
    }
    let signature = decode(parts.signature, "signature")?;
    key.verify(parts.signed.as_bytes(), &signature).map_err(JwsError::Signature)?;
    Ok(Verified { payload: decode(parts.payload, "payload")?, kid: header.kid, typ: header.typ })
}

/// Reads a JWS without checking its signature.
///
/// # Errors
/// [`JwsError`] as far as it can be known without a key.
pub fn peek(compact: &str) -> Result<Unverified, JwsError> {
    peek_within(compact, MAX_JWS_BYTES)
}

/// As [`peek`], for messages that may be longer than [`MAX_JWS_BYTES`].
///
/// # Errors
/// As [`peek`].
pub fn peek_within(compact: &str, max_bytes: usize) -> Result<Unverified, JwsError> {
    let parts = Parts::split(compact, max_bytes)?;
    let header = Header::parse(parts.header)?;
    decode(parts.signature, "signature")?;
    Ok(Unverified { payload: decode(parts.payload, "payload")?, kid: header.kid, typ: header.typ })
}

struct Parts<'a> {
    signed: &'a str,
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    fn split(compact: &'a str, max_bytes: usize) -> Result<Self, JwsError> {
        if max_bytes < compact.len() {
            return Err(JwsError::TooLarge { len_bytes: compact.len(), max_bytes });
        }
        let (signed, signature) = compact.rsplit_once('.').ok_or(JwsError::Parts)?;
        let (header, payload) = signed.split_once('.').ok_or(JwsError::Parts)?;
        if payload.contains('.') {
            return Err(JwsError::Parts);
        }
        Ok(Self { signed, header, payload, signature })
    }
}

struct Header {
    suite: Suite,
    kid: String,
    typ: Option<String>,
}

impl Header {
    fn parse(encoded: &str) -> Result<Self, JwsError> {
        let bytes = decode(encoded, "header")?;
        let value = strict_json::parse(&bytes, MAX_HEADER_BYTES).map_err(|_| JwsError::Header)?;
        let members = value.as_object().ok_or(JwsError::Header)?;
        if let Some(member) = REFUSED_MEMBERS.into_iter().find(|member| members.contains_key(*member)) {
            return Err(JwsError::RefusedMember { member });
        }
        let suite = Suite::from_jose_alg(text(members, "alg")?).ok_or(JwsError::Algorithm)?;
        let kid = text(members, "kid")?;
        if kid.is_empty() || MAX_KID_BYTES < kid.len() {
            return Err(JwsError::Member { member: "kid" });
        }
        let typ = if members.contains_key("typ") { Some(text(members, "typ")?.to_owned()) } else { None };
        Ok(Self { suite, kid: kid.to_owned(), typ })
    }
}

fn text<'a>(members: &'a Map<String, Value>, member: &'static str) -> Result<&'a str, JwsError> {
    members.get(member).and_then(Value::as_str).ok_or(JwsError::Member { member })
}

/// The engine refuses padding, other alphabets and stray bits in the last character (RFC 4648 section 3.5).
fn decode(encoded: &str, part: &'static str) -> Result<Vec<u8>, JwsError> {
    URL_SAFE_NO_PAD.decode(encoded).map_err(|_| JwsError::Encoding { part })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KID: &str = "did:web:a.example#key-1";

    fn key(suite: Suite) -> SecretKey {
        SecretKey::from_seed(suite, &[7; 32]).unwrap()
    }

    fn check(compact: &str, key: &SecretKey) -> Result<Verified, JwsError> {
        verify(compact, |kid| (kid == KID).then(|| key.public().clone()))
    }

    /// Signs whatever header it is given, as an attacker who holds the key would.
    fn forge(key: &SecretKey, header: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode("payload"));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())))
    }

    /// RFC 8037 appendix A.4, with the key found by thumbprint since the example has no `kid`.
    #[test]
    fn the_rfc_example_is_refused_only_for_its_missing_kid() {
        let compact = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        assert_eq!(verify(compact, |_| None), Err(JwsError::Member { member: "kid" }));
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        let public = PublicKey::from_jwk(&jwk).unwrap();
        let (signed, signature) = compact.rsplit_once('.').unwrap();
        assert_eq!(public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()), Ok(()));
    }

    #[test]
    fn headers_that_break_a_rule_are_refused_though_the_signature_holds() {
        let key = key(Suite::Ed25519);
        let good = format!(r#"{{"alg":"EdDSA","kid":"{KID}"}}"#);
        assert!(check(&forge(&key, &good), &key).is_ok());
        assert!(check(&forge(&key, &good.replace("EdDSA", "Ed25519")), &key).is_ok());
        let with = |member: &str| good.replace('}', &format!(",{member}}}"));
        let table = [
            (good.replace("EdDSA", "none"), JwsError::Algorithm),
            (good.replace("EdDSA", "None"), JwsError::Algorithm),
            (good.replace("EdDSA", "HS256"), JwsError::Algorithm),
            (good.replace("EdDSA", "RS256"), JwsError::Algorithm),
            (good.replace("EdDSA", "eddsa"), JwsError::Algorithm),
            (good.replace("\"EdDSA\"", "7"), JwsError::Member { member: "alg" }),
            (good.replace("EdDSA", "ES256"), JwsError::AlgorithmMismatch { found: "ES256", expected: "EdDSA" }),
            (good.replace("EdDSA", "SM2SM3"), JwsError::AlgorithmMismatch { found: "SM2SM3", expected: "EdDSA" }),
            (good.replace(KID, "x"), JwsError::UnknownKey { kid: "x".into() }),
            (good.replace(KID, ""), JwsError::Member { member: "kid" }),
            (good.replace(KID, &"k".repeat(3000)), JwsError::Member { member: "kid" }),
            (r#"{"alg":"EdDSA"}"#.into(), JwsError::Member { member: "kid" }),
            (format!(r#"{{"kid":"{KID}"}}"#), JwsError::Member { member: "alg" }),
            (with(r#""jwk":{}"#), JwsError::RefusedMember { member: "jwk" }),
            (with(r#""jku":"https://evil.example""#), JwsError::RefusedMember { member: "jku" }),
            (with(r#""x5u":"https://evil.example""#), JwsError::RefusedMember { member: "x5u" }),
            (with(r#""x5c":[]"#), JwsError::RefusedMember { member: "x5c" }),
            (with(r#""crit":["exp"]"#), JwsError::RefusedMember { member: "crit" }),
            (with(r#""b64":false"#), JwsError::RefusedMember { member: "b64" }),
            (with(r#""zip":"DEF""#), JwsError::RefusedMember { member: "zip" }),
            (with(r#""typ":7"#), JwsError::Member { member: "typ" }),
            (with(r#""alg":"none""#), JwsError::Header),
            (with(&format!(r#""x":"{}""#, "x".repeat(5000))), JwsError::Header),
            ("[]".into(), JwsError::Header),
            ("{".into(), JwsError::Header),
        ];
        for (header, expected) in table {
            assert_eq!(check(&forge(&key, &header), &key), Err(expected), "{header}");
        }
    }

    #[test]
    fn one_signature_has_one_encoding() {
        let key = key(Suite::P256);
        let good = sign(&key, KID, "JWT", b"payload");
        let (signed, signature) = good.rsplit_once('.').unwrap();
        // 64 bytes leave four unused bits in the last character.
        let stray: Vec<String> = ["B", "C", "D", "h", "x"]
            .iter()
            .map(|c| format!("{}{c}", &good[..good.len() - 1]))
            .filter(|text| *text != good)
            .collect();
        let mut bad = vec![
            format!("{good}="),
            format!("{good}=="),
            format!("{good}\n"),
            format!(" {good}"),
            format!("{good}."),
            format!("{good}.x"),
            signed.to_owned(),
            format!("{signed}."),
            format!("{signed}.{signature}{signature}"),
            signature.to_owned(),
            String::new(),
            "..".into(),
        ];
        bad.extend(stray);
        for text in bad {
            assert!(check(&text, &key).is_err(), "{text}");
        }
        assert!(matches!(check(&"a".repeat(MAX_JWS_BYTES + 1), &key), Err(JwsError::TooLarge { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn round_trips_and_any_change_is_found(
            payload in any::<Vec<u8>>(), at in any::<prop::sample::Index>(), other in "[A-Za-z0-9_.-]",
            suite in prop_oneof![Just(Suite::Ed25519), Just(Suite::P256), Just(Suite::Sm2)]
        ) {
            let key = key(suite);
            let good = sign(&key, KID, "JWT", &payload);
            let expected = Verified { payload, kid: KID.into(), typ: Some("JWT".into()) };
            prop_assert_eq!(check(&good, &key), Ok(expected));
            let at = at.index(good.len());
            let changed = format!("{}{other}{}", &good[..at], &good[at + 1..]);
            prop_assert_eq!(check(&changed, &key).is_ok(), changed == good);
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,200}", shaped in "[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,90}") {
            let _ = check(&text, &key(Suite::Ed25519));
            let _ = peek(&shaped);
        }
    }
}
