//! Permits: the only key to data, and the only way to make one.

use std::sync::Arc;

use shuyu_base::{Did, Digest, UnixMillis};

use crate::compile::Program;
use crate::evaluate::{Decision, RuleRef};
use crate::model::PolicyKind;
use crate::plan::{DataPlan, Limits};
use crate::request::Request;
use crate::terms::Action;

/// Where an agreement stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// In force.
    Active,
    /// Paused by one of the parties.
    Suspended,
    /// Ended by one of the parties.
    Terminated,
    /// Over.
    Expired,
}

/// An agreement as the node holds it, with its compiled policy.
#[derive(Clone, Debug)]
pub struct LiveAgreement {
    /// The agreement's identifier.
    pub agreement_id: String,
    /// The asset it is about.
    pub asset: String,
    /// Its policy, of kind agreement, with an assignee.
    pub program: Arc<Program>,
    /// Where it stands now.
    pub standing: Standing,
}

/// Proof that the policy of a live agreement permits one use. Nothing moves data without one.
///
/// It has no other constructor than [`authorize()`]; its fields are private:
///
/// ```compile_fail,E0451
/// fn forge(permit: shuyu_policy::Permit) -> shuyu_policy::Permit {
///     shuyu_policy::Permit { agreement_id: "urn:agreement:2".to_owned(), ..permit }
/// }
/// ```
///
/// and it has no default:
///
/// ```compile_fail,E0277
/// fn needs_default<T: Default>() {}
/// needs_default::<shuyu_policy::Permit>();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    // Invariant: built only by `authorize`.
    agreement_id: String,
    asset: String,
    consumer: Did,
    action: Action,
    rule: RuleRef,
    plan: DataPlan,
    limits: Limits,
    program_hash: Digest,
    decided_at: UnixMillis,
    decision: Decision,
}

/// Why no permit was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalCause {
    /// The agreement is not in force; see [`Refusal::standing`].
    NotActive,
    /// The policy is not an agreement, or names no assignee.
    NotAnAgreement,
    /// The request is about another asset.
    OtherAsset,
    /// The consumer is not the assignee.
    OtherConsumer,
    /// The policy denies; see [`Refusal::explanation`].
    Policy,
}

/// A refused use: an outcome to be recorded, not a fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use under agreement `{agreement_id}` is refused: {cause}")]
pub struct Refusal {
    /// The agreement's identifier.
    pub agreement_id: String,
    /// Why.
    pub cause: RefusalCause,
    /// Where the agreement stands.
    pub standing: Standing,
    /// What the policy says; only when the policy was asked.
    pub explanation: Option<Box<Decision>>,
}

impl std::fmt::Display for RefusalCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotActive => "the agreement is not in force",
            Self::NotAnAgreement => "the policy is not an agreement with an assignee",
            Self::OtherAsset => "the agreement is about another asset",
            Self::OtherConsumer => "the consumer is not the assignee",
            Self::Policy => "the policy denies it",
        })
    }
}

/// Asks the policy of a live agreement about a use.
///
/// `request.consumer` must be the authenticated caller, and `request.used` the durable counters of the agreement. The
/// permit speaks of this instant: who moves data for long asks again or stops at [`Limits::not_after`], and stops when
/// the agreement's standing changes.
///
/// # Errors
/// [`Refusal`] says what stands in the way; it is evidence.
pub fn authorize(agreement: &LiveAgreement, request: &Request) -> Result<Permit, Refusal> {
    let policy = agreement.program.policy();
    let refuse = |cause: RefusalCause| Refusal {
        agreement_id: agreement.agreement_id.clone(),
        cause,
        standing: agreement.standing,
        explanation: None,
    };
    match agreement.standing {
        Standing::Active => {}
        Standing::Suspended | Standing::Terminated | Standing::Expired => return Err(refuse(RefusalCause::NotActive)),
    }
    if policy.kind != PolicyKind::Agreement {
        return Err(refuse(RefusalCause::NotAnAgreement));
    }
    let assignee = policy.assignee.as_ref().ok_or_else(|| refuse(RefusalCause::NotAnAgreement))?;
    if request.asset != agreement.asset {
        return Err(refuse(RefusalCause::OtherAsset));
    }
    if request.consumer != *assignee {
        return Err(refuse(RefusalCause::OtherConsumer));
    }
    let decision = agreement.program.decide(request);
    let granted = decision.ruling.rule.filter(|_| decision.ruling.is_permit()).zip(decision.plan.clone());
    let Some((rule, plan)) = granted else {
        return Err(Refusal { explanation: Some(Box::new(decision)), ..refuse(RefusalCause::Policy) });
    };
    Ok(Permit {
        agreement_id: agreement.agreement_id.clone(),
        asset: agreement.asset.clone(),
        consumer: request.consumer.clone(),
        action: request.action,
        rule,
        plan,
        limits: decision.limits,
        program_hash: agreement.program.program_hash(),
        decided_at: request.now,
        decision,
    })
}

