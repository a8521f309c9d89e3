//! Numbers as the C2SP texts write them: ASCII decimal, no sign, no leading zero.

/// Reads `0` or a decimal number without leading zeros, below 2^63.
///
/// 2^63 is the bound of Go's `int64`, in which other readers of these formats keep tree sizes.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let canonical = text == "0" || (!text.starts_with('0') && !text.is_empty());
    if !canonical || 19 < text.len() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse::<u64>().ok().filter(|n| *n < 1 << 63)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_the_one_spelling_of_a_number_is_read() {
        assert_eq!(parse("0"), Some(0));
        assert_eq!(parse("9223372036854775807"), Some((1 << 63) - 1));
        for text in ["", "00", "01", "+1", "-1", " 1", "1 ", "9223372036854775808", "1e3", "١"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
