//! gzip (RFC 1952) from foreign hands: bounded output, so that a small input cannot fill the memory.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// Why bytes could not be unpacked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GunzipError {
    /// Not gzip, cut short, or its checksum does not hold.
    #[error("not a gzip stream")]
    Malformed,
    /// More than the caller's limit comes out.
    #[error("gzip stream unpacks to more than {max_bytes} bytes")]
    TooLarge {
        /// The limit, in bytes.
        max_bytes: usize,
    },
}

/// Unpacks `bytes` to at most `max_bytes`.
///
/// # Errors
/// [`GunzipError`].
pub fn gunzip(bytes: &[u8], max_bytes: usize) -> Result<Vec<u8>, GunzipError> {
    let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
    let mut out = Vec::new();
    GzDecoder::new(bytes).take(limit).read_to_end(&mut out).map_err(|_| GunzipError::Malformed)?;
    if max_bytes < out.len() { Err(GunzipError::TooLarge { max_bytes }) } else { Ok(out) }
}

/// Packs `bytes`; the same bytes give the same packing, without time or name.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to a vector does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let bomb = gzip(&vec![0; 64 << 20]);
        assert!(bomb.len() < 128 << 10, "{}", bomb.len());
        assert_eq!(gunzip(&bomb, 1 << 20), Err(GunzipError::TooLarge { max_bytes: 1 << 20 }));
        assert_eq!(gunzip(b"not gzip", 100), Err(GunzipError::Malformed));
        let whole = gzip(b"some bytes");
        assert_eq!(gunzip(&whole[..whole.len() - 1], 100), Err(GunzipError::Malformed));
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_out(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(gunzip(&gzip(&bytes), 300), Ok(bytes));
        }

        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = gunzip(&bytes, 1000);
        }
    }
}
