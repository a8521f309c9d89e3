//! `Range` and `If-Range` (RFC 9110 section 14), one range a request.

use http::{HeaderMap, header};

/// What part of a file is asked for; `end` is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Whole,
    Part { start: u64, end: u64 },
    Unsatisfiable,
}

/// Reads the headers. A range that is malformed, multiple, or meant for another version of the file is ignored, as
/// the RFC allows.
pub(super) fn asked_range(headers: &HeaderMap, etag: &str, size_bytes: u64) -> Asked {
    let Some(text) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else { return Asked::Whole };
    if headers.get(header::IF_RANGE).is_some_and(|known| known.as_bytes() != etag.as_bytes()) {
        return Asked::Whole;
    }
    parse(text, size_bytes).unwrap_or(Asked::Whole)
}

fn parse(text: &str, size_bytes: u64) -> Option<Asked> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    let (start, end) = match (first.trim(), last.trim()) {
        ("", suffix) => (size_bytes.saturating_sub(number(suffix)?), size_bytes),
        (start, "") => (number(start)?, size_bytes),
        (start, last) => (number(start)?, number(last)?.saturating_add(1).min(size_bytes)),
    };
    let is_inverted = last.trim().parse::<u64>().is_ok_and(|last| !first.trim().is_empty() && last < start);
    if is_inverted {
        return None;
    }
    Some(if start >= size_bytes || start >= end { Asked::Unsatisfiable } else { Asked::Part { start, end } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(range: &str, if_range: Option<&str>, wanted: Asked) {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().unwrap());
        if let Some(etag) = if_range {
            headers.insert(header::IF_RANGE, etag.parse().unwrap());
        }
        assert_eq!(asked_range(&headers, "\"a\"", 100), wanted, "{range}");
    }

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        check("bytes=0-9", None, Asked::Part { start: 0, end: 10 });
        check("bytes=90-", None, Asked::Part { start: 90, end: 100 });
        check("bytes=-10", None, Asked::Part { start: 90, end: 100 });
        check("bytes=-1000", None, Asked::Part { start: 0, end: 100 });
        check("bytes=95-1000", None, Asked::Part { start: 95, end: 100 });
        check("bytes=100-", None, Asked::Unsatisfiable);
        check("bytes=-0", None, Asked::Unsatisfiable);
        check("bytes=9-0", None, Asked::Whole);
        check("bytes=0-1,5-6", None, Asked::Whole);
        check("lines=0-1", None, Asked::Whole);
        check("bytes=5-", Some("\"a\""), Asked::Part { start: 5, end: 100 });
        check("bytes=5-", Some("\"b\""), Asked::Whole);
    }

    proptest! {
        #[test]
        fn a_part_lies_within_the_file(text in "[ -~]{0,40}", size in 0_u64..1000) {
            if let Some(Asked::Part { start, end }) = parse(&text, size) {
                prop_assert!(start < end && end <= size);
            }
        }
    }
}
