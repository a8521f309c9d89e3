//! COSE receipts (RFC 9942): an entry's place in a log, for users of SCITT (RFC 9943).
//!
//! A receipt is a COSE_Sign1 (RFC 9052) over the root of the tree, which is not in it: whoever verifies computes the root
//! from the entry and the path. The structure is `RFC9162_SHA256` (1), so a receipt is of the SHA-256 tree and signed with
//! its Ed25519 key; there is no registered structure for SM3, and none is made up here. The size of the tree is not under
//! the signature (RFC 9942 section 5.2): a receipt proves that an entry is in the log, a proof file also proves where.
//!
//! Written is the deterministic form (RFC 8949 section 4.2.1); read is any form with definite lengths and shortest
//! integers. Unknown header parameters are passed over, except critical ones, of which none is known.

mod cbor;

use shuyu_base::HashKind;
use shuyu_base::keys::{PublicKey, SecretKey, Suite};

use crate::merkle::{Hash, MAX_PROOF_HASHES, ProofError, leaf_hash, root_of_inclusion};
use cbor::{Reader, Writer};

/// Largest receipt accepted, in bytes: 64 hashes, and room for headers.
pub const MAX_RECEIPT_BYTES: usize = 16 * 1024;

/// Longest text in a receipt, in bytes: an issuer's DID, a subject, a key's name.
pub const MAX_TEXT_BYTES: usize = 2048;

const COSE_SIGN1: u64 = 18;
const EDDSA: i64 = -8;
const RFC9162_SHA256: i64 = 1;
const ALG: i64 = 1;
const CRIT: i64 = 2;
const KID: i64 = 4;
const CWT_CLAIMS: i64 = 15;
const VDS: i64 = 395;
const VDP: i64 = 396;
const INCLUSION: i64 = -1;
const ISS: i64 = 1;
const SUB: i64 = 2;

/// Who says it, under which key, about which log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiptClaims {
    /// The name of the key: the identifier of a verification method.
    pub kid: String,
    /// The issuer (CWT claim 1): the DID of the log's owner.
    pub issuer: String,
    /// The subject (CWT claim 2): the log's origin.
    pub subject: String,
}

/// A receipt, as read: nothing in it is verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Who says it; empty where the receipt does not.
    pub claims: ReceiptClaims,
    /// The place of the entry, from 0.
    pub index: u64,
    /// Entries of the tree.
    pub size: u64,
    /// The hashes from the leaf's sibling up.
    pub path: Vec<Hash>,
    /// The protected header as it is signed.
    protected: Vec<u8>,
    signature: [u8; 64],
}

/// Why a receipt was not signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignReceiptError {
    /// Not an Ed25519 key; receipts are of the SHA-256 tree alone.
    #[error("receipts are signed with Ed25519 over the SHA-256 tree; there are none of the SM3 twin")]
    Suite,
    /// A claim is longer than [`MAX_TEXT_BYTES`].
    #[error("a claim of the receipt is longer than {MAX_TEXT_BYTES} bytes")]
    Claim,
    /// The proof does not lead from this entry to a root.
    #[error("the proof is of another entry")]
    Proof(#[from] ProofError),
}

/// Why bytes are not a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseReceiptError {
    /// Longer than [`MAX_RECEIPT_BYTES`].
    #[error("receipt is longer than {MAX_RECEIPT_BYTES} bytes")]
    TooLarge,
    /// Not CBOR with definite lengths, or it goes on after its end.
    #[error("receipt is not strict CBOR")]
    Cbor,
    /// Not a COSE_Sign1 with a detached payload.
    #[error("receipt is not a COSE_Sign1 with a detached payload")]
    Sign1,
    /// A header parameter is missing, doubled or malformed.
    #[error("`{parameter}` of the receipt is missing or malformed")]
    Header {
        /// Its name.
        parameter: &'static str,
    },
    /// Another algorithm than EdDSA, or another structure than RFC9162_SHA256.
    #[error("`{parameter}` of the receipt is not the one known here")]
    Unsupported {
        /// Its name.
        parameter: &'static str,
    },
}

