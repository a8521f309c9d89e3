//! Policies as flat programs: no tree, no text comparison per constraint, no allocation per decision.
//!
//! Each text of the request is looked up once in a sorted table of the texts that the policy names; constraints then
//! test bits. Groups keep an accumulator per depth and jump to their end as soon as their value is settled.

use shuyu_base::{Did, Digest};

use crate::encode::encode;
use crate::evaluate::{Decision, Outcome, Reason, RuleKind, RuleRef, Ruling, evaluate, is_void, last_instant};
use crate::model::{BoundError, Conflict, Constraint, Group, MAX_DEPTH, Policy, PolicyKind, Rule};
use crate::normal::{Normal, normal};
use crate::plan::{DataPlan, Limits, values};
use crate::request::Request;
use crate::terms::{Action, LeftOperand, is_under};

/// Why a policy has no program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// Offers grant nothing and are not evaluated.
    #[error("policy is an offer; only sets and agreements are evaluated")]
    Offer,
    /// Too large.
    #[error(transparent)]
    Bound(#[from] BoundError),
}

/// A policy ready to decide requests. It decides exactly as [`evaluate()`] does.
#[derive(Debug)]
pub struct Program {
    policy: Policy,
    void: bool,
    heads: Box<[Head]>,
    code: Box<[Instruction]>,
    tables: [Table; TEXTS.len()],
    duties: Box<[Box<str>]>,
    /// One for each permission; a permission without a plan never holds.
    plans: Box<[Option<DataPlan>]>,
    hash: Digest,
}

/// The terms whose values are texts of the request.
const TEXTS: [LeftOperand; 4] =
    [LeftOperand::Purpose, LeftOperand::Recipient, LeftOperand::Spatial, LeftOperand::DeliveryFormat];

/// A rule: to whom and what it applies, and where its code is.
#[derive(Debug)]
struct Head {
    rule: RuleRef,
    action: Action,
    target: Option<Box<str>>,
    assignee: Option<Did>,
    start: u32,
    end: u32,
}

/// One step: a value, joined into the group that is open at `depth`; when that settles the group, on to `exit`.
#[derive(Debug)]
struct Instruction {
    op: Op,
    group: Group,
    depth: u8,
    exit: u32,
}

#[derive(Debug)]
enum Op {
    /// Begins a group one level deeper; has no value.
    Open,
    /// Ends the group one level deeper; its value.
    Close(Group),
    /// A constraint that is always unknown.
    Unknown,
    /// A shape term that can be read.
    Holds,
    /// The number in a slot lies in a range, both ends included.
    Range { slot: NumberSlot, low: i128, high: i128 },
    /// The text in a slot is among the marked entries of its table; or is not, when `negated`.
    Among { slot: u8, negated: bool, marked: Marks },
    /// The text in a slot is, or is below, one of the marked entries of its table.
    Under { slot: u8, marked: Marks },
    /// The consumer has shown one of these, or all of them.
    Shown { of: ShownSet, all: bool, names: Box<[Box<str>]> },
    /// The duty with this number is fulfilled.
    Duty(u32),
}

#[derive(Clone, Copy, Debug)]
enum NumberSlot {
    Now,
    Count,
    Rows,
    Bytes,
}

/// Which facts of credentials.
#[derive(Clone, Copy, Debug)]
enum ShownSet {
    Types,
    Claims,
}

/// The texts a policy names for one term, sorted, each once.
#[derive(Debug)]
struct Table {
    names: Box<[Box<str>]>,
    separator: char,
}

/// A set of entries of a table, one bit each.
#[derive(Debug)]
struct Marks(Box<[u64]>);

/// A text of the request in terms of a table.
#[derive(Clone, Copy)]
enum Slot {
    Missing,
    Present {
        /// The entry equal to it.
        exact: Option<usize>,
        /// The lowest entry at or above it.
        nearest: Option<usize>,
    },
}

impl Table {
    fn of(policy: &Policy, left: LeftOperand) -> Self {
        let mut names = Vec::new();
        for rule in policy.permissions.iter().chain(&policy.prohibitions) {
            rule.constraints.iter().for_each(|constraint| collect_names(constraint, left, &mut names));
        }
        names.sort_unstable();
        names.dedup();
        Self { names: names.into_iter().map(Box::from).collect(), separator: left.separator() }
    }

    fn find(&self, text: &str) -> Option<usize> {
        self.names.binary_search_by(|name| (**name).cmp(text)).ok()
    }

