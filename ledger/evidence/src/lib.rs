//! Evidence: what a node states about its own acts, how two parties' statements compare, and bundles that an
//! auditor can hand to anyone.
//!
//! In scope: the statement and its signed form, the salted commitments in it and their disclosure, the comparison, the
//! bundle and its off-line verification.
//! Out of scope: where entries are kept (`shuyu-ledger`) and how they are fetched. Nothing here reads a clock,
//! a disk or a socket.

pub mod bundle;
pub mod commitment;
pub mod compare;
pub mod disclosure;
pub mod entry;
pub mod statement;

pub use bundle::{
    Accused, Audit, Basis, Bundle, Conviction, ConvictionKind, MinimalError, NodeEvidence, NodeSummary, Observed,
    PairSummary, Part, Picked, Prefix, ReadBundleError, Verdict, VerifyBundleError,
};
pub use commitment::{CommitError, FIELDS, Field, Fields, Seed, Shown};
pub use compare::{Difference, Finding, Party, ProcessReport, Report, compare, own_faults};
pub use disclosure::{Disclosed, Disclosure, ReadDisclosureError, VerifyDisclosureError};
pub use entry::{ENTRY_TYPE, MAX_ENTRY_BYTES, OpenError, SignError, open, peek, sign};
pub use statement::{Act, ParseStatementError, Statement, WITNESSED_HEAD};
