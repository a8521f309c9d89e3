//! Cosignatures: a witness's statement that a checkpoint is the newest it saw of a log, and consistent with all before
//! (C2SP tlog-cosignature v1.0.1, `cosignature/v1`, signature type `04`).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use shuyu_base::keys::{PublicKey, SIGNATURE_BYTES, SecretKey, Suite, VerifyError};

use crate::checkpoint::{Checkpoint, ParseCheckpointError};
use crate::note::{
    Note, NoteSignature, OpenNoteError, ParseVkeyError, VkeyParts, hex_of, is_key_name, key_id_of, write_vkey,
};

/// The signature type of a cosignature by Ed25519.
const COSIGNATURE: u8 = 0x04;

/// A witness's key: `<name>+<key id in hex>+<base64 of 0x04 and the Ed25519 key>`.
///
/// A type of its own, so that it never stands for the key of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessKey {
    name: String,
    key_id: [u8; 4],
    key: PublicKey, // Invariant: Ed25519.
}

impl WitnessKey {
    /// Names the Ed25519 key of a witness.
    ///
    /// # Errors
    /// [`ParseVkeyError::Name`], and [`ParseVkeyError::Kind`] for a key of another suite.
    pub fn new(name: &str, key: PublicKey) -> Result<Self, ParseVkeyError> {
        if !is_key_name(name) {
            return Err(ParseVkeyError::Name);
        }
        match key.suite() {
            Suite::Ed25519 => Ok(Self { name: name.to_owned(), key_id: key_id_of(name, &[COSIGNATURE], &key), key }),
            Suite::P256 | Suite::Sm2 => Err(ParseVkeyError::Kind),
        }
    }

    /// The name: a schema-less URL of the witness.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The cosignature of this witness on `note`; of several the newest, `None` if there is none.
    ///
    /// # Errors
    /// [`OpenNoteError::BadSignature`] if a line of this witness does not verify.
    pub fn cosignature(&self, note: &Note) -> Result<Option<Cosignature>, OpenNoteError> {
        let check = |bytes: &[u8]| {
            let (time_s, signature) = split(bytes).ok_or(VerifyError::Length { len_bytes: bytes.len() })?;
            self.key.verify(&message(note.text(), time_s), signature)
        };
        // All lines are verified; the newest counts.
        if note.lines_of(&self.name, self.key_id, check)?.is_none() {
            return Ok(None);
        }
        let own = note.signatures().iter().filter(|line| line.name == self.name && line.key_id == self.key_id);
        let newest = own.filter_map(|line| split(&line.signature)).map(|(time_s, _)| time_s).max();
        Ok(newest.map(|time_s| Cosignature { time_s }))
    }
}

impl FromStr for WitnessKey {
    type Err = ParseVkeyError;

    fn from_str(text: &str) -> Result<Self, ParseVkeyError> {
        let parts = VkeyParts::split(text)?;
        let Some((&COSIGNATURE, key)) = parts.bytes.split_first() else { return Err(ParseVkeyError::Kind) };
        let key = PublicKey::from_bytes(Suite::Ed25519, key).map_err(|_| ParseVkeyError::Kind)?;
        let own = Self::new(parts.name, key)?;
        if hex_of(own.key_id) == parts.id { Ok(own) } else { Err(ParseVkeyError::KeyId) }
    }
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_vkey(f, &self.name, self.key_id, &[COSIGNATURE], &self.key)
    }
}

/// A verified cosignature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cosignature {
    /// When the witness says it saw the checkpoint as the newest one, in seconds since 1970.
    pub time_s: u64,
}

/// A witness's secret key.
#[derive(Clone)]
pub struct WitnessSigner {
    key: WitnessKey,
    secret: Arc<SecretKey>,
}

/// Why a text is not cosigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CosignError {
    /// A witness signs checkpoints and nothing else.
    #[error("text to cosign is not a checkpoint")]
    Checkpoint(#[from] ParseCheckpointError),
    /// The time is not below 2^63, where other readers keep it.
    #[error("time to cosign at is not below 2^63")]
    Time,
}

impl WitnessSigner {
    /// Names the secret key of a witness.
    ///
    /// # Errors
    /// As [`WitnessKey::new`].
    pub fn new(name: &str, secret: Arc<SecretKey>) -> Result<Self, ParseVkeyError> {
        Ok(Self { key: WitnessKey::new(name, secret.public().clone())?, secret })
    }

    /// The key that verifies what this one signs.
    pub fn key(&self) -> &WitnessKey {
        &self.key
    }

    /// The line that says: at `time_s` (seconds since 1970) this was the largest consistent tree seen of the log.
    ///
    /// The caller has verified the log's signature and the consistency with everything cosigned before, and has made
    /// durable that it did.
    ///
    /// # Errors
    /// [`CosignError`].
    pub fn cosign(&self, note: &Note, time_s: u64) -> Result<NoteSignature, CosignError> {
        note.text().parse::<Checkpoint>()?;
        if 1 << 63 <= time_s {
            return Err(CosignError::Time);
        }
        let mut signature = time_s.to_be_bytes().to_vec();
        signature.extend_from_slice(&self.secret.sign(&message(note.text(), time_s)));
        Ok(NoteSignature { name: self.key.name.clone(), key_id: self.key.key_id, signature })
    }
}

impl fmt::Debug for WitnessSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WitnessSigner({})", self.key)
    }
}

/// "Signed message" of the specification; extension lines of the checkpoint are part of it.
fn message(text: &str, time_s: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time_s}\n{text}").into_bytes()
}