    fn slot(&self, text: Option<&str>) -> Slot {
        let Some(text) = text else { return Slot::Missing };
        if self.names.is_empty() {
            return Slot::Present { exact: None, nearest: None };
        }
        let exact = self.find(text);
        let mut rest = text;
        let mut nearest = exact;
        while nearest.is_none() {
            let Some((above, _)) = rest.rsplit_once(self.separator) else { break };
            rest = above;
            nearest = self.find(above);
        }
        Slot::Present { exact, nearest }
    }

    fn mark(&self, wanted: impl Fn(&str) -> bool) -> Marks {
        let mut words = vec![0u64; self.names.len().div_ceil(64)];
        for (index, _) in self.names.iter().enumerate().filter(|(_, name)| wanted(name)) {
            if let Some(word) = words.get_mut(index / 64) {
                *word |= 1 << (index % 64);
            }
        }
        Marks(words.into())
    }
}

fn collect_names<'a>(constraint: &'a Constraint, wanted: LeftOperand, found: &mut Vec<&'a str>) {
    match constraint {
        Constraint::Atomic { left, operator, right } if *left == wanted => {
            found.extend(values(*operator, right).unwrap_or_default().iter().map(String::as_str));
        }
        Constraint::Atomic { .. } => {}
        Constraint::And(members) | Constraint::Or(members) | Constraint::Xone(members) => {
            members.iter().for_each(|member| collect_names(member, wanted, found));
        }
    }
}

impl Marks {
    fn has(&self, entry: Option<usize>) -> bool {
        entry.is_some_and(|entry| self.0.get(entry / 64).is_some_and(|word| word >> (entry % 64) & 1 == 1))
    }
}

/// Makes the program of a policy.
///
/// Constraints that can never be known compile to that; run [`crate::check()`] before to refuse such policies.
///
/// # Errors
/// [`CompileError`] for an offer and for a policy larger than the bounds of [`crate::model`].
pub fn compile(policy: &Policy) -> Result<Program, CompileError> {
    policy.check_bounds()?;
    if policy.kind == PolicyKind::Offer {
        return Err(CompileError::Offer);
    }
    let mut writer = Writer {
        tables: TEXTS.map(|left| Table::of(policy, left)),
        code: Vec::new(),
        heads: Vec::new(),
        duties: Vec::new(),
    };
    match policy.conflict {
        Conflict::Prohibit | Conflict::Invalid => {
            writer.rules(policy, RuleKind::Prohibition, &policy.prohibitions);
            writer.rules(policy, RuleKind::Permission, &policy.permissions);
        }
        Conflict::Permit => {
            writer.rules(policy, RuleKind::Permission, &policy.permissions);
            writer.rules(policy, RuleKind::Prohibition, &policy.prohibitions);
        }
    }
    Ok(Program {
        void: is_void(policy),
        heads: writer.heads.into(),
        code: writer.code.into(),
        tables: writer.tables,
        duties: writer.duties.into(),
        plans: policy.permissions.iter().map(|rule| DataPlan::of(rule).ok()).collect(),
        hash: Digest::sha256(&encode(policy)),
        policy: policy.clone(),
    })
}

struct Writer {
    tables: [Table; TEXTS.len()],
    code: Vec<Instruction>,
    heads: Vec<Head>,
    duties: Vec<Box<str>>,
}

impl Writer {
    fn rules(&mut self, policy: &Policy, kind: RuleKind, rules: &[Rule]) {
        for (index, rule) in rules.iter().enumerate() {
            let at = RuleRef { kind, index };
            let start = self.here();
            rule.constraints.iter().for_each(|constraint| {
                self.constraint(constraint, Group::And, 0, kind == RuleKind::Permission);
            });
            if kind == RuleKind::Permission {
                self.plan_and_duties(at, rule);
            }
            let end = self.here();
            self.settle(start, 0, end);
            self.heads.push(Head {
                rule: at,
                action: rule.action,
                target: policy.target_of(rule).map(Box::from),
                assignee: policy.assignee_of(rule).cloned(),
                start,
                end,
            });
        }
    }

    fn plan_and_duties(&mut self, at: RuleRef, rule: &Rule) {
        if DataPlan::of(rule).is_err() {
            self.push(Op::Unknown, Group::And, 0);
        }
        for (index, duty) in rule.duties.iter().enumerate() {
            let path = format!("{at}.duty[{index}]");
            let number = u32::try_from(self.duties.len()).unwrap_or(u32::MAX);
            self.duties.push(duty.id(&path).into());
            self.push(Op::Duty(number), Group::And, 0);
        }
    }

