//! What a decision looks at: everything is an argument, nothing is read from the world.

use std::collections::BTreeSet;

use shuyu_base::{Did, UnixMillis};

use crate::terms::Action;

/// One intended use. A missing attribute makes constraints on it *unknown*, and unknown never permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The instant of the use.
    pub now: UnixMillis,
    /// What is to be done.
    pub action: Action,
    /// The asset it is done to.
    pub asset: String,
    /// Who asks, authenticated by the caller of this crate.
    pub consumer: Did,
    /// The purpose the consumer declared.
    pub purpose: Option<String>,
    /// Where the data goes, as established by the caller: an ISO 3166 code.
    pub place: Option<String>,
    /// The delivery format asked for.
    pub format: Option<String>,
    /// The use already made under the agreement.
    pub used: Usage,
    /// What the consumer's credentials say, as verified by the caller of this crate and valid now.
    pub shown: Shown,
    /// Identifiers of the duties whose fulfilment has been proved.
    pub fulfilled: BTreeSet<String>,
}

/// Use already made under an agreement, this request not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Uses begun.
    pub count: u64,
    /// Rows delivered.
    pub rows: u64,
    /// Bytes delivered.
    pub bytes: u64,
}

/// Facts from the credentials that a consumer has shown: verified, unrevoked and of an issuer that counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Types of credentials.
    pub types: BTreeSet<String>,
    /// What they say, `Type#member=value`.
    pub claims: BTreeSet<String>,
}

impl Request {
    /// A request with nothing but the necessary: no purpose, place or format, no use so far, no duty fulfilled.
    pub fn new(now: UnixMillis, action: Action, asset: &str, consumer: Did) -> Self {
        Self {
            now,
            action,
            asset: asset.to_owned(),
            consumer,
            purpose: None,
            place: None,
            format: None,
            used: Usage::default(),
            shown: Shown::default(),
            fulfilled: BTreeSet::new(),
        }
    }
}