/// `timestamped_signature`: 8 bytes of time, 64 of signature.
fn split(bytes: &[u8]) -> Option<(u64, &[u8; SIGNATURE_BYTES])> {
    let (time, signature) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*time), signature.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::read_signatures;
    use proptest::prelude::*;

    /// Made by Go's `transparency-dev/formats` v0.1.1 (`NewSignerForCosignatureV1`) with a seed of 32 bytes `02`.
    const NOTE: &str = "example.com/log\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
        — example.com/log m+XTxrfC1LMs22n3TZ5rArSlXVvU4W5UkMtZyxWOVPNzThnnG0YHF7J7AlvK+afQfhd3D8UrSdPHjQXt/RFk5m682Qo=\n\
        — witness.example.com/w1 dF+16AAAAABrAveSZUBof2HbJlxKV3Err4k3k4Lj5HnwhzsHnrP3Ex9A8P+zpJ10wPUKTZxaB9BBRIKo2cFbcau9QYk9osWenuYTCA==\n";
    const KEY: &str = "witness.example.com/w1+745fb5e8+BIE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU";
    const TIME_S: u64 = 0x6b02_f792;

    fn witness(name: &str) -> WitnessSigner {
        WitnessSigner::new(name, Arc::new(SecretKey::from_seed(Suite::Ed25519, &[2; 32]).unwrap())).unwrap()
    }

    #[test]
    fn gos_cosignature_is_read_and_made_again_byte_for_byte() {
        let key: WitnessKey = KEY.parse().unwrap();
        assert_eq!(key.to_string(), KEY);
        let note = Note::parse(NOTE.as_bytes()).unwrap();
        assert_eq!(key.cosignature(&note), Ok(Some(Cosignature { time_s: TIME_S })));
        let own = witness("witness.example.com/w1");
        assert_eq!(own.key(), &key);
        assert_eq!(own.cosign(&note, TIME_S).unwrap(), note.signatures()[1]);
        let line = format!("{}\n", note.signatures()[1]);
        assert_eq!(read_signatures(line.as_bytes()).unwrap(), note.signatures()[1..]);
    }

    #[test]
    fn time_text_and_name_are_bound() {
        let key: WitnessKey = KEY.parse().unwrap();
        let bad = Err(OpenNoteError::BadSignature { name: key.name().to_owned() });
        let note = Note::parse(NOTE.as_bytes()).unwrap();
        for forged in [NOTE.replace("20852163", "20852164"), NOTE.replace("dF+16AAAAABrAveS", "dF+16AAAAABrAveT")] {
            assert_eq!(key.cosignature(&Note::parse(forged.as_bytes()).unwrap()), bad);
        }
        let mut cut = note.signatures()[1].clone();
        cut.signature.pop();
        let other = Note::sign("t\n".to_owned(), &[]).unwrap().with_signatures([cut]).unwrap();
        assert_eq!(key.cosignature(&other), bad);
        assert_eq!(witness("other").key().cosignature(&note), Ok(None));
        // The newest of several counts, and an older one is still verified.
        let later = witness("witness.example.com/w1").cosign(&note, TIME_S + 9).unwrap();
        let both = note.clone().with_signatures([later.clone(), later]).unwrap();
        assert_eq!(both.signatures().len(), 3);
        assert_eq!(key.cosignature(&both), Ok(Some(Cosignature { time_s: TIME_S + 9 })));
        assert_eq!(witness("w").cosign(&note, 1 << 63), Err(CosignError::Time));
        let words = Note::sign("words\n".to_owned(), &[]).unwrap();
        assert!(matches!(witness("w").cosign(&words, 1), Err(CosignError::Checkpoint(_))));
    }

    #[test]
    fn a_witness_key_is_no_key_of_a_log() {
        assert!(KEY.parse::<crate::Vkey>().is_err());
        let log = crate::Vkey::new("a", witness("a").secret.public().clone()).unwrap();
        assert_eq!(log.to_string().parse::<WitnessKey>(), Err(ParseVkeyError::Kind));
        let sm2 = SecretKey::from_seed(Suite::Sm2, &[7; 32]).unwrap();
        assert_eq!(WitnessKey::new("a", sm2.public().clone()), Err(ParseVkeyError::Kind));
        for text in ["", "a", "+745fb5e8+BIE5", &KEY.replace("745f", "745e"), &KEY.replace("+BI", "+BY")] {
            assert!(text.parse::<WitnessKey>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_cosigned_verifies(time_s in 0_u64..1 << 63, size in 0_u64..1 << 63, root in any::<[u8; 32]>()) {
            let head = Checkpoint { origin: "o".to_owned(), size, root: crate::Hash(root) };
            let note = Note::sign(head.to_string(), &[]).unwrap();
            let witness = witness("w");
            let line = witness.cosign(&note, time_s).unwrap();
            let read = Note::parse(note.with_signatures([line]).unwrap().to_string().as_bytes()).unwrap();
            prop_assert_eq!(witness.key().cosignature(&read), Ok(Some(Cosignature { time_s })));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "(— [a-z]{0,3} [A-Za-z0-9+/]{8}\n){0,3}") {
            let _ = read_signatures(&bytes);
            if let Ok(lines) = read_signatures(text.as_bytes()) {
                prop_assert_eq!(lines.iter().map(|line| format!("{line}\n")).collect::<String>(), text.clone());
            }
            let _ = String::from_utf8_lossy(&bytes).parse::<WitnessKey>();
        }
    }
}
