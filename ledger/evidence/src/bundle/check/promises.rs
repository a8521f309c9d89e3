//! Promises of a log, against its heads and entries.

use shuyu_tlog::PromiseProof;

use super::super::{ABSENCE_TOLERANCE_S, ConvictionKind, Part, VerifyBundleError};
use super::node::Judge;

pub(super) fn check(judge: &mut Judge<'_>) -> Result<(), VerifyBundleError> {
    for (at, one) in judge.node.promises.iter().enumerate() {
        let unreadable = format!("promise {at}");
        let proof = PromiseProof::parse(&one.proof).map_err(|error| judge.unreadable(unreadable.clone(), error))?;
        let promise =
            proof.verify(&one.entry, &judge.node.vkey).map_err(|error| judge.unreadable(unreadable, error))?;
        let (index, part) = (proof.index, Part::Promise { did: judge.did(), at });
        match judge.book.proven.get(&index) {
            Some(proven) if proven.bytes == one.entry => {}
            Some(_) => {
                let detail = format!("index {index} was promised to one entry and holds another");
                let other = judge.book.part(&judge.node.did, index);
                judge.signed(ConvictionKind::Dropped, detail, vec![part, other]);
            }
            None => {
                let Some((until, seen)) = judge.book.absent_until(index) else { continue };
                if until <= promise.deadline_s.saturating_add(ABSENCE_TOLERANCE_S) {
                    continue;
                }
                let detail = format!(
                    "index {index} was promised by {}, but at {until} the newest head was of size {}",
                    promise.deadline_s, seen.head.size
                );
                let proof = vec![part, Part::Head(seen.note.clone())];
                judge.cosigned(ConvictionKind::Dropped, detail, proof);
            }
        }
    }
    Ok(())
}
