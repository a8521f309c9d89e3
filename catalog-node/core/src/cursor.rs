//! Where a page ended, as text that the consumer hands back unread.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use shuyu_base::Digest;

use crate::dataset::Dataset;

/// The identifier of the last entry of a page, bound to the conditions of the query.
///
/// It is not a secret and grants nothing: a forged one only chooses where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) query: [u8; 8],
    pub(crate) last_id: String,
}

/// Why a cursor was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CursorError {
    /// Longer than [`Cursor::MAX_BYTES`].
    #[error("cursor is {len_bytes} bytes, the limit is {}", Cursor::MAX_BYTES)]
    TooLong {
        /// Length found, in bytes.
        len_bytes: usize,
    },
    /// Made by another version of this program; start again from the first page.
    #[error("cursor has version {version}, this node knows version 1")]
    Version {
        /// The version found.
        version: u8,
    },
    /// Cut, altered, or never made by us.
    #[error("cursor is damaged")]
    Damaged,
}

const VERSION: u8 = 1;

impl Cursor {
    /// Longest cursor: version, query, check and identifier in base64.
    pub const MAX_BYTES: usize = (1 + 8 + 4 + Dataset::MAX_ID_BYTES).div_ceil(3) * 4;

    pub(crate) fn new(fingerprint: Digest, last_id: &str) -> Self {
        Self { query: first(fingerprint), last_id: last_id.to_owned() }
    }

    pub(crate) fn belongs_to(&self, fingerprint: Digest) -> bool {
        self.query == first(fingerprint)
    }

    /// The cursor as text: base64url of version, query, identifier, and four bytes that catch damage.
    pub fn to_text(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(self.query);
        bytes.extend(self.last_id.as_bytes());
        let check: [u8; 4] = first(Digest::sha256(&bytes));
        bytes.extend(check);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads [`Self::to_text`].
    ///
    /// # Errors
    /// [`CursorError`].
    pub fn from_text(text: &str) -> Result<Self, CursorError> {
        if Self::MAX_BYTES < text.len() {
            return Err(CursorError::TooLong { len_bytes: text.len() });
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError::Damaged)?;
        let (&version, _) = bytes.split_first().ok_or(CursorError::Damaged)?;
        if version != VERSION {
            return Err(CursorError::Version { version });
        }
        let (body, check) = bytes.split_last_chunk::<4>().ok_or(CursorError::Damaged)?;
        let (query, id) = body.get(1..).and_then(|rest| rest.split_first_chunk::<8>()).ok_or(CursorError::Damaged)?;
        if *check != first::<4>(Digest::sha256(body)) {
            return Err(CursorError::Damaged);
        }
        let last_id = String::from_utf8(id.to_vec()).map_err(|_| CursorError::Damaged)?;
        Ok(Self { query: *query, last_id })
    }
}

/// The first bytes of a digest.
fn first<const N: usize>(digest: Digest) -> [u8; N] {
    digest.bytes().first_chunk().copied().unwrap_or([0; N])
}
