//! ODRL policies: model, evaluation, explanation, checks, compilation and permits.
//!
//! In scope: ODRL 2.2 (W3C Recommendation 2018-02-15) under a closed profile, `docs/profile/README.md`. A term that is
//! not in the profile cannot be written in this model. Out of scope: JSON (crate `shuyu-wire`), clocks, counters on
//! disk and the reading of data; the time and the use made so far are arguments.
//!
//! The interpreter [`evaluate()`] is the specification. [`compile()`] makes the program that nodes run; a property test
//! holds the two together. Only [`authorize()`] makes a [`Permit`], and nothing moves data without one.

pub mod access;
pub mod check;
pub mod compile;
pub mod covers;
pub mod evaluate;
pub mod explain;
pub mod mask;
pub mod model;
pub mod permit;
pub mod plan;
pub mod predicate;
pub mod request;
pub mod terms;

mod encode;
mod entail;
mod normal;

#[cfg(test)]
mod samples;

pub use access::{caller_view, check_access, credential_types};
pub use check::{Finding, Severity, check};
pub use compile::{CompileError, Program, compile};
pub use covers::{Difference, covers};
pub use evaluate::{Decision, Outcome, Reason, RuleKind, RuleRef, Ruling, Step, Verdict, Why, evaluate};
pub use explain::{Lang, words};
pub use mask::{Mask, ParseMaskError};
pub use model::{BoundError, Conflict, Constraint, Duty, Group, Operand, Policy, PolicyKind, Rule};
pub use permit::{LiveAgreement, Permit, Refusal, RefusalCause, Standing, authorize};
pub use plan::{DataPlan, Limits, PlanError};
pub use predicate::{Comparison, Decimal, Literal, ParsePredicateError, Predicate};
pub use request::{Request, Shown, Usage};
pub use terms::{Action, LeftOperand, Operator};
