//! Version 1 of the statement's JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shuyu_base::{Digest, UnixMillis, json};

use super::{Act, MAX_AGREEMENT_BYTES, MAX_COMMITMENTS, MAX_KIND_BYTES, MAX_PROCESS_BYTES, MAX_SEQ, Statement};

/// Largest statement accepted, in bytes; it stays well inside a ledger entry after base64 and signature.
pub const MAX_STATEMENT_BYTES: usize = 16 * 1024;

/// Why bytes are not a statement, or a statement cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseStatementError {
    /// Not JSON within bounds.
    #[error("statement is not acceptable JSON")]
    Json(#[from] json::ParseJsonError),
    /// JSON, but not with the members of a statement.
    #[error("statement does not have the members of version 1")]
    Members(#[source] serde_json::Error),
    /// A member is outside its bounds or malformed.
    #[error("`{member}` of the statement is malformed or out of bounds")]
    Member {
        /// The name of the member.
        member: &'static str,
    },
    /// The same members in another spelling than the canonical one.
    #[error("statement is not in canonical form")]
    NotCanonical,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatementV1 {
    v: u64,
    kind: String,
    act: String,
    process: String,
    seq: u64,
    by: String,
    with: String,
    at: String,
    event: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    agreement: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    commit: BTreeMap<String, String>,
}

pub(super) fn write(statement: &Statement) -> Result<Vec<u8>, ParseStatementError> {
    let dto = StatementV1 {
        v: 1,
        kind: statement.kind.clone(),
        act: statement.act.name().to_owned(),
        process: statement.process.clone(),
        seq: statement.seq,
        by: statement.by.to_string(),
        with: statement.with.to_string(),
        at: statement.at.to_string(),
        event: statement.event.to_string(),
        agreement: statement.agreement.clone(),
        commit: statement.commit.iter().map(|(name, digest)| (name.clone(), digest.to_string())).collect(),
    };
    let value = serde_json::to_value(&dto).map_err(ParseStatementError::Members)?;
    let bytes = json::canonical(&value).map_err(ParseStatementError::Members)?;
    // What we write must be what a reader accepts, and mean the same.
    let member = match read(&bytes)? {
        read if read == *statement => return Ok(bytes),
        read if read.at == statement.at => "commit",
        _ => "at",
    };
    Err(ParseStatementError::Member { member })
}

pub(super) fn read(bytes: &[u8]) -> Result<Statement, ParseStatementError> {
    let value = json::parse(bytes, MAX_STATEMENT_BYTES)?;
    if json::canonical(&value).map_err(ParseStatementError::Members)? != bytes {
        return Err(ParseStatementError::NotCanonical);
    }
    let dto: StatementV1 = serde_json::from_value(value).map_err(ParseStatementError::Members)?;
    let bad = |member| ParseStatementError::Member { member };
    let check = |ok: bool, member| if ok { Ok(()) } else { Err(bad(member)) };
    check(dto.v == 1, "v")?;
    check(is_name(&dto.kind, MAX_KIND_BYTES), "kind")?;
    check(is_line(&dto.process, MAX_PROCESS_BYTES), "process")?;
    check((1..=MAX_SEQ).contains(&dto.seq), "seq")?;
    check(dto.agreement.as_deref().is_none_or(|text| is_line(text, MAX_AGREEMENT_BYTES)), "agreement")?;
    check(dto.commit.len() <= MAX_COMMITMENTS, "commit")?;
    let mut commit = BTreeMap::new();
    for (name, digest) in dto.commit {
        check(is_name(&name, MAX_KIND_BYTES), "commit")?;
        commit.insert(name, digest.parse::<Digest>().map_err(|_| bad("commit"))?);
    }
    Ok(Statement {
        kind: dto.kind,
        act: Act::from_name(&dto.act).ok_or(bad("act"))?,
        process: dto.process,
        seq: dto.seq,
        by: dto.by.parse().map_err(|_| bad("by"))?,
        with: dto.with.parse().map_err(|_| bad("with"))?,
        at: UnixMillis::from_rfc3339(&dto.at).filter(|at| at.to_string() == dto.at).ok_or(bad("at"))?,
        event: dto.event.parse().map_err(|_| bad("event"))?,
        agreement: dto.agreement,
        commit,
    })
}

/// Lower-case letters, digits, `.` and `-`, not empty.
fn is_name(text: &str, max_bytes: usize) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-' || b == b'_';
    !text.is_empty() && text.len() <= max_bytes && text.bytes().all(ok)
}

/// Visible ASCII, not empty: identifiers and URIs.
fn is_line(text: &str, max_bytes: usize) -> bool {
    !text.is_empty() && text.len() <= max_bytes && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> Statement {
        Statement {
            kind: "negotiation.request".to_owned(),
            act: Act::Sent,
            process: "urn:uuid:7b1c".to_owned(),
            seq: 1,
            by: "did:web:a.example".parse().unwrap(),
            with: "did:web:b.example".parse().unwrap(),
            at: UnixMillis(1_795_305_600_000),
            event: Digest::sha256(b"message"),
            agreement: Some("urn:uuid:99".to_owned()),
            commit: BTreeMap::from([("policy".to_owned(), Digest::sha256(b"policy"))]),
        }
    }

    #[test]
    fn the_signed_text_of_the_example() {
        insta::assert_snapshot!(String::from_utf8(example().to_json().unwrap()).unwrap(), @r#"{"act":"sent","agreement":"urn:uuid:99","at":"2026-11-22T00:00:00.000Z","by":"did:web:a.example","commit":{"policy":"sha256:823412d1eacb67956220e532959f0104603057c88704863ca38e7cd188fda812"},"event":"sha256:ab530a13e45914982b79f9b7e3fba994cfd1f3fb22f71cea1afbf02b460c6d1d","kind":"negotiation.request","process":"urn:uuid:7b1c","seq":1,"v":1,"with":"did:web:b.example"}"#);
    }

    #[test]
    fn members_outside_their_bounds_are_neither_written_nor_read() {
        type Edit = (&'static str, fn(&mut Statement));
        let good = example();
        let edits: [Edit; 9] = [
            ("kind", |s| s.kind = "Negotiation".to_owned()),
            ("kind", |s| s.kind = "a".repeat(MAX_KIND_BYTES + 1)),
            ("process", |s| s.process = String::new()),
            ("process", |s| s.process = "a b".to_owned()),
            ("seq", |s| s.seq = 0),
            ("seq", |s| s.seq = MAX_SEQ + 1),
            ("agreement", |s| s.agreement = Some("\n".to_owned())),
            ("at", |s| s.at = UnixMillis(i64::MAX)),
            ("commit", |s| s.commit = (0..33).map(|n| (format!("n{n}"), Digest::sha256(b""))).collect()),
        ];
        for (name, edit) in edits {
            let mut bad = good.clone();
            edit(&mut bad);
            match bad.to_json() {
                Err(ParseStatementError::Member { member }) => assert_eq!(member, name),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn only_the_canonical_spelling_is_read() {
        let text = String::from_utf8(example().to_json().unwrap()).unwrap();
        assert_eq!(Statement::from_json(text.as_bytes()).unwrap(), example());
        for (from, to) in [
            ("{\"act\"", "{ \"act\""),
            ("\"seq\":1", "\"seq\":1.0"),
            ("\"v\":1", "\"v\":2"),
            ("\"sent\"", "\"forged\""),
            ("\"seq\":1", "\"seq\":1,\"tip\":1"),
            (".000Z", "Z"),
            ("sha256:", "md5:"),
            ("did:web:a", "did:web:a#"),
            ("\"seq\":1,", ""),
        ] {
            let bad = text.replacen(from, to, 1);
            assert_ne!(bad, text);
            assert!(Statement::from_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_identity_of_an_act_covers_what_it_names() {
        let good = example();
        let edits: [fn(&mut Statement); 4] =
            [|s| s.act = Act::Received, |s| s.process.push('x'), |s| s.seq = 2, |s| s.event = Digest::sha256(b"other")];
        for edit in edits {
            let mut other = good.clone();
            edit(&mut other);
            assert_ne!(other.dedup_id(), good.dedup_id());
        }
        let later = Statement { at: UnixMillis(5), ..good.clone() };
        assert_eq!(later.dedup_id(), good.dedup_id());
    }

    proptest! {
        #[test]
        fn statements_round_trip(
            kind in "[a-z.-]{1,20}", act in 0_usize..9, process in "[!-~]{1,60}", seq in 1_u64..=MAX_SEQ,
            millis in 0_i64..4_000_000_000_000, agreement in proptest::option::of("[!-~]{1,40}"),
            names in proptest::collection::btree_map("[a-z]{1,8}", any::<[u8; 32]>(), 0..5),
        ) {
            let statement = Statement {
                kind, act: Act::ALL[act], process, seq, at: UnixMillis(millis), agreement,
                commit: names.into_iter().map(|(name, b)| (name, Digest::new(shuyu_base::HashKind::Sm3, b))).collect(),
                ..example()
            };
            prop_assert_eq!(Statement::from_json(&statement.to_json().unwrap()).unwrap(), statement);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Statement::from_json(&bytes);
        }
    }
}
