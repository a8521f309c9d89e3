//! Entry bundles: entries behind big-endian 16-bit lengths (tlog-tiles, "Log entries").

/// Largest entry, in bytes: what a 16-bit length can say.
pub const MAX_ENTRY_BYTES: usize = 65_535;

/// Largest bundle, in bytes: 256 of the largest entries with their lengths.
pub const MAX_BUNDLE_BYTES: usize = 256 * (MAX_ENTRY_BYTES + 2);

/// Why bytes are not an entry bundle of the width asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The bytes end inside an entry or before the last one.
    #[error("entry bundle ends inside entry {at}")]
    Cut {
        /// Position in the bundle, from 0.
        at: usize,
    },
    /// Bytes follow the last entry.
    #[error("entry bundle has {len_bytes} bytes after its last entry")]
    Trailing {
        /// How many bytes follow.
        len_bytes: usize,
    },
    /// An entry does not fit a 16-bit length.
    #[error("entry is {len_bytes} bytes, the limit is {MAX_ENTRY_BYTES}")]
    EntryTooLarge {
        /// Length found, in bytes.
        len_bytes: usize,
    },
}

/// Reads exactly `width` entries, borrowing them from `bytes`.
///
/// # Errors
/// [`BundleError`] when there are fewer, or bytes are left over.
pub fn read_bundle(mut bytes: &[u8], width: u16) -> Result<Vec<&[u8]>, BundleError> {
    let mut entries = Vec::with_capacity(usize::from(width).min(256));
    for at in 0..usize::from(width) {
        let (len, rest) = bytes.split_first_chunk::<2>().ok_or(BundleError::Cut { at })?;
        let len = usize::from(u16::from_be_bytes(*len));
        let (entry, rest) = rest.split_at_checked(len).ok_or(BundleError::Cut { at })?;
        entries.push(entry);
        bytes = rest;
    }
    if bytes.is_empty() { Ok(entries) } else { Err(BundleError::Trailing { len_bytes: bytes.len() }) }
}

/// Writes entries one after another, each behind its length.
///
/// # Errors
/// [`BundleError::EntryTooLarge`].
pub fn write_bundle<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, BundleError> {
    let mut bytes = Vec::new();
    for entry in entries {
        let len = u16::try_from(entry.len()).map_err(|_| BundleError::EntryTooLarge { len_bytes: entry.len() })?;
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_entry_fits_and_the_next_does_not() {
        let largest = vec![7; MAX_ENTRY_BYTES];
        let bytes = write_bundle([largest.as_slice()]).unwrap();
        assert_eq!(read_bundle(&bytes, 1), Ok(vec![largest.as_slice()]));
        let over = vec![7; MAX_ENTRY_BYTES + 1];
        assert_eq!(write_bundle([over.as_slice()]), Err(BundleError::EntryTooLarge { len_bytes: 65_536 }));
    }

    proptest! {
        #[test]
        fn bundles_round_trip(entries in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..40)) {
            let width = u16::try_from(entries.len()).unwrap();
            let bytes = write_bundle(entries.iter().map(Vec::as_slice)).unwrap();
            prop_assert_eq!(read_bundle(&bytes, width).unwrap(), entries.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert!(read_bundle(&bytes, width + 1).is_err());
            prop_assert!(width == 0 || read_bundle(&bytes, width - 1).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), width in any::<u16>()) {
            let _ = read_bundle(&bytes, width);
        }
    }
}