    /// `group`: what the constraint's value is joined into, at `depth`.
    fn constraint(&mut self, constraint: &Constraint, group: Group, depth: u8, enforceable: bool) {
        match constraint.group() {
            None => {
                let op = self.atomic(constraint, enforceable);
                self.push(op, group, depth);
            }
            Some((_, [])) => self.push(Op::Unknown, group, depth),
            Some((inner, members)) => {
                self.push(Op::Open, group, depth);
                let start = self.here();
                for member in members {
                    self.constraint(member, inner, depth + 1, enforceable && inner == Group::And);
                }
                let close = self.here();
                self.settle(start, depth + 1, close);
                self.push(Op::Close(inner), group, depth);
            }
        }
    }

    fn atomic(&self, constraint: &Constraint, enforceable: bool) -> Op {
        let Constraint::Atomic { left, operator, right } = constraint else { return Op::Unknown };
        if !enforceable && (left.is_shape() || left.is_quota()) {
            return Op::Unknown;
        }
        match normal(*left, *operator, right) {
            Normal::Broken => Op::Unknown,
            Normal::Shape => {
                let alone = Rule { constraints: vec![constraint.clone()], ..Rule::new(Action::Read) };
                if DataPlan::of(&alone).is_ok() { Op::Holds } else { Op::Unknown }
            }
            Normal::Range { low, high } => number_slot(*left).map_or(Op::Unknown, |slot| Op::Range { slot, low, high }),
            Normal::In(names) => self.among(*left, names, false),
            Normal::NotIn(names) => self.among(*left, names, true),
            Normal::HasAny(names) => shown(*left, names, false),
            Normal::HasAll(names) => shown(*left, names, true),
            Normal::Under(ancestor) => self.table(*left).map_or(Op::Unknown, |(slot, table)| Op::Under {
                slot,
                marked: table.mark(|name| is_under(name, ancestor, left.separator())),
            }),
        }
    }

    fn among(&self, left: LeftOperand, names: &[String], negated: bool) -> Op {
        self.table(left).map_or(Op::Unknown, |(slot, table)| Op::Among {
            slot,
            negated,
            marked: table.mark(|name| names.iter().any(|wanted| wanted == name)),
        })
    }

    fn table(&self, left: LeftOperand) -> Option<(u8, &Table)> {
        let slot = TEXTS.iter().position(|text| *text == left)?;
        Some((u8::try_from(slot).ok()?, self.tables.get(slot)?))
    }

    fn push(&mut self, op: Op, group: Group, depth: u8) {
        self.code.push(Instruction { op, group, depth, exit: 0 });
    }

    fn here(&self) -> u32 {
        u32::try_from(self.code.len()).unwrap_or(u32::MAX)
    }

    /// Sets the exit of the instructions from `start` on that join at `depth`.
    fn settle(&mut self, start: u32, depth: u8, exit: u32) {
        let members = self.code.iter_mut().skip(start as usize);
        members.filter(|instruction| instruction.depth == depth).for_each(|instruction| instruction.exit = exit);
    }
}

fn shown(left: LeftOperand, names: &[String], all: bool) -> Op {
    let of = if left == LeftOperand::CredentialType { ShownSet::Types } else { ShownSet::Claims };
    Op::Shown { of, all, names: names.iter().map(|name| name.as_str().into()).collect() }
}

fn number_slot(left: LeftOperand) -> Option<NumberSlot> {
    match left {
        LeftOperand::DateTime => Some(NumberSlot::Now),
        LeftOperand::Count => Some(NumberSlot::Count),
        LeftOperand::RowCount => Some(NumberSlot::Rows),
        LeftOperand::ByteCount => Some(NumberSlot::Bytes),
        LeftOperand::Purpose
        | LeftOperand::Recipient
        | LeftOperand::Spatial
        | LeftOperand::RowFilter
        | LeftOperand::ColumnMask
        | LeftOperand::ColumnDeny
        | LeftOperand::DeliveryFormat
        | LeftOperand::CredentialType
        | LeftOperand::CredentialClaim => None,
    }
}

/// The members of a group so far.
#[derive(Clone, Copy, Default)]
struct Accumulator {
    failing: bool,
    unknown: bool,
    holding: u8,
}

