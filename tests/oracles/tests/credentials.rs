//! JWS, DIDs and tokens against ssi: what we sign verifies there, what it signs verifies here, keys keep their names.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of a test; a panic is its failure")]

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use shuyu_base::{Did, PublicKey, SecretKey, Suite, UnixMillis};
use shuyu_credentials::{DidDocument, Draft, Relationship, TokenError, did_jwk, did_key, jws, local_document, token};
use shuyu_oracles::{Foreign, Opinion};

/// The suites ssi knows; it has no SM2.
const SHARED: [Suite; 2] = [Suite::Ed25519, Suite::P256];
const NOW: i64 = 1_795_305_600;

fn ask(ask: &str, question: Value) -> Opinion {
    Foreign::build(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap().ask(ask, question).unwrap()
}

fn key(suite: Suite) -> SecretKey {
    SecretKey::from_seed(suite, &[0x31; 32]).unwrap()
}

/// The private JWK, which nothing of ours writes.
fn private_jwk(key: &SecretKey) -> Value {
    let mut jwk = key.public().to_jwk();
    jwk["d"] = URL_SAFE_NO_PAD.encode([0x31; 32]).into();
    jwk
}

/// Both local DIDs of a key, each with the DID URL of the key.
fn names(key: &PublicKey) -> [(Did, String); 2] {
    let (by_key, by_jwk) = (did_key(key).unwrap(), did_jwk(key).unwrap());
    let (key_url, jwk_url) = (format!("{by_key}#{}", by_key.id()), format!("{by_jwk}#0"));
    [(by_key, key_url), (by_jwk, jwk_url)]
}

#[test]
fn ssi_accepts_our_jws_and_refuses_an_altered_one() {
    for suite in SHARED {
        let compact = jws::sign(&key(suite), "did:web:a.example#k", "JWT", "{\"text\":\"数域\"}".as_bytes());
        let jwk = key(suite).public().to_jwk();
        let said = ask("jws-verify", json!({"jwk": jwk, "compact": compact})).answer().unwrap();
        assert_eq!(said["payload"], "{\"text\":\"数域\"}");
        assert_eq!(said["header"], json!({"alg": suite.jose_alg(), "kid": "did:web:a.example#k", "typ": "JWT"}));
        let (header, rest) = compact.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let altered = format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode("{}"));
        assert!(matches!(ask("jws-verify", json!({"jwk": jwk, "compact": altered})), Opinion::Refused(_)));
    }
}

#[test]
fn we_accept_a_jws_of_ssi() {
    for suite in SHARED {
        let question = json!({"jwk": private_jwk(&key(suite)), "kid": "k", "typ": "text", "payload": "bytes"});
        let compact = ask("jws-sign", question).answer().unwrap();
        let verified = jws::verify(compact.as_str().unwrap(), |kid| {
            assert_eq!(kid, "k");
            Some(key(suite).public().clone())
        })
        .unwrap();
        assert_eq!((verified.payload.as_slice(), verified.typ.as_deref()), (&b"bytes"[..], Some("text")));
    }
}

/// A peer without SM2 must fail, not misread.
#[test]
fn ssi_refuses_the_national_suite() {
    let compact = jws::sign(&key(Suite::Sm2), "k", "JWT", b"{}");
    for suite in SHARED {
        let question = json!({"jwk": key(suite).public().to_jwk(), "compact": compact});
        assert!(matches!(ask("jws-verify", question), Opinion::Refused(_)));
    }
    let did = did_key(key(Suite::Sm2).public()).unwrap();
    assert!(matches!(ask("key", json!({"url": format!("{did}#{}", did.id())})), Opinion::Refused(_)));
}

#[test]
fn local_dids_are_the_same_and_resolve_there_to_the_same_key() {
    for suite in SHARED {
        let key = key(suite);
        let public = key.public();
        for ((did, url), method) in names(public).into_iter().zip(["key", "jwk"]) {
            let said = ask("did", json!({"method": method, "jwk": public.to_jwk()})).answer().unwrap();
            if method == "key" {
                assert_eq!(said, did.as_str());
            }
            // did:jwk has one DID for each spelling of the JWK; theirs must resolve here to the same key.
            let theirs: Did = said.as_str().unwrap().parse().unwrap();
            let document = local_document(&theirs).unwrap().unwrap();
            assert_eq!(document.methods()[0].key, *public);

            let said = ask("key", json!({ "url": url })).answer().unwrap();
            assert_eq!(said["jwk"]["x"], public.to_jwk()["x"]);
            assert_eq!(said["jwk"]["crv"], public.to_jwk()["crv"]);
            assert_eq!(said["thumbprint"], URL_SAFE_NO_PAD.encode(public.thumbprint().bytes()));
        }
    }
}