impl Permit {
    /// The agreement that permits.
    pub fn agreement_id(&self) -> &str {
        &self.agreement_id
    }

    /// The asset that may be used.
    pub fn asset(&self) -> &str {
        &self.asset
    }

    /// Who may use it.
    pub fn consumer(&self) -> &Did {
        &self.consumer
    }

    /// What may be done.
    pub fn action(&self) -> Action {
        self.action
    }

    /// The permission that decided.
    pub fn rule(&self) -> RuleRef {
        self.rule
    }

    /// What of the data may be shown.
    pub fn plan(&self) -> &DataPlan {
        &self.plan
    }

    /// The budgets and the end.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The hash of the program that decided; recorded as evidence.
    pub fn program_hash(&self) -> Digest {
        self.program_hash
    }

    /// When it was decided.
    pub fn decided_at(&self) -> UnixMillis {
        self.decided_at
    }

    /// What was looked at; [`Decision::words`] says it in words.
    pub fn explanation(&self) -> &Decision {
        &self.decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::compile;
    use crate::model::{Policy, Rule};
    use crate::samples::{policy, request};

    fn agreement(policy: &Policy) -> LiveAgreement {
        LiveAgreement {
            agreement_id: "urn:agreement:1".into(),
            asset: "urn:asset:1".into(),
            program: Arc::new(compile(policy).unwrap()),
            standing: Standing::Active,
        }
    }

    #[track_caller]
    fn check(agreement: &LiveAgreement, request: &Request, wanted: Result<(), RefusalCause>) {
        assert_eq!(authorize(agreement, request).map(|_| ()).map_err(|refusal| refusal.cause), wanted);
    }

    #[test]
    fn only_a_live_agreement_permits_and_only_its_assignee() {
        let live = agreement(&policy(vec![Rule::new(Action::Use)]));
        check(&live, &request(), Ok(()));
        for standing in [Standing::Suspended, Standing::Terminated, Standing::Expired] {
            check(&LiveAgreement { standing, ..live.clone() }, &request(), Err(RefusalCause::NotActive));
        }
        let other = Request { consumer: "did:web:thief".parse().unwrap(), ..request() };
        check(&live, &other, Err(RefusalCause::OtherConsumer));
        let other = Request { asset: "urn:asset:2".into(), ..request() };
        check(&live, &other, Err(RefusalCause::OtherAsset));
        check(&live, &Request { action: Action::Transfer, ..request() }, Err(RefusalCause::Policy));

        let nobody = Policy { assignee: None, ..policy(vec![Rule::new(Action::Use)]) };
        check(&agreement(&nobody), &request(), Err(RefusalCause::NotAnAgreement));
        let set = Policy { kind: PolicyKind::Set, ..policy(vec![Rule::new(Action::Use)]) };
        check(&agreement(&set), &request(), Err(RefusalCause::NotAnAgreement));
    }

    #[test]
    fn a_permit_says_what_it_was_made_of() {
        let live = agreement(&policy(vec![Rule::new(Action::Use)]));
        let permit = authorize(&live, &request()).unwrap();
        assert_eq!((permit.agreement_id(), permit.asset()), ("urn:agreement:1", "urn:asset:1"));
        assert_eq!((permit.action(), permit.decided_at()), (Action::Read, UnixMillis(1000)));
        assert_eq!(permit.program_hash(), live.program.program_hash());
        assert_eq!(permit.rule().path(), "permission[0]");
    }
}