impl Accumulator {
    fn join(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Fails => self.failing = true,
            Outcome::Unknown => self.unknown = true,
            Outcome::Holds => self.holding = self.holding.saturating_add(1),
        }
    }

    /// Whether no further member can change the value.
    fn is_settled(self, group: Group) -> bool {
        match group {
            Group::And => self.failing,
            Group::Or => 0 < self.holding,
            Group::Xone => 1 < self.holding,
        }
    }

    fn value(self, group: Group) -> Outcome {
        let holds = match group {
            Group::And if self.failing => return Outcome::Fails,
            Group::Or if 0 < self.holding => return Outcome::Holds,
            Group::Xone if 1 < self.holding => return Outcome::Fails,
            Group::And => true,
            Group::Or => false,
            Group::Xone => self.holding == 1,
        };
        match (self.unknown, holds) {
            (true, _) => Outcome::Unknown,
            (false, true) => Outcome::Holds,
            (false, false) => Outcome::Fails,
        }
    }
}

impl Program {
    /// The policy the program was made from.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// SHA-256 over the stable byte form of the policy; equal policies have equal hashes.
    pub fn program_hash(&self) -> Digest {
        self.hash
    }

    /// Decides without allocating and without explaining.
    pub fn permits(&self, request: &Request) -> Ruling {
        if self.void {
            return Ruling::deny(Reason::Void);
        }
        let texts = [
            request.purpose.as_deref(),
            Some(request.consumer.as_str()),
            request.place.as_deref(),
            request.format.as_deref(),
        ];
        let mut slots = [Slot::Missing; TEXTS.len()];
        for ((slot, table), text) in slots.iter_mut().zip(&self.tables).zip(texts) {
            *slot = table.slot(text);
        }
        let mut reason = Reason::NothingApplies;
        for head in self.heads.iter().filter(|head| head.applies(request)) {
            if let Some(ruling) = Ruling::by(head.rule, self.run(head, request, &slots)) {
                return ruling;
            }
            if head.rule.kind == RuleKind::Permission {
                reason = Reason::NothingHolds;
            }
        }
        Ruling::deny(reason)
    }

    /// Decides and explains. Permits only when program and interpreter agree.
    pub fn decide(&self, request: &Request) -> Decision {
        let ruling = self.permits(request);
        let mut decision = evaluate(&self.policy, request);
        if decision.ruling != ruling {
            decision.ruling = Ruling::deny(Reason::Disagreement);
            decision.plan = None;
            decision.limits = Limits::default();
        }
        decision
    }

    /// The plan of a permission; `None` for a rule that has none.
    pub fn plan(&self, rule: RuleRef) -> Option<&DataPlan> {
        match rule.kind {
            RuleKind::Permission => self.plans.get(rule.index)?.as_ref(),
            RuleKind::Prohibition => None,
        }
    }

    /// The budgets of the permission that permits `request`, and the end of that permission.
    ///
    /// All `None` when `request` is not permitted.
    pub fn limits(&self, request: &Request) -> Limits {
        let ruling = self.permits(request);
        let permission = ruling.rule.filter(|_| ruling.is_permit());
        let Some(rule) = permission.and_then(|rule| self.policy.permissions.get(rule.index)) else {
            return Limits::default();
        };
        let mut later = request.clone();
        let not_after = last_instant(&self.policy, request.now, |now| {
            later.now = now;
            self.permits(&later) == ruling
        });
        Limits { not_after, ..Limits::of(rule) }
    }

    fn run(&self, head: &Head, request: &Request, slots: &[Slot]) -> Outcome {
        let mut open = [Accumulator::default(); MAX_DEPTH + 1];
        let mut at = head.start;
        while at < head.end {
            let Some(instruction) = self.code.get(at as usize) else { return Outcome::Unknown };
            let depth = usize::from(instruction.depth);
            at += 1;
            let outcome = match &instruction.op {
                Op::Open => {
                    let Some(inner) = open.get_mut(depth + 1) else { return Outcome::Unknown };
                    *inner = Accumulator::default();
                    continue;
                }
                Op::Close(group) => open.get(depth + 1).map_or(Outcome::Unknown, |inner| inner.value(*group)),
                Op::Unknown
                | Op::Holds
                | Op::Range { .. }
                | Op::Among { .. }
                | Op::Under { .. }
                | Op::Shown { .. }
                | Op::Duty(_) => self.test(&instruction.op, request, slots),
            };
            let Some(group) = open.get_mut(depth) else { return Outcome::Unknown };
            group.join(outcome);
            if group.is_settled(instruction.group) {
                at = instruction.exit;
            }
        }
        open.first().map_or(Outcome::Unknown, |whole| whole.value(Group::And))
    }

