//! Signatures under an agreement: what both parties put their keys to, and how it is checked.
//!
//! A party signs a small statement about the agreement, not the message that carried it: the identifier, the digest of its
//! canonical form (RFC 8785), both parties, and the agreement that it renews. The statement is a compact JWS (RFC 7515)
//! whose payload is that form again, so a verifier computes the payload and never reads it. A key of the national suite
//! signs over the SM3 digest, any other over SHA-256.

use serde_json::{Map, Value};
use shuyu_base::{Did, Digest, HashKind, PublicKey, SecretKey, Suite};
use shuyu_credentials::{DidDocument, JwsError, Relationship, jws};

/// The `typ` of a signature.
pub const TYP: &str = "shuyu-agreement+jws";
/// Most signatures of one party: one a suite.
pub const MAX_SIGNATURES: usize = Suite::ALL.len();
/// Longest signature, in bytes; one of ours has about 800.
pub const MAX_SIGNATURE_BYTES: usize = 8192;

/// What is signed.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// The agreement's identifier.
    pub id: &'a str,
    /// Its canonical form.
    pub canonical: &'a [u8],
    /// Who grants.
    pub provider: &'a Did,
    /// Who is granted.
    pub consumer: &'a Did,
    /// The agreement it takes the place of.
    pub renews: Option<&'a str>,
}

/// A signature that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The key's DID URL.
    pub kid: String,
    /// The key, which stays good for this agreement whatever the document says later.
    pub key: PublicKey,
    /// The signature itself.
    pub compact: String,
}

/// Why signatures are not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// None at all where one is due.
    #[error("the agreement is not signed")]
    Unsigned,
    /// More than one a suite.
    #[error("more than {MAX_SIGNATURES} signatures, or two of one suite")]
    TooMany,
    /// Both parties have SM2 keys, and this one did not use its own.
    #[error("the SM2 signature is missing, though both parties have an SM2 key")]
    NationalMissing,
    /// None is by the key that the party acts with.
    #[error("none of the signatures is by a key that holds `capabilityInvocation`, the one the party acts with")]
    ActingKeyMissing,
    /// Longer than [`MAX_SIGNATURE_BYTES`], not a JWS, by an unknown key, or it does not hold.
    #[error("a signature does not hold: {0}")]
    Jws(#[source] JwsError),
    /// Of another type than [`TYP`].
    #[error("a signature has `typ` `{found}`")]
    Typ {
        /// The type found.
        found: String,
    },
    /// The key may not be used to assert anything.
    #[error("key `{kid}` does not hold `assertionMethod`")]
    Relationship {
        /// The key.
        kid: String,
    },
    /// It holds, under something else.
    #[error("key `{kid}` signed something else than this agreement")]
    OtherSubject {
        /// The key.
        kid: String,
    },
}

impl Subject<'_> {
    /// The digest both ledgers carry: SHA-256 of the canonical form.
    pub fn digest(&self) -> Digest {
        Digest::sha256(self.canonical)
    }

    fn payload(&self, suite: Suite) -> Vec<u8> {
        let kind = match suite {
            Suite::Sm2 => HashKind::Sm3,
            Suite::Ed25519 | Suite::P256 => HashKind::Sha256,
        };
        let mut members = Map::new();
        let mut put = |name: &str, text: &str| members.insert(name.to_owned(), Value::from(text));
        put("agreement", self.id);
        put("consumer", self.consumer.as_str());
        put("digest", &kind.digest(&[self.canonical]).to_string());
        put("provider", self.provider.as_str());
        if let Some(renews) = self.renews {
            put("renews", renews);
        }
        // Names in order and text alone: this is the canonical form.
        Value::Object(members).to_string().into_bytes()
    }

    /// Signs with `key`, which the signer's document lists as `kid` under `assertionMethod`.
    pub fn sign(&self, key: &SecretKey, kid: &str) -> String {
        jws::sign(key, kid, TYP, &self.payload(key.suite()))
    }

    /// Checks what one party signed against its DID document. `national` says that both parties have an SM2 key.
    ///
    /// # Errors
    /// [`SignatureError`]; no signature is taken if one of them does not hold.
    pub fn verify(
        &self,
        signatures: &[String],
        signer: &DidDocument,
        national: bool,
    ) -> Result<Vec<Signature>, SignatureError> {
        let key_of = |kid: &str| {
            let method = signer.method(kid).ok_or_else(|| unknown(kid))?;
            let may = method.relationships.contains(&Relationship::AssertionMethod);
            may.then(|| method.key.clone()).ok_or_else(|| SignatureError::Relationship { kid: kid.to_owned() })
        };
        let found = self.verify_with(signatures, key_of)?;
        let acts = |signature: &Signature| {
            let method = signer.method(&signature.kid);
            method.is_some_and(|method| method.relationships.contains(&Relationship::CapabilityInvocation))
        };
        if !found.iter().any(acts) {
            return Err(SignatureError::ActingKeyMissing);
        }
        if national && !found.iter().any(|signature| signature.key.suite() == Suite::Sm2) {
            return Err(SignatureError::NationalMissing);
        }
        Ok(found)
    }

    /// Checks signatures with keys that are held already, as those of an agreement in force.
    ///
    /// # Errors
    /// As [`Subject::verify`].
    pub fn verify_with(
        &self,
        signatures: &[String],
        key_of: impl Fn(&str) -> Result<PublicKey, SignatureError>,
    ) -> Result<Vec<Signature>, SignatureError> {
        if signatures.is_empty() {
            return Err(SignatureError::Unsigned);
        }
        let mut found: Vec<Signature> = Vec::new();
        for compact in signatures {
            let signature = self.verify_one(compact, &key_of)?;
            if found.iter().any(|other| other.key.suite() == signature.key.suite()) {
                return Err(SignatureError::TooMany);
            }
            found.push(signature);
        }
        Ok(found)
    }

    fn verify_one(
        &self,
        compact: &str,
        key_of: impl Fn(&str) -> Result<PublicKey, SignatureError>,
    ) -> Result<Signature, SignatureError> {
        let kid = jws::peek_within(compact, MAX_SIGNATURE_BYTES).map_err(SignatureError::Jws)?.kid;
        let key = key_of(&kid)?;
        let verified = jws::verify_within(compact, MAX_SIGNATURE_BYTES, |_| Some(key.clone()));
        let verified = verified.map_err(SignatureError::Jws)?;
        if verified.typ.as_deref() != Some(TYP) {
            return Err(SignatureError::Typ { found: verified.typ.unwrap_or_default() });
        }
        if verified.payload != self.payload(key.suite()) {
            return Err(SignatureError::OtherSubject { kid });
        }
        Ok(Signature { kid, key, compact: compact.to_owned() })
    }
}

