//! DID methods whose document follows from the DID: did:key and did:jwk.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use shuyu_base::keys::ParseKeyError;
use shuyu_base::{Did, ParseDidError, PublicKey, json};

use crate::{DidDocument, Relationship};

/// Largest JWK accepted inside a did:jwk, in bytes; a longer one does not fit a [`Did`].
const MAX_JWK_BYTES: usize = Did::MAX_BYTES;

/// Why a did:key or did:jwk has no document.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalDidError {
    /// The identifier is not base64url of JSON.
    #[error("did:jwk is not base64url of a JSON object")]
    Encoding,
    /// It holds no key that is supported.
    #[error("did holds no usable public key")]
    Key(#[source] ParseKeyError),
    /// The key is written in another way than its own form; one key would have several DIDs.
    #[error("did is not in its canonical form")]
    NotCanonical,
    /// The method's fragment does not fit; this does not happen for a DID that exists.
    #[error("did cannot name its own key")]
    Fragment,
}

/// The did:key of a public key (did:key method, section 2): its Multikey form.
///
/// # Errors
/// None in practice: a Multikey is a well-formed identifier.
pub fn did_key(key: &PublicKey) -> Result<Did, ParseDidError> {
    format!("did:key:{}", key.to_multikey()).parse()
}

/// The did:jwk of a public key: base64url of its canonical JWK.
///
/// # Errors
/// None in practice: a JWK of a supported suite is short enough.
pub fn did_jwk(key: &PublicKey) -> Result<Did, ParseDidError> {
    let jwk = json::canonical(&key.to_jwk()).unwrap_or_default(); // Has no numbers, so a canonical form exists.
    format!("did:jwk:{}", URL_SAFE_NO_PAD.encode(jwk)).parse()
}

/// The document of a did:key or did:jwk; `None` for any other method.
///
/// Its one key may be used for everything.
pub fn local_document(did: &Did) -> Option<Result<DidDocument, LocalDidError>> {
    match did.method() {
        "key" => Some(key_document(did)),
        "jwk" => Some(jwk_document(did)),
        _ => None,
    }
}

fn key_document(did: &Did) -> Result<DidDocument, LocalDidError> {
    let key = PublicKey::from_multikey(did.id()).map_err(LocalDidError::Key)?;
    if key.to_multikey() != did.id() {
        return Err(LocalDidError::NotCanonical);
    }
    one_key(did, did.id(), key)
}

fn jwk_document(did: &Did) -> Result<DidDocument, LocalDidError> {
    let bytes = URL_SAFE_NO_PAD.decode(did.id()).map_err(|_| LocalDidError::Encoding)?;
    let jwk = json::parse(&bytes, MAX_JWK_BYTES).map_err(|_| LocalDidError::Encoding)?;
    let key = PublicKey::from_jwk(&jwk).map_err(LocalDidError::Key)?;
    one_key(did, "0", key) // The did:jwk method names its key `#0`.
}

fn one_key(did: &Did, fragment: &str, key: PublicKey) -> Result<DidDocument, LocalDidError> {
    let mut document = DidDocument::new(did.clone());
    document.add_method(fragment, key, Relationship::ALL).map_err(|_| LocalDidError::Fragment)?;
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shuyu_base::{SecretKey, Suite};

    #[test]
    fn keys_of_every_suite_round_trip() {
        for suite in Suite::ALL {
            let secret = SecretKey::from_seed(suite, &[7; 32]).unwrap();
            for did in [did_key(secret.public()).unwrap(), did_jwk(secret.public()).unwrap()] {
                let document = local_document(&did).unwrap().unwrap();
                let method = &document.methods()[0];
                assert_eq!((document.id(), &method.key), (&did, secret.public()));
                assert_eq!(method.relationships.len(), 3);
                let bytes = serde_json::to_vec(&document.to_json()).unwrap();
                assert_eq!(DidDocument::parse(&bytes, &did).unwrap(), document);
            }
        }
    }

    /// The P-256 example of the did:jwk method specification; its JWK has more members than ours.
    #[test]
    fn reads_a_published_did_jwk() {
        let did: Did = "did:jwk:eyJjcnYiOiJQLTI1NiIsImt0eSI6IkVDIiwieCI6ImFjYklRaXVNczNpOF91c3pFakoydHBUdFJNNEVVM3l6OTFQSDZDZEgyVjAiLCJ5IjoiX0tjeUxqOXZXTXB0bm1LdG00NkdxRHo4d2Y3NEk1TEtncmwyR3pIM25TRSJ9"
            .parse()
            .unwrap();
        let document = local_document(&did).unwrap().unwrap();
        assert_eq!(document.methods()[0].id, format!("{did}#0"));
        assert_eq!(document.methods()[0].key.suite(), Suite::P256);
        assert_eq!(did_jwk(&document.methods()[0].key).unwrap(), did);
    }

    #[test]
    fn other_methods_and_bad_keys_have_no_document() {
        assert!(local_document(&"did:web:a.example".parse().unwrap()).is_none());
        for text in ["did:key:z", "did:key:abc", "did:key:z6Mk", "did:jwk:e30", "did:jwk:AA", "did:jwk:W10"] {
            assert!(local_document(&text.parse().unwrap()).unwrap().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_did_is_read_without_panic(id in "[A-Za-z0-9._%-]{1,90}", method in "key|jwk") {
            if let Ok(did) = format!("did:{method}:{id}").parse::<Did>() {
                let _ = local_document(&did);
            }
        }
    }
}