    fn test(&self, op: &Op, request: &Request, slots: &[Slot]) -> Outcome {
        let truth = |holds: bool| if holds { Outcome::Holds } else { Outcome::Fails };
        match op {
            Op::Open | Op::Close(_) | Op::Unknown => Outcome::Unknown,
            Op::Holds => Outcome::Holds,
            Op::Range { slot, low, high } => {
                let value = match slot {
                    NumberSlot::Now => i128::from(request.now.0),
                    NumberSlot::Count => i128::from(request.used.count.saturating_add(1)),
                    NumberSlot::Rows => i128::from(request.used.rows.saturating_add(1)),
                    NumberSlot::Bytes => i128::from(request.used.bytes.saturating_add(1)),
                };
                truth((*low..=*high).contains(&value))
            }
            Op::Among { slot, negated, marked } => match slots.get(usize::from(*slot)) {
                Some(Slot::Present { exact, .. }) => truth(marked.has(*exact) != *negated),
                Some(Slot::Missing) | None => Outcome::Unknown,
            },
            Op::Under { slot, marked } => match slots.get(usize::from(*slot)) {
                Some(Slot::Present { nearest, .. }) => truth(marked.has(*nearest)),
                Some(Slot::Missing) | None => Outcome::Unknown,
            },
            Op::Shown { of, all, names } => {
                let facts = match of {
                    ShownSet::Types => &request.shown.types,
                    ShownSet::Claims => &request.shown.claims,
                };
                let mut seen = names.iter().map(|name| facts.contains(&**name));
                let holds = if *all { seen.all(|seen| seen) } else { seen.any(|seen| seen) };
                if holds { Outcome::Holds } else { Outcome::Unknown }
            }
            Op::Duty(number) => {
                let id = self.duties.get(*number as usize);
                truth(id.is_some_and(|id| request.fulfilled.contains(&**id)))
            }
        }
    }
}

impl Head {
    fn applies(&self, request: &Request) -> bool {
        let action = match self.rule.kind {
            RuleKind::Permission => self.action.includes(request.action),
            RuleKind::Prohibition => self.action.overlaps(request.action),
        };
        action
            && self.target.as_deref().is_none_or(|target| target == request.asset)
            && self.assignee.as_ref().is_none_or(|assignee| *assignee == request.consumer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{policies, policy, request, requests};
    use proptest::prelude::*;

    #[test]
    fn an_offer_has_no_program() {
        let offer = Policy { kind: PolicyKind::Offer, ..policy(vec![]) };
        assert_eq!(compile(&offer).map(|_| ()), Err(CompileError::Offer));
    }

    #[test]
    fn the_hash_follows_the_policy() {
        let hash = |policy: &Policy| compile(policy).unwrap().program_hash();
        let one = policy(vec![Rule::new(Action::Use)]);
        let two = policy(vec![Rule::new(Action::Read)]);
        assert_eq!(hash(&one), hash(&one.clone()));
        assert_ne!(hash(&one), hash(&two));
        assert!(compile(&one).unwrap().permits(&request()).is_permit());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 8000, ..ProptestConfig::default() })]

        #[test]
        fn program_and_interpreter_agree(policy in policies(), requests in prop::collection::vec(requests(), 4)) {
            let program = compile(&policy).unwrap();
            for request in &requests {
                let wanted = evaluate(&policy, request);
                prop_assert_eq!(program.permits(request), wanted.ruling);
                prop_assert_eq!(program.limits(request), wanted.limits);
                let plan = wanted.ruling.rule.and_then(|rule| program.plan(rule));
                prop_assert_eq!(plan.filter(|_| wanted.ruling.is_permit()), wanted.plan.as_ref());
                prop_assert_eq!(program.decide(request), wanted);
            }
        }

        #[test]
        fn a_permit_lasts_until_its_end(policy in policies(), request in requests()) {
            let program = compile(&policy).unwrap();
            let ruling = program.permits(&request);
            let end = program.limits(&request).not_after.map_or(20, |end| end.0);
            for now in request.now.0..=end.min(20) {
                let later = Request { now: shuyu_base::UnixMillis(now), ..request.clone() };
                prop_assert!(!ruling.is_permit() || program.permits(&later) == ruling);
            }
        }
    }
}