/// Why a receipt does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyReceiptError {
    /// The path does not fit the place and the size.
    #[error("the receipt's path does not fit")]
    Proof(#[from] ProofError),
    /// The key did not sign the root to which the path leads.
    #[error("the receipt is of another entry, or not signed by this key")]
    Signature,
}

impl Receipt {
    /// Signs the receipt of an entry: `path` leads from it to the root of a published tree of `size` entries.
    ///
    /// # Errors
    /// [`SignReceiptError`].
    pub fn sign(
        key: &SecretKey,
        claims: ReceiptClaims,
        entry: &[u8],
        (index, size, path): (u64, u64, Vec<Hash>),
    ) -> Result<Self, SignReceiptError> {
        if key.suite() != Suite::Ed25519 {
            return Err(SignReceiptError::Suite);
        }
        if [&claims.kid, &claims.issuer, &claims.subject].iter().any(|text| MAX_TEXT_BYTES < text.len()) {
            return Err(SignReceiptError::Claim);
        }
        let leaf = leaf_hash(HashKind::Sha256, entry);
        let root = root_of_inclusion(HashKind::Sha256, &leaf, index, size, &path)?;
        let protected = protected(&claims);
        let signature = key.sign(&to_be_signed(&protected, &root));
        Ok(Self { claims, index, size, path, protected, signature })
    }

    /// The bytes of the receipt.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut proof = Writer::default();
        proof.array(3).uint(self.size).uint(self.index).array(self.path.len());
        self.path.iter().for_each(|hash| {
            proof.bytes(&hash.0);
        });
        let mut receipt = Writer::default();
        receipt.tag(COSE_SIGN1).array(4).bytes(&self.protected);
        receipt.map(1).int(VDP).map(1).int(INCLUSION).array(1).bytes(&proof.into_bytes());
        receipt.null().bytes(&self.signature);
        receipt.into_bytes()
    }

    /// Reads a receipt with one inclusion proof.
    ///
    /// # Errors
    /// [`ParseReceiptError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseReceiptError> {
        if MAX_RECEIPT_BYTES < bytes.len() {
            return Err(ParseReceiptError::TooLarge);
        }
        let mut reader = Reader::new(bytes);
        if reader.tag() != Some(COSE_SIGN1) || reader.array() != Some(4) {
            return Err(ParseReceiptError::Sign1);
        }
        let protected = reader.bytes().ok_or(ParseReceiptError::Sign1)?.to_vec();
        let claims = read_protected(&protected)?;
        let (index, size, path) = read_unprotected(&mut reader)?;
        reader.null().ok_or(ParseReceiptError::Sign1)?;
        let signature = reader.bytes().and_then(|bytes| bytes.try_into().ok()).ok_or(ParseReceiptError::Sign1)?;
        if !reader.is_at_end() {
            return Err(ParseReceiptError::Cbor);
        }
        Ok(Self { claims, index, size, path, protected, signature })
    }

    /// Checks that `key` signed the root of a tree with this entry; the root.
    ///
    /// # Errors
    /// [`VerifyReceiptError`].
    pub fn verify(&self, entry: &[u8], key: &PublicKey) -> Result<Hash, VerifyReceiptError> {
        let leaf = leaf_hash(HashKind::Sha256, entry);
        let root = root_of_inclusion(HashKind::Sha256, &leaf, self.index, self.size, &self.path)?;
        if key.suite() != Suite::Ed25519 {
            return Err(VerifyReceiptError::Signature);
        }
        key.verify(&to_be_signed(&self.protected, &root), &self.signature)
            .map_err(|_| VerifyReceiptError::Signature)?;
        Ok(root)
    }
}

/// RFC 9052 section 4.4, without external data.
fn to_be_signed(protected: &[u8], root: &Hash) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.array(4).text("Signature1").bytes(protected).bytes(&[]).bytes(&root.0);
    writer.into_bytes()
}

fn protected(claims: &ReceiptClaims) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.map(4).int(ALG).int(EDDSA).int(KID).bytes(claims.kid.as_bytes());
    writer.int(CWT_CLAIMS).map(2).int(ISS).text(&claims.issuer).int(SUB).text(&claims.subject);
    writer.int(VDS).int(RFC9162_SHA256);
    writer.into_bytes()
}

