//! Judges Merkle proofs, one a line, as `tests/oracles/go-tessera/merkle` does; `tests/faults` compares the two.
//!
//! `inclusion INDEX SIZE LEAF-HASH ROOT [HASH ...]` or `consistency OLD NEW OLD-ROOT NEW-ROOT [HASH ...]`, hashes in hex;
//! prints `ok` or `no` for each.

use std::io::BufRead as _;

use shuyu_base::HashKind;
use shuyu_tlog::{Hash, verify_consistency, verify_inclusion};

fn main() -> std::io::Result<()> {
    for line in std::io::stdin().lock().lines() {
        println!("{}", if judge(&line?).is_some() { "ok" } else { "no" });
    }
    Ok(())
}

/// `None` for a proof that does not hold, and for a line with anything but hashes of 32 bytes.
fn judge(line: &str) -> Option<()> {
    let mut words = line.split(' ');
    let (what, a, b) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let hashes: Vec<Hash> = words.map(hash).collect::<Option<_>>()?;
    let (first, rest) = hashes.split_first()?;
    let (second, path) = rest.split_first()?;
    let kind = HashKind::Sha256;
    match what {
        "inclusion" => verify_inclusion(kind, first, a, b, path, second).ok(),
        "consistency" => verify_consistency(kind, a, first, b, second, path).ok(),
        _ => None,
    }
}

fn hash(word: &str) -> Option<Hash> {
    hex::decode(word).ok()?.try_into().ok().map(Hash)
}
