//! Policies and requests for the tests: a few by hand, many at random from a small world where things often meet.

use proptest::prelude::*;
use shuyu_base::{Did, UnixMillis};

use crate::model::{Conflict, Constraint, Duty, Operand, Policy, PolicyKind, Rule};
use crate::request::{Request, Shown, Usage};
use crate::terms::{Action, LeftOperand, Operator};

pub(crate) fn consumer() -> Did {
    "did:web:consumer.example".parse().unwrap()
}

pub(crate) fn list(texts: &[&str]) -> Operand {
    Operand::List(texts.iter().map(|text| (*text).to_owned()).collect())
}

/// An agreement of the sample consumer about the sample asset.
pub(crate) fn policy(permissions: Vec<Rule>) -> Policy {
    Policy {
        assigner: Some("did:web:holder.example".parse().unwrap()),
        assignee: Some(consumer()),
        target: Some("urn:asset:1".into()),
        permissions,
        ..Policy::new("urn:agreement:1", PolicyKind::Agreement)
    }
}

/// A reading of the sample asset for research, at 1 s after the epoch.
pub(crate) fn request() -> Request {
    Request {
        purpose: Some("research".into()),
        ..Request::new(UnixMillis(1000), Action::Read, "urn:asset:1", consumer())
    }
}

fn text(left: LeftOperand) -> BoxedStrategy<String> {
    let names: &'static [&'static str] = match left {
        LeftOperand::Purpose => &["research", "research/clinical", "research/clinical/a", "researching", "ads", ""],
        LeftOperand::Recipient => &["did:web:consumer.example", "did:web:other.example"],
        LeftOperand::Spatial => &["CN", "CN-SH", "CN-SH-1", "DE", "CNX"],
        LeftOperand::DeliveryFormat => &["csv", "parquet", "json"],
        LeftOperand::RowFilter => &["a = 1", "b > 2 AND a = 1", "c IS NULL", "oops"],
        LeftOperand::ColumnMask => &["a=show-first-4", "a=show-last-4", "b=mask-to-default", "b=?"],
        LeftOperand::ColumnDeny => &["a", "b", "c"],
        LeftOperand::CredentialType => &["Member", "Auditor", "Member#"],
        LeftOperand::CredentialClaim => &["Member#level=gold", "Member#role.name=a=b", "Member"],
        LeftOperand::DateTime | LeftOperand::Count | LeftOperand::RowCount | LeftOperand::ByteCount => &["1"],
    };
    prop::sample::select(names).prop_map(str::to_owned).boxed()
}

fn operand(left: LeftOperand) -> BoxedStrategy<Operand> {
    match left {
        LeftOperand::DateTime => (-1i64..6).prop_map(|n| Operand::Time(UnixMillis(n))).boxed(),
        LeftOperand::Count | LeftOperand::RowCount | LeftOperand::ByteCount => {
            (0u64..5).prop_map(Operand::Count).boxed()
        }
        LeftOperand::Purpose
        | LeftOperand::Recipient
        | LeftOperand::Spatial
        | LeftOperand::DeliveryFormat
        | LeftOperand::RowFilter
        | LeftOperand::ColumnMask
        | LeftOperand::ColumnDeny
        | LeftOperand::CredentialType
        | LeftOperand::CredentialClaim => prop_oneof![
            text(left).prop_map(Operand::Text),
            prop::collection::vec(text(left), 0..4).prop_map(Operand::List),
        ]
        .boxed(),
    }
}

/// One comparison about one of `terms`; one in ten does not fit together.
fn atomic(terms: Vec<LeftOperand>) -> impl Strategy<Value = Constraint> {
    (prop::sample::select(terms), 0..10u8).prop_flat_map(|(left, luck)| {
        let (operators, other) =
            if luck == 0 { (Operator::ALL, LeftOperand::Purpose) } else { (left.operators(), left) };
        (prop::sample::select(operators), operand(other))
            .prop_map(move |(operator, right)| Constraint::new(left, operator, right))
    })
}

/// Constraints about `terms`, often nested.
pub(crate) fn constraints(terms: Vec<LeftOperand>) -> impl Strategy<Value = Constraint> {
    atomic(terms).prop_recursive(3, 8, 3, |inner| {
        let members = prop::collection::vec(inner, 0..4);
        prop_oneof![
            members.clone().prop_map(Constraint::And),
            members.clone().prop_map(Constraint::Or),
            members.prop_map(Constraint::Xone),
        ]
    })
}

/// All terms, or two of them, so that constraints often speak of the same thing.
pub(crate) fn terms() -> impl Strategy<Value = Vec<LeftOperand>> {
    let one = || prop::sample::select(LeftOperand::ALL);
    prop_oneof![1 => Just(LeftOperand::ALL.to_vec()), 3 => (one(), one()).prop_map(|(a, b)| vec![a, b])]
}

