//! Answers one question, given as JSON on stdin, with one line of JSON on stdout: `{"answer": ...}` or
//! `{"refused": "why"}`. The answers come from `sm-crypto` and from the parts of `ssi`; nothing of Shuyu is in here.
//!
//! | ask | members | answer |
//! |---|---|---|
//! | `sm3` | `message` (hex) | the hash, hex |
//! | `sm2-public` | `secret` (hex) | x ‖ y, hex |
//! | `sm2-sign` | `secret`, `message` (hex) | `{r, s}`, hex |
//! | `sm2-verify` | `public` (x ‖ y), `message`, `r`, `s` (hex) | true or false |
//! | `jws-sign` | `jwk` (private), `kid`, `typ`, `payload` (text) | compact JWS |
//! | `jws-verify` | `jwk`, `compact` | `{header, payload}` |
//! | `did` | `method` (`key` or `jwk`), `jwk` | the DID |
//! | `resolve` | `did` | the DID document |
//! | `key` | `url` (DID URL), `document`? | the JWK and its thumbprint |
//! | `jwt-verify` | `compact`, `now` (Unix seconds), `document`? | the claims |

use std::borrow::Cow;
use std::error::Error;
use std::io::Read as _;

use futures_executor::block_on;
use num_bigint::BigUint;
use serde_json::{Value, json};
use ssi_claims_core::chrono::{DateTime, Utc};
use ssi_claims_core::{DateTimeProvider, ResolverProvider};
use ssi_dids_core::resolution::{self, Options, Output};
use ssi_dids_core::{DID, DIDBuf, DIDResolver, StaticDIDResolver, VerificationMethodDIDResolver};
use ssi_jwk::{JWK, JWKResolver as _};
use ssi_jws::{Header, JwsSlice};
use ssi_jwt::ToDecodedJwt as _;
use ssi_verification_methods::AnyMethod;

type Answer = Result<Value, Box<dyn Error>>;

fn main() -> Result<(), Box<dyn Error>> {
    let mut question = String::new();
    std::io::stdin().read_to_string(&mut question)?;
    let question = Question(serde_json::from_str(&question)?);
    let answer = match answer(&question) {
        Ok(answer) => json!({ "answer": answer }),
        Err(refused) => json!({"refused": refused.to_string()}),
    };
    println!("{answer}");
    Ok(())
}

fn answer(question: &Question) -> Answer {
    match question.text("ask")? {
        "sm3" => Ok(sm_crypto::sm3::sm3_hash(&question.hex("message")?).into()),
        "sm2-public" => Ok(sm_crypto::sm2::pk_from_sk(question.text("secret")?).into()),
        "sm2-sign" => sm2_sign(question),
        "sm2-verify" => sm2_verify(question),
        "jws-sign" => jws_sign(question),
        "jws-verify" => jws_verify(question),
        "did" => did(question),
        "resolve" => resolve(question),
        "key" => key(question),
        "jwt-verify" => jwt_verify(question),
        other => Err(format!("nobody here knows `{other}`").into()),
    }
}

fn sm2_sign(question: &Question) -> Answer {
    let signer = sm_crypto::sm2::Sign::new(question.text("secret")?);
    let (r, s) = signer.sign(&question.hex("message")?, true);
    Ok(json!({"r": format!("{r:064x}"), "s": format!("{s:064x}")}))
}

fn sm2_verify(question: &Question) -> Answer {
    let number = |member| Ok::<_, Box<dyn Error>>(BigUint::from_bytes_be(&question.hex(member)?));
    let verifier = sm_crypto::sm2::Verify::new(question.text("public")?);
    Ok(verifier.verify(&question.hex("message")?, (number("r")?, number("s")?), true).into())
}

fn jws_sign(question: &Question) -> Answer {
    let jwk = question.jwk()?;
    let header = Header {
        algorithm: jwk.get_algorithm().ok_or("the key has no algorithm")?,
        key_id: Some(question.text("kid")?.to_owned()),
        type_: Some(question.text("typ")?.to_owned()),
        ..Header::default()
    };
    Ok(ssi_jws::encode_sign_custom_header(question.text("payload")?, &jwk, &header)?.into())
}