/// The refusal of a key that nobody knows.
pub fn unknown(kid: &str) -> SignatureError {
    SignatureError::Jws(JwsError::UnknownKey { kid: kid.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(suite: Suite, seed: u8) -> SecretKey {
        SecretKey::from_seed(suite, &[seed; 32]).unwrap()
    }

    fn did(name: &str) -> Did {
        format!("did:web:{name}.example").parse().unwrap()
    }

    fn document(keys: &[(&str, &SecretKey, &[Relationship])]) -> DidDocument {
        let mut document = DidDocument::new(did("a"));
        for (fragment, key, uses) in keys {
            document.add_method(fragment, key.public().clone(), uses.iter().copied()).unwrap();
        }
        document
    }

    const CANONICAL: &[u8] = br#"{"@type":"Agreement"}"#;

    fn subject<'a>(provider: &'a Did, consumer: &'a Did) -> Subject<'a> {
        Subject { id: "urn:uuid:1", canonical: CANONICAL, provider, consumer, renews: None }
    }

    const ONE: &str = "did:web:a.example#key-1";
    const ACTING: &[Relationship] = &[Relationship::AssertionMethod, Relationship::CapabilityInvocation];
    const NATIONAL: &str = "did:web:a.example#sm2-1";

    #[test]
    fn both_suites_sign_the_same_agreement() {
        let (a, b) = (did("a"), did("b"));
        let (ed, sm) = (key(Suite::Ed25519, 1), key(Suite::Sm2, 2));
        let document = document(&[("key-1", &ed, ACTING), ("sm2-1", &sm, &[Relationship::AssertionMethod])]);
        let subject = subject(&a, &b);
        let signatures = [subject.sign(&ed, ONE), subject.sign(&sm, NATIONAL)];
        let found = subject.verify(&signatures, &document, true).unwrap();
        assert_eq!(found.iter().map(|one| one.kid.as_str()).collect::<Vec<_>>(), [ONE, NATIONAL]);
        assert_eq!(subject.verify(&signatures[..1], &document, true), Err(SignatureError::NationalMissing));
        assert!(subject.verify(&signatures[..1], &document, false).is_ok());
        assert_eq!(subject.verify(&signatures[1..], &document, true), Err(SignatureError::ActingKeyMissing));
        assert_eq!(subject.verify(&[], &document, false), Err(SignatureError::Unsigned));
        let twice = [signatures[0].clone(), signatures[0].clone()];
        assert_eq!(subject.verify(&twice, &document, false), Err(SignatureError::TooMany));
    }

    #[test]
    fn another_subject_key_or_use_is_refused() {
        let (a, b) = (did("a"), did("b"));
        let (ed, other) = (key(Suite::Ed25519, 1), key(Suite::Ed25519, 2));
        let known = document(&[("key-1", &ed, ACTING)]);
        let subject = subject(&a, &b);
        let good = [subject.sign(&ed, ONE)];
        for changed in [
            Subject { id: "urn:uuid:2", ..subject.clone() },
            Subject { canonical: b"{}", ..subject.clone() },
            Subject { provider: &b, consumer: &a, ..subject.clone() },
            Subject { renews: Some("urn:uuid:0"), ..subject.clone() },
        ] {
            let refused = changed.verify(&good, &known, false);
            assert_eq!(refused, Err(SignatureError::OtherSubject { kid: ONE.to_owned() }));
        }
        let by_other = [subject.sign(&other, ONE)];
        assert!(matches!(subject.verify(&by_other, &known, false), Err(SignatureError::Jws(JwsError::Signature(_)))));
        let unknown_kid = [subject.sign(&ed, "did:web:b.example#key-1")];
        assert!(matches!(
            subject.verify(&unknown_kid, &known, false),
            Err(SignatureError::Jws(JwsError::UnknownKey { .. }))
        ));
        let wrong_use = document(&[("key-1", &ed, &[Relationship::CapabilityInvocation])]);
        assert_eq!(subject.verify(&good, &wrong_use, false), Err(SignatureError::Relationship { kid: ONE.to_owned() }));
        let token = [jws::sign(&ed, ONE, "JWT", &subject.payload(Suite::Ed25519))];
        assert!(matches!(subject.verify(&token, &known, false), Err(SignatureError::Typ { .. })));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_without_panic(text in ".{0,300}") {
            let (a, b) = (did("a"), did("b"));
            let ed = key(Suite::Ed25519, 1);
            let known = document(&[("key-1", &ed, ACTING)]);
            prop_assert!(subject(&a, &b).verify(&[text], &known, false).is_err());
        }
    }
}