fn action() -> impl Strategy<Value = Action> {
    prop::sample::select(&[Action::Use, Action::Read, Action::Reproduce, Action::Transfer][..])
}

fn some_asset() -> impl Strategy<Value = Option<String>> {
    prop::sample::select(&[None, None, Some("urn:asset:1"), Some("urn:asset:2")][..])
        .prop_map(|asset| asset.map(str::to_owned))
}

fn some_party() -> impl Strategy<Value = Option<Did>> {
    let parties = &[None, None, Some("did:web:consumer.example"), Some("did:web:other.example")][..];
    prop::sample::select(parties).prop_map(|did| did.map(|did| did.parse().unwrap()))
}

fn duties() -> impl Strategy<Value = Vec<Duty>> {
    let duty = Duty { uid: Some("pay".into()), action: Action::Compensate, constraints: vec![] };
    prop::sample::select(&[0usize, 0, 0, 1][..]).prop_map(move |n| vec![duty.clone(); n])
}

/// Rules that name their own asset and party now and then.
fn rule(terms: Vec<LeftOperand>) -> impl Strategy<Value = Rule> {
    (action(), some_asset(), some_party(), prop::collection::vec(constraints(terms), 0..4), duties()).prop_map(
        |(action, target, assignee, constraints, duties)| Rule {
            target,
            assignee,
            constraints,
            duties,
            ..Rule::new(action)
        },
    )
}

/// Rules that apply to nearly every request and differ in few, plain constraints.
fn plain_rule(terms: Vec<LeftOperand>) -> impl Strategy<Value = Rule> {
    let action = prop::sample::select(&[Action::Use, Action::Use, Action::Read][..]);
    (action, prop::collection::vec(atomic(terms), 0..3))
        .prop_map(|(action, constraints)| Rule { constraints, ..Rule::new(action) })
}

/// Policies of every shape.
fn varied_policies() -> impl Strategy<Value = Policy> {
    terms().prop_flat_map(|terms| {
        let conflicts = &[Conflict::Prohibit, Conflict::Prohibit, Conflict::Permit, Conflict::Invalid][..];
        let rules = |most| prop::collection::vec(rule(terms.clone()), 0..most);
        (some_asset(), some_party(), rules(4), rules(3), prop::sample::select(conflicts)).prop_map(
            |(target, assignee, permissions, mut prohibitions, conflict)| {
                prohibitions.iter_mut().for_each(|rule| rule.duties.clear());
                let empty = Policy::new("urn:p", PolicyKind::Set);
                Policy { target, assignee, permissions, prohibitions, conflict, ..empty }
            },
        )
    })
}

/// Policies of a few plain rules about two terms and the shape of the answer.
fn plain_policies() -> impl Strategy<Value = Policy> {
    terms().prop_flat_map(|mut terms| {
        terms.truncate(2);
        terms.extend([LeftOperand::RowFilter, LeftOperand::ColumnDeny]);
        let permissions = prop::collection::vec(plain_rule(terms.clone()), 1..4);
        let prohibitions = prop::collection::vec(plain_rule(terms), 0..2);
        (permissions, prohibitions).prop_map(|(permissions, prohibitions)| Policy {
            permissions,
            prohibitions,
            ..Policy::new("urn:p", PolicyKind::Set)
        })
    })
}

pub(crate) fn policies() -> impl Strategy<Value = Policy> {
    prop_oneof![varied_policies(), plain_policies()].prop_filter("bounds", |policy| policy.check_bounds().is_ok())
}

pub(crate) fn requests() -> impl Strategy<Value = Request> {
    let some = |left| prop::option::weighted(0.8, text(left));
    let usage = (0u64..4, 0u64..4, 0u64..4).prop_map(|(count, rows, bytes)| Usage { count, rows, bytes });
    let world = (some(LeftOperand::Purpose), some(LeftOperand::Spatial), some(LeftOperand::DeliveryFormat));
    let facts = |left| prop::collection::btree_set(text(left), 0..3);
    let shown = (facts(LeftOperand::CredentialType), facts(LeftOperand::CredentialClaim))
        .prop_map(|(types, claims)| Shown { types, claims });
    (-2i64..7, action(), some_asset(), some_party(), world, (usage, shown), any::<bool>()).prop_map(
        |(now, action, asset, party, (purpose, place, format), (used, shown), paid)| Request {
            purpose,
            place,
            format,
            used,
            shown,
            fulfilled: paid.then(|| "pay".to_owned()).into_iter().collect(),
            ..Request::new(
                UnixMillis(now),
                action,
                asset.as_deref().unwrap_or("urn:asset:1"),
                party.unwrap_or_else(consumer),
            )
        },
    )
}
