//! The two kinds of process: their names, tables and paths (DSP 2025-1, HTTPS binding).

use std::collections::BTreeMap;

use serde_json::Value;
use shuyu_base::Digest;
use shuyu_contract_engine::negotiation::{State as NegotiationState, Verb as NegotiationVerb};
use shuyu_contract_engine::transfer::{State as TransferState, Verb as TransferVerb};
use shuyu_contract_engine::{Negotiation, Party, Transfer};

use crate::agreements::{AgreementRow, Held, NOT_FINALIZED, canonical, renewal_index};
use crate::exchange::row::{Kind, Row};
use crate::exchange::{negotiation, transfer};
use crate::store::{Batch, Store, StoreError, Table};

impl Kind for Negotiation {
    type Detail = negotiation::Detail;
    const TABLE: Table = Table::Negotiations;
    const NAME: &'static str = "negotiation";

    fn verb_name(verb: NegotiationVerb) -> &'static str {
        verb.name()
    }

    fn verb_of(name: &str) -> Option<NegotiationVerb> {
        NegotiationVerb::ALL.into_iter().find(|verb| verb.name() == name)
    }

    fn state_name(state: NegotiationState) -> &'static str {
        state.name()
    }

    fn state_of(name: &str) -> Option<NegotiationState> {
        NegotiationState::ALL.into_iter().find(|state| state.name() == name)
    }

    fn path(verb: NegotiationVerb, _receiver: Party, receiver_pid: Option<&str>) -> String {
        let end = match verb {
            NegotiationVerb::Request => "request",
            NegotiationVerb::Offer => "offers",
            NegotiationVerb::Accept | NegotiationVerb::Finalize => "events",
            NegotiationVerb::Agree => "agreement",
            NegotiationVerb::Verify => "agreement/verification",
            NegotiationVerb::Terminate => "termination",
        };
        match receiver_pid {
            Some(pid) => format!("/negotiations/{}/{end}", path_segment(pid)),
            None => format!("/negotiations/{end}"),
        }
    }

    /// A contract whose finalization did not take effect is not in force.
    fn withdrawn(row: &Row<Self>, verb: NegotiationVerb, store: &Store, batch: &mut Batch) -> Result<(), StoreError> {
        let id = row.detail.agreement.as_ref().and_then(|agreement| agreement.get("@id")?.as_str());
        let (NegotiationVerb::Finalize, Some(id)) = (verb, id) else { return Ok(()) };
        if let Some(mut contract) = store.get::<AgreementRow>(Table::Agreements, id)? {
            if contract.held != Held::Terminated {
                contract.held = Held::Terminated;
                contract.reason = Some(NOT_FINALIZED.to_owned());
                batch.put(Table::Agreements, id, &contract)?;
            }
            let index = contract.renews.as_deref().map(renewal_index);
            if let Some(index) = index
                && store.get::<String>(Table::PeerIndex, &index)?.as_deref() == Some(id)
            {
                batch.delete(Table::PeerIndex, &index);
            }
        }
        Ok(())
    }

    fn state_path(pid: &str) -> String {
        format!("/negotiations/{}", path_segment(pid))
    }

    fn commitments(row: &Row<Self>, verb: NegotiationVerb) -> Option<(String, BTreeMap<String, Value>)> {
        match verb {
            NegotiationVerb::Agree | NegotiationVerb::Verify | NegotiationVerb::Finalize => {}
            NegotiationVerb::Request
            | NegotiationVerb::Offer
            | NegotiationVerb::Accept
            | NegotiationVerb::Terminate => {
                return None;
            }
        }
        let agreement = row.detail.agreement.as_ref()?;
        let id = agreement.get("@id")?.as_str()?.to_owned();
        let digest = Digest::sha256(&canonical(agreement).ok()?).to_string();
        let mut commit = BTreeMap::from([("agreementDigest".to_owned(), digest.into())]);
        if let Some(renews) = &row.detail.renews {
            commit.insert("renews".to_owned(), renews.clone().into());
        }
        Some((id, commit))
    }
}

impl Kind for Transfer {
    type Detail = transfer::Detail;
    const TABLE: Table = Table::Transfers;
    const NAME: &'static str = "transfer";

    fn verb_name(verb: TransferVerb) -> &'static str {
        verb.name()
    }

    fn verb_of(name: &str) -> Option<TransferVerb> {
        TransferVerb::ALL.into_iter().find(|verb| verb.name() == name)
    }

    fn state_name(state: TransferState) -> &'static str {
        state.name()
    }

    fn state_of(name: &str) -> Option<TransferState> {
        TransferState::ALL.into_iter().find(|state| state.name() == name)
    }

    fn path(verb: TransferVerb, _receiver: Party, receiver_pid: Option<&str>) -> String {
        let end = match verb {
            TransferVerb::Request => "request",
            TransferVerb::Start => "start",
            TransferVerb::Suspend => "suspension",
            TransferVerb::Complete => "completion",
            TransferVerb::Terminate => "termination",
        };
        match receiver_pid {
            Some(pid) => format!("/transfers/{}/{end}", path_segment(pid)),
            None => format!("/transfers/{end}"),
        }
    }

    fn withdrawn(_: &Row<Self>, _: TransferVerb, _: &Store, _: &mut Batch) -> Result<(), StoreError> {
        Ok(())
    }

    fn state_path(pid: &str) -> String {
        format!("/transfers/{}", path_segment(pid))
    }
}

/// An identifier as one segment of a path (RFC 3986, section 3.3).
pub fn path_segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                segment.push(char::from(byte))
            }
            other => segment.push_str(&format!("%{other:02X}")),
        }
    }
    segment
}
