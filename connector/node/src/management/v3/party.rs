//! The other party of a request: `counterPartyId`, `counterPartyAddress` and `protocol`.

use shuyu_base::Did;
use url::Url;

use super::V3;
use super::jsonld::{Message, invalid};
use crate::management::chain;
use crate::peers::PeerError;
use crate::problem::Problem;

/// Longest address, in bytes.
const MAX_ADDRESS_BYTES: usize = 2048;
/// What clients of several versions of the EDC call the protocol. Between nodes it is DSP 2025-1 in every case.
const PROTOCOLS: [&str; 3] = ["dataspace-protocol-http:2025-1", "dataspace-protocol-http", "HTTPS:2025-1"];

/// Who the message is about, and the root of their protocol binding.
pub struct CounterParty {
    /// Their DID.
    pub did: Did,
    /// Root of their binding, without a slash at the end.
    pub root: String,
}

/// What a message says of the other party.
pub struct Named {
    id: Option<String>,
    address: Option<String>,
}

/// Takes the three members.
///
/// # Errors
/// 400 naming the member.
pub fn take(message: &mut Message) -> Result<Named, Problem> {
    let id = message.maybe_text("counterPartyId", Did::MAX_BYTES)?;
    let address = message.maybe_text("counterPartyAddress", MAX_ADDRESS_BYTES)?;
    if let Some(protocol) = message.maybe_text("protocol", 128)?
        && !PROTOCOLS.contains(&protocol.as_str())
    {
        return Err(invalid("protocol", format_args!("must be `{}`", PROTOCOLS[0])));
    }
    Ok(Named { id, address })
}

impl Named {
    /// Finds the party. Its DID document says where it is; an address given besides must agree with that, since nothing
    /// is sent anywhere else.
    ///
    /// # Errors
    /// 400 for a party that is not one or an address that is another's; 502 if it cannot be reached.
    pub async fn find(self, v3: &V3, otherwise: Option<&str>) -> Result<CounterParty, Problem> {
        let id = self.id.as_deref().or(otherwise);
        let id = id.ok_or_else(|| invalid("counterPartyId", "is missing; it is the DID of the other party"))?;
        let did: Did = id.parse().map_err(|error| invalid("counterPartyId", error))?;
        let root = match v3.desk.finder.protocol_root(&did).await {
            Ok(root) => root,
            Err(PeerError::Resolve { source, .. }) if !source.is_transient() => {
                return Err(invalid("counterPartyId", chain(source.as_ref())));
            }
            Err(error @ PeerError::Unsuitable { .. }) => return Err(invalid("counterPartyId", error)),
            Err(error) => {
                return Err(Problem::peer(chain(&error)).hint("is the other node up, and its DID right?"));
            }
        };
        if let Some(address) = &self.address {
            let given = Url::parse(address).map_err(|error| invalid("counterPartyAddress", error))?;
            let known = Url::parse(&root).map_err(|error| Problem::peer(error.to_string()))?;
            if given.origin() != known.origin() {
                return Err(invalid("counterPartyAddress", format_args!("`{did}` is at `{root}`, not there")));
            }
        }
        Ok(CounterParty { did, root })
    }
}