#[test]
fn we_read_documents_that_ssi_writes() {
    for suite in SHARED {
        let key = key(suite);
        for (did, _) in names(key.public()) {
            let said = ask("resolve", json!({"did": did.as_str()})).answer().unwrap();
            let document = DidDocument::parse(said.to_string().as_bytes(), &did).unwrap();
            let [method] = document.methods() else { panic!("{document:?}") };
            assert_eq!(method.key, *key.public());
            // ssi leaves the capabilities out for did:key; the method lists them (section 3.1.6), and so do we.
            let expected: &[Relationship] = match did.method() {
                "key" => &[Relationship::Authentication, Relationship::AssertionMethod],
                _ => &Relationship::ALL,
            };
            assert_eq!(method.relationships, expected.iter().copied().collect());
        }
    }
}

#[test]
fn ssi_finds_our_keys_in_a_did_web_document() {
    let did: Did = "did:web:a.example".parse().unwrap();
    let mut document = DidDocument::new(did.clone());
    for suite in Suite::ALL {
        document.add_method(suite.name(), key(suite).public().clone(), Relationship::ALL).unwrap();
    }
    document.add_service("dsp", "DataService", "https://a.example/dsp".parse().unwrap()).unwrap();
    for suite in SHARED {
        let question = json!({"url": format!("{did}#{}", suite.name()), "document": document.to_json()});
        let said = ask("key", question).answer().unwrap();
        assert_eq!(said["thumbprint"], URL_SAFE_NO_PAD.encode(key(suite).public().thumbprint().bytes()));
    }
}

fn issue(key: &SecretKey, issuer: &Did, kid: &str, audience: &Did, extra: Map<String, Value>) -> String {
    let now = UnixMillis::from_unix_seconds(NOW);
    let draft = Draft { issuer, audience, jti: "1b4c", now, lifetime_ms: 60_000, extra };
    token::issue(key, kid, &draft).unwrap()
}

#[test]
fn ssi_accepts_our_tokens_until_they_end() {
    let audience: Did = "did:web:b.example".parse().unwrap();
    for suite in SHARED {
        let key = key(suite);
        for (did, url) in names(key.public()) {
            let compact = issue(&key, &did, &url, &audience, Map::new());
            let claims = ask("jwt-verify", json!({"compact": compact, "now": NOW})).answer().unwrap();
            let expected = json!({
                "iss": did.as_str(), "sub": did.as_str(), "aud": audience.as_str(), "jti": "1b4c",
                "iat": NOW, "nbf": NOW, "exp": NOW + 60,
            });
            // ssi gives its numbers back as doubles.
            for (claim, value) in expected.as_object().unwrap() {
                match value.as_f64() {
                    Some(number) => assert_eq!(claims[claim].as_f64(), Some(number), "{claim}"),
                    None => assert_eq!(claims[claim], *value, "{claim}"),
                }
            }
            for (now, why) in [(NOW - 1, "before"), (NOW + 61, "after")] {
                let said = ask("jwt-verify", json!({"compact": compact, "now": now}));
                assert!(matches!(said, Opinion::Refused(_)), "{why}");
            }
        }
    }
}

#[test]
fn we_accept_tokens_of_ssi_for_us_alone() {
    let us: Did = "did:web:b.example".parse().unwrap();
    let now = UnixMillis::from_unix_seconds(NOW + 5);
    for suite in SHARED {
        let key = key(suite);
        for (did, url) in names(key.public()) {
            let claims = json!({
                "iss": did.as_str(), "sub": did.as_str(), "aud": us.as_str(), "jti": "77", "iat": NOW, "exp": NOW + 60,
            });
            let question = json!({"jwk": private_jwk(&key), "kid": url, "typ": "JWT", "payload": claims.to_string()});
            let compact = ask("jws-sign", question).answer().unwrap();
            let compact = compact.as_str().unwrap();
            assert_eq!(token::peek_issuer(compact).unwrap(), did);
            let document = local_document(&did).unwrap().unwrap();
            assert_eq!(token::verify(compact, &document, &us, now).unwrap().jti, "77");
            let other: Did = "did:web:c.example".parse().unwrap();
            assert_eq!(token::verify(compact, &document, &other, now), Err(TokenError::Audience));
        }
    }
}

/// A credential as a JWT (VC Data Model 1.1 section 6.3.1), the form `vc11-sl2021/jwt` of DCP asks for.
#[test]
fn ssi_accepts_a_credential_that_our_layer_signed() {
    for suite in SHARED {
        let key = key(suite);
        let holder = "did:web:b.example";
        for (did, url) in names(key.public()) {
            let credential = json!({
                "@context": ["https://www.w3.org/2018/credentials/v1"],
                "type": ["VerifiableCredential", "MembershipCredential"],
                "credentialSubject": {"id": holder, "memberOf": "数域"},
            });
            let claims = json!({
                "iss": did.as_str(), "sub": holder, "jti": "urn:uuid:1", "nbf": NOW, "exp": NOW + 86_400, "vc": credential,
            });
            let compact = jws::sign(&key, &url, "JWT", claims.to_string().as_bytes());
            let said = ask("jwt-verify", json!({"compact": compact, "now": NOW + 1})).answer().unwrap();
            assert_eq!(said["vc"], credential);
            assert_eq!(said["iss"], did.as_str());
        }
    }
}