fn jws_verify(question: &Question) -> Answer {
    let (header, payload) = ssi_jws::decode_verify(question.text("compact")?, &question.jwk()?)?;
    Ok(json!({"header": header, "payload": String::from_utf8(payload)?}))
}

fn did(question: &Question) -> Answer {
    let jwk = question.jwk()?;
    match question.text("method")? {
        "key" => Ok(did_method_key::DIDKey::generate(&jwk)?.to_string().into()),
        "jwk" => Ok(did_jwk::DIDJWK::generate(&jwk).to_string().into()),
        other => Err(format!("no method `{other}` here").into()),
    }
}

fn resolve(question: &Question) -> Answer {
    let did = DIDBuf::from_string(question.text("did")?.to_owned())?;
    let output = block_on(Known::new(question)?.resolve_representation(&did, Options::default()))?;
    Ok(serde_json::from_slice(&output.document)?)
}

fn key(question: &Question) -> Answer {
    let at = At::new(question, 0)?;
    let jwk: Cow<'_, JWK> = block_on(at.resolver.fetch_public_jwk(Some(question.text("url")?)))?;
    Ok(json!({"jwk": jwk.as_ref(), "thumbprint": jwk.thumbprint()?}))
}

fn jwt_verify(question: &Question) -> Answer {
    let now = question.0["now"].as_i64().ok_or("`now` is not a number")?;
    let jws = JwsSlice::new(question.text("compact")?).map_err(|_| "not a compact JWS")?;
    let jwt = jws.to_decoded_jwt()?;
    block_on(jwt.verify(At::new(question, now)?))?.map_err(|invalid| invalid.to_string())?;
    Ok(serde_json::to_value(&jwt.signing_bytes.payload)?)
}

struct Question(Value);

impl Question {
    fn text(&self, member: &'static str) -> Result<&str, Box<dyn Error>> {
        self.0[member].as_str().ok_or_else(|| format!("`{member}` is not text").into())
    }

    fn hex(&self, member: &'static str) -> Result<Vec<u8>, Box<dyn Error>> {
        Ok(hex::decode(self.text(member)?)?)
    }

    fn jwk(&self) -> Result<JWK, Box<dyn Error>> {
        Ok(serde_json::from_value(self.0["jwk"].clone())?)
    }
}

/// did:key and did:jwk by their libraries, everything else from the document that came with the question.
struct Known(StaticDIDResolver);

impl Known {
    fn new(question: &Question) -> Result<Self, Box<dyn Error>> {
        let mut documents = StaticDIDResolver::new();
        if let Some(document) = question.0.get("document") {
            let id = document["id"].as_str().ok_or("the document has no id")?;
            let metadata = resolution::Metadata::from_content_type(Some("application/did+ld+json".to_owned()));
            let output = Output::new(serde_json::to_vec(document)?, Default::default(), metadata);
            documents.insert(DIDBuf::from_string(id.to_owned())?, output);
        }
        Ok(Self(documents))
    }
}

impl DIDResolver for Known {
    async fn resolve_representation<'a>(
        &'a self,
        did: &'a DID,
        options: Options,
    ) -> Result<Output<Vec<u8>>, resolution::Error> {
        match did.method_name() {
            "key" => did_method_key::DIDKey.resolve_representation(did, options).await,
            "jwk" => did_jwk::DIDJWK.resolve_representation(did, options).await,
            _ => self.0.resolve_representation(did, options).await,
        }
    }
}

/// A resolver of keys and a fixed time.
struct At {
    resolver: VerificationMethodDIDResolver<Known, AnyMethod>,
    now: DateTime<Utc>,
}

impl At {
    fn new(question: &Question, now: i64) -> Result<Self, Box<dyn Error>> {
        let now = DateTime::from_timestamp(now, 0).ok_or("`now` is out of range")?;
        Ok(Self { resolver: VerificationMethodDIDResolver::new(Known::new(question)?), now })
    }
}

impl ResolverProvider for At {
    type Resolver = VerificationMethodDIDResolver<Known, AnyMethod>;

    fn resolver(&self) -> &Self::Resolver {
        &self.resolver
    }
}

impl DateTimeProvider for At {
    fn date_time(&self) -> DateTime<Utc> {
        self.now
    }
}