fn read_protected(bytes: &[u8]) -> Result<ReceiptClaims, ParseReceiptError> {
    let mut reader = Reader::new(bytes);
    let mut claims = ReceiptClaims::default();
    let (mut alg, mut vds, mut labels) = (None, None, Vec::new());
    for _ in 0..reader.map().ok_or(ParseReceiptError::Cbor)? {
        let Some(label) = label(&mut reader, &mut labels)? else { continue };
        let bad = |parameter| ParseReceiptError::Header { parameter };
        match label {
            ALG => alg = Some(reader.int().ok_or(bad("alg"))?),
            VDS => vds = Some(reader.int().ok_or(bad("vds"))?),
            CRIT => return Err(ParseReceiptError::Unsupported { parameter: "crit" }),
            KID => claims.kid = reader.bytes().and_then(text).ok_or(bad("kid"))?,
            CWT_CLAIMS => read_claims(&mut reader, &mut claims).ok_or(bad("CWT claims"))?,
            _ => reader.skip().ok_or(ParseReceiptError::Cbor)?,
        }
    }
    for (found, known, parameter) in [(alg, EDDSA, "alg"), (vds, RFC9162_SHA256, "vds")] {
        if found.ok_or(ParseReceiptError::Header { parameter })? != known {
            return Err(ParseReceiptError::Unsupported { parameter });
        }
    }
    if reader.is_at_end() { Ok(claims) } else { Err(ParseReceiptError::Cbor) }
}

/// The next label of a map, each once; `None` if it is a text, whose value is passed over.
fn label(reader: &mut Reader<'_>, seen: &mut Vec<i64>) -> Result<Option<i64>, ParseReceiptError> {
    let Some(label) = reader.int() else {
        reader.text().and_then(|_| reader.skip()).ok_or(ParseReceiptError::Cbor)?;
        return Ok(None);
    };
    if seen.contains(&label) {
        return Err(ParseReceiptError::Header { parameter: "label" });
    }
    seen.push(label);
    Ok(Some(label))
}

fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (text.len() <= MAX_TEXT_BYTES).then(|| text.to_owned())
}

fn read_claims(reader: &mut Reader<'_>, claims: &mut ReceiptClaims) -> Option<()> {
    let mut labels = Vec::new();
    for _ in 0..reader.map()? {
        match label(reader, &mut labels).ok()? {
            Some(ISS) => claims.issuer = reader.text().and_then(|found| text(found.as_bytes()))?,
            Some(SUB) => claims.subject = reader.text().and_then(|found| text(found.as_bytes()))?,
            Some(_) => reader.skip()?,
            None => {}
        }
    }
    Some(())
}

type Place = (u64, u64, Vec<Hash>);

fn read_unprotected(reader: &mut Reader<'_>) -> Result<Place, ParseReceiptError> {
    let (mut place, mut labels) = (None, Vec::new());
    for _ in 0..reader.map().ok_or(ParseReceiptError::Cbor)? {
        match label(reader, &mut labels)? {
            Some(VDP) => place = Some(read_proofs(reader).ok_or(ParseReceiptError::Header { parameter: "vdp" })?),
            // What the signature does not cover must not say otherwise.
            Some(ALG | CRIT | KID | CWT_CLAIMS | VDS) => {
                return Err(ParseReceiptError::Header { parameter: "unprotected" });
            }
            Some(_) => reader.skip().ok_or(ParseReceiptError::Cbor)?,
            None => {}
        }
    }
    place.ok_or(ParseReceiptError::Header { parameter: "vdp" })
}

/// One inclusion proof, and no other.
fn read_proofs(reader: &mut Reader<'_>) -> Option<Place> {
    if reader.map()? != 1 || reader.int()? != INCLUSION || reader.array()? != 1 {
        return None;
    }
    let mut proof = Reader::new(reader.bytes()?);
    if proof.array()? != 3 {
        return None;
    }
    let (size, index, count) = (proof.uint()?, proof.uint()?, proof.array()?);
    if MAX_PROOF_HASHES < usize::try_from(count).ok()? {
        return None;
    }
    let path = (0..count).map(|_| proof.bytes()?.try_into().ok().map(Hash)).collect::<Option<Vec<_>>>()?;
    proof.is_at_end().then_some((index, size, path))
}

#[cfg(test)]
mod tests;
