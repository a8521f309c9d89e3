//! The JSON Web Key form of a public key (RFC 7517): `OKP`/`Ed25519` (RFC 8037), `EC`/`P-256` (RFC 7518) and
//! `EC`/`SM2`, a private profile after draft-dang-webauthn-sm2-00, which is not registered with IANA.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use serde_json::{Map, Value, json};

use super::public::Point;
use super::{ParseKeyError, PublicKey, Suite};

/// Members that only a private or a symmetric key has (RFC 7518 section 6).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

const COORDINATE_BYTES: usize = 32;

impl PublicKey {
    /// The JWK with its required members only, `kty`, `crv`, `x` and for a curve point `y`.
    pub fn to_jwk(&self) -> Value {
        match self.jwk_members() {
            (kty, crv, x, None) => json!({"kty": kty, "crv": crv, "x": x}),
            (kty, crv, x, Some(y)) => json!({"kty": kty, "crv": crv, "x": x, "y": y}),
        }
    }

    /// Reads a public JWK. Members it does not know are ignored (RFC 7517 section 4).
    ///
    /// # Errors
    /// [`ParseKeyError`] when a required member is missing or not canonical, when a private member is present, when
    /// `alg` or `use` contradicts the key type, or when the point is not on the curve.
    pub fn from_jwk(jwk: &Value) -> Result<Self, ParseKeyError> {
        let members = jwk.as_object().ok_or(ParseKeyError::JwkMember { member: "kty" })?;
        if let Some(member) = PRIVATE_MEMBERS.into_iter().find(|member| members.contains_key(*member)) {
            return Err(ParseKeyError::JwkPrivate { member });
        }
        let suite = match text(members, "kty")? {
            "OKP" if text(members, "crv")? == "Ed25519" => Suite::Ed25519,
            "EC" => match text(members, "crv")? {
                "P-256" => Suite::P256,
                "SM2" => Suite::Sm2,
                _ => return Err(ParseKeyError::JwkUnsupported { member: "crv" }),
            },
            "OKP" => return Err(ParseKeyError::JwkUnsupported { member: "crv" }),
            _ => return Err(ParseKeyError::JwkUnsupported { member: "kty" }),
        };
        if members.get("alg").is_some_and(|alg| alg.as_str().and_then(Suite::from_jose_alg) != Some(suite)) {
            return Err(ParseKeyError::JwkUnsupported { member: "alg" });
        }
        if members.get("use").is_some_and(|purpose| purpose != "sig") {
            return Err(ParseKeyError::JwkUnsupported { member: "use" });
        }
        let x = coordinate(members, "x")?;
        match suite {
            Suite::Ed25519 => Self::from_sec1_or_raw(suite, &x),
            Suite::P256 | Suite::Sm2 => {
                let mut point = vec![0x04];
                point.extend(x);
                point.extend(coordinate(members, "y")?);
                Self::from_sec1_or_raw(suite, &point)
            }
        }
    }

    /// The bytes that RFC 7638 section 3 hashes: required members in lexicographic order, no white space.
    pub(super) fn thumbprint_input(&self) -> String {
        match self.jwk_members() {
            (kty, crv, x, None) => format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}"}}"#),
            (kty, crv, x, Some(y)) => format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}","y":"{y}"}}"#),
        }
    }

    fn jwk_members(&self) -> (&'static str, &'static str, String, Option<String>) {
        let point = match &self.0 {
            Point::Ed25519(key) => return ("OKP", "Ed25519", URL_SAFE_NO_PAD.encode(key.as_bytes()), None),
            Point::P256(key) => key.as_affine().to_sec1_point(false).as_bytes().to_vec(),
            Point::Sm2(key) => key.as_affine().to_sec1_point(false).as_bytes().to_vec(),
        };
        let coordinate =
            |from: usize| URL_SAFE_NO_PAD.encode(point.get(from..from + COORDINATE_BYTES).unwrap_or_default());
        let crv = if self.suite() == Suite::P256 { "P-256" } else { "SM2" };
        ("EC", crv, coordinate(1), Some(coordinate(1 + COORDINATE_BYTES)))
    }
}

fn text<'a>(members: &'a Map<String, Value>, member: &'static str) -> Result<&'a str, ParseKeyError> {
    members.get(member).and_then(Value::as_str).ok_or(ParseKeyError::JwkMember { member })
}

fn coordinate(members: &Map<String, Value>, member: &'static str) -> Result<Vec<u8>, ParseKeyError> {
    let bytes = URL_SAFE_NO_PAD.decode(text(members, member)?).map_err(|_| ParseKeyError::JwkMember { member })?;
    if bytes.len() != COORDINATE_BYTES {
        return Err(ParseKeyError::JwkMember { member });
    }
    Ok(bytes)
}
