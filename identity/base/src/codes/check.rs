//! The two check systems.

/// The check alphabet of MOD 37-2: position is value, `*` is 36.
const MOD_37_ALPHABET: &[u8; 37] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ*";

/// The alphabet of GB 32100, which leaves out I, O, S, V and Z; position is value.
pub(super) const USCC_ALPHABET: &[u8; 31] = b"0123456789ABCDEFGHJKLMNPQRTUWXY";

/// The weights of GB 32100-2015 section 5.1, 3^(i-1) mod 31.
const USCC_WEIGHTS: [usize; 17] = [1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28];

/// The check character of `body` (GB/T 17710, ISO/IEC 7064, pure system MOD 37-2).
///
/// With the character appended, the sum of value × 2^(places to the right) is 1 modulo 37. It finds every single
/// substitution and every transposition of two neighbours. `None` if `body` has a character outside `0-9A-Z`.
pub fn check_character(body: &str) -> Option<char> {
    let mut sum = 0;
    for byte in body.bytes() {
        let value = MOD_37_ALPHABET.iter().position(|b| *b == byte).filter(|value| *value < 36)?;
        sum = (sum + value) * 2 % 37;
    }
    MOD_37_ALPHABET.get((38 - sum) % 37).map(|byte| char::from(*byte))
}

/// The 18th character of a unified social credit code from its first 17 (GB 32100-2015 section 5.1, modulo 31).
///
/// `None` if `body` is not 17 characters of that code's alphabet.
pub fn uscc_check_character(body: &str) -> Option<char> {
    if body.len() != USCC_WEIGHTS.len() {
        return None;
    }
    let mut sum = 0;
    for (byte, weight) in body.bytes().zip(USCC_WEIGHTS) {
        sum += USCC_ALPHABET.iter().position(|b| *b == byte)? * weight;
    }
    USCC_ALPHABET.get((31 - sum % 31) % 31).map(|byte| char::from(*byte))
}
