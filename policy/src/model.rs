//! Policies as values: what ODRL 2.2 section 2 describes, restricted to the closed vocabulary of [`crate::terms`].

use shuyu_base::{Did, UnixMillis};

use crate::terms::{Action, LeftOperand, Operator};

/// Deepest nesting of constraints in a rule; a plain constraint has depth 1. People do not read deeper ones.
pub const MAX_DEPTH: usize = 8;

/// Most constraints in one policy, groups and those of duties included. Typical contracts have about 8.
pub const MAX_CONSTRAINTS: usize = 64;

/// Most values in the list of one constraint.
pub const MAX_OPERANDS: usize = 256;

/// Most rules of one policy: permissions, prohibitions, duties and obligations together.
pub const MAX_RULES: usize = 64;

/// Longest text in a policy, in bytes: identifiers, purposes, row filters.
pub const MAX_TEXT_BYTES: usize = 4096;

/// Which of the ODRL policy classes (ODRL section 2.1) a policy belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PolicyKind {
    /// Rules for whoever they apply to.
    Set,
    /// A proposal; it grants nothing and is never evaluated.
    Offer,
    /// What two parties agreed.
    Agreement,
}

/// What happens when a permission and a prohibition both apply (ODRL section 2.10).
///
/// ODRL's default is `invalid`; this profile's is `prohibit`, which refuses less and never permits more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Conflict {
    /// The prohibition wins; the default.
    #[default]
    Prohibit,
    /// The permission wins.
    Permit,
    /// A policy in which a permission and a prohibition may meet is void and permits nothing.
    Invalid,
}

/// A policy: permissions, prohibitions and obligations about a target between two parties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The policy's own identifier (`@id`).
    pub uid: String,
    /// Its class.
    pub kind: PolicyKind,
    /// The party that grants; of every rule that names none itself.
    pub assigner: Option<Did>,
    /// The party that is granted; of every rule that names none itself.
    pub assignee: Option<Did>,
    /// The asset; of every rule that names none itself.
    pub target: Option<String>,
    /// What may be done. The first permission that holds decides, so put the most generous first.
    pub permissions: Vec<Rule>,
    /// What may not be done.
    pub prohibitions: Vec<Rule>,
    /// What the assignee owes whatever it does; evidence only, no decision waits for them.
    pub obligations: Vec<Duty>,
    /// Which side wins when both apply.
    pub conflict: Conflict,
}

/// A permission or a prohibition (ODRL sections 2.6.3 and 2.6.4). All its constraints must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The rule's own identifier.
    pub uid: Option<String>,
    /// What is permitted or prohibited.
    pub action: Action,
    /// The asset, if not the policy's.
    pub target: Option<String>,
    /// The granting party, if not the policy's.
    pub assigner: Option<Did>,
    /// The granted party, if not the policy's.
    pub assignee: Option<Did>,
    /// Conditions, all of which must hold.
    pub constraints: Vec<Constraint>,
    /// What must be done *before* the permission may be used (ODRL section 2.6.5); none on a prohibition.
    pub duties: Vec<Duty>,
}

/// Something owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duty {
    /// The duty's identifier, by which its fulfilment is reported; without one its path serves.
    pub uid: Option<String>,
    /// What is owed.
    pub action: Action,
    /// Conditions of the duty; evidence only: a duty must be fulfilled whether or not they hold.
    pub constraints: Vec<Constraint>,
}

/// A condition (ODRL section 2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Constraint {
    /// One comparison.
    Atomic {
        /// What is looked at.
        left: LeftOperand,
        /// How it is compared.
        operator: Operator,
        /// What it is compared with.
        right: Operand,
    },
    /// All members hold.
    And(Vec<Constraint>),
    /// At least one member holds.
    Or(Vec<Constraint>),
    /// Exactly one member holds.
    Xone(Vec<Constraint>),
}

/// The kinds of logical constraint (ODRL section 2.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// `and`.
    And,
    /// `or`.
    Or,
    /// `xone`.
    Xone,
}

/// The value a constraint compares with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// One text or IRI.
    Text(String),
    /// Several texts or IRIs.
    List(Vec<String>),
    /// An instant.
    Time(UnixMillis),
    /// A number of uses, rows or bytes.
    Count(u64),
}

/// Why a policy is too large to be handled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BoundError {
    /// More rules than [`MAX_RULES`].
    #[error("policy has more than {MAX_RULES} rules")]
    TooManyRules,
    /// More constraints than [`MAX_CONSTRAINTS`].
    #[error("policy has more than {MAX_CONSTRAINTS} constraints")]
    TooManyConstraints,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("`{path}` is nested deeper than {MAX_DEPTH}")]
    TooDeep {
        /// Where.
        path: String,
    },
    /// More values than [`MAX_OPERANDS`].
    #[error("`{path}` has more than {MAX_OPERANDS} values")]
    TooManyOperands {
        /// Where.
        path: String,
    },
    /// A text is longer than [`MAX_TEXT_BYTES`].
    #[error("a text in `{path}` is longer than {MAX_TEXT_BYTES} bytes")]
    TextTooLong {
        /// Where.
        path: String,
    },
}

impl Constraint {
    /// A comparison.
    pub fn new(left: LeftOperand, operator: Operator, right: Operand) -> Self {
        Self::Atomic { left, operator, right }
    }

    /// The members and kind of a logical constraint; `None` for a comparison.
    pub fn group(&self) -> Option<(Group, &[Self])> {
        match self {
            Self::Atomic { .. } => None,
            Self::And(members) => Some((Group::And, members)),
            Self::Or(members) => Some((Group::Or, members)),
            Self::Xone(members) => Some((Group::Xone, members)),
        }
    }
}

impl Group {
    /// The ODRL name.
    pub fn name(self) -> &'static str {
        match self {
            Self::And => "and",
            Self::Or => "or",
            Self::Xone => "xone",
        }
    }
}

impl Rule {
    /// A rule with nothing but its action.
    pub fn new(action: Action) -> Self {
        Self {
            uid: None,
            action,
            target: None,
            assigner: None,
            assignee: None,
            constraints: Vec::new(),
            duties: Vec::new(),
        }
    }
}

impl Duty {
    /// The name under which fulfilment is reported: the duty's `uid`, else its path in the policy.
    pub fn id<'a>(&'a self, path: &'a str) -> &'a str {
        self.uid.as_deref().unwrap_or(path)
    }
}

impl Policy {
    /// An empty policy, which permits nothing.
    pub fn new(uid: &str, kind: PolicyKind) -> Self {
        Self {
            uid: uid.to_owned(),
            kind,
            assigner: None,
            assignee: None,
            target: None,
            permissions: Vec::new(),
            prohibitions: Vec::new(),
            obligations: Vec::new(),
            conflict: Conflict::Prohibit,
        }
    }

    /// The asset a rule of this policy is about; `None` means whatever asset is asked for.
    pub fn target_of<'a>(&'a self, rule: &'a Rule) -> Option<&'a str> {
        rule.target.as_deref().or(self.target.as_deref())
    }

    /// The party a rule of this policy speaks to; `None` means everybody.
    pub fn assignee_of<'a>(&'a self, rule: &'a Rule) -> Option<&'a Did> {
        rule.assignee.as_ref().or(self.assignee.as_ref())
    }

    /// Whether the policy stays within the bounds of this module.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn check_bounds(&self) -> Result<(), BoundError> {
        let mut walk = Walk { rules: 0, constraints: 0 };
        walk.text("policy", Some(&self.uid))?;
        walk.text("target", self.target.as_deref())?;
        for (name, rules) in [("permission", &self.permissions), ("prohibition", &self.prohibitions)] {
            for (index, rule) in rules.iter().enumerate() {
                walk.rule(&format!("{name}[{index}]"), rule)?;
            }
        }
        for (index, duty) in self.obligations.iter().enumerate() {
            walk.duty(&format!("obligation[{index}]"), duty)?;
        }
        Ok(())
    }
}

/// Counts what a policy holds, and stops at the first bound that is broken.
struct Walk {
    rules: usize,
    constraints: usize,
}

impl Walk {
    fn rule(&mut self, path: &str, rule: &Rule) -> Result<(), BoundError> {
        self.one_more_rule()?;
        self.text(path, rule.uid.as_deref())?;
        self.text(path, rule.target.as_deref())?;
        for constraint in &rule.constraints {
            self.constraint(path, constraint, MAX_DEPTH)?;
        }
        rule.duties.iter().try_for_each(|duty| self.duty(path, duty))
    }

    fn duty(&mut self, path: &str, duty: &Duty) -> Result<(), BoundError> {
        self.one_more_rule()?;
        self.text(path, duty.uid.as_deref())?;
        duty.constraints.iter().try_for_each(|constraint| self.constraint(path, constraint, MAX_DEPTH))
    }

    fn one_more_rule(&mut self) -> Result<(), BoundError> {
        self.rules += 1;
        if MAX_RULES < self.rules { Err(BoundError::TooManyRules) } else { Ok(()) }
    }

    fn constraint(&mut self, path: &str, constraint: &Constraint, depth_left: usize) -> Result<(), BoundError> {
        self.constraints += 1;
        if MAX_CONSTRAINTS < self.constraints {
            return Err(BoundError::TooManyConstraints);
        }
        let deeper = depth_left.checked_sub(1).ok_or_else(|| BoundError::TooDeep { path: path.to_owned() })?;
        match constraint {
            Constraint::Atomic { right, .. } => self.operand(path, right),
            Constraint::And(members) | Constraint::Or(members) | Constraint::Xone(members) => {
                members.iter().try_for_each(|member| self.constraint(path, member, deeper))
            }
        }
    }

    fn operand(&self, path: &str, operand: &Operand) -> Result<(), BoundError> {
        match operand {
            Operand::Text(text) => self.text(path, Some(text)),
            Operand::List(list) if MAX_OPERANDS < list.len() => {
                Err(BoundError::TooManyOperands { path: path.to_owned() })
            }
            Operand::List(list) => list.iter().try_for_each(|text| self.text(path, Some(text))),
            Operand::Time(_) | Operand::Count(_) => Ok(()),
        }
    }

    fn text(&self, path: &str, text: Option<&str>) -> Result<(), BoundError> {
        if text.is_some_and(|text| MAX_TEXT_BYTES < text.len()) {
            return Err(BoundError::TextTooLong { path: path.to_owned() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy_with(constraint: Constraint) -> Policy {
        let mut policy = Policy::new("urn:p", PolicyKind::Set);
        policy.permissions.push(Rule { constraints: vec![constraint], ..Rule::new(Action::Use) });
        policy
    }

    fn purpose(right: Operand) -> Constraint {
        Constraint::new(LeftOperand::Purpose, Operator::IsAnyOf, right)
    }

    #[test]
    fn bounds_hold_at_their_edge() {
        let nested =
            |depth: usize| (1..depth).fold(purpose(Operand::Text("x".into())), |inner, _| Constraint::And(vec![inner]));
        assert_eq!(policy_with(nested(MAX_DEPTH)).check_bounds(), Ok(()));
        assert!(matches!(policy_with(nested(MAX_DEPTH + 1)).check_bounds(), Err(BoundError::TooDeep { .. })));

        let many = |n: usize| Constraint::Or(vec![purpose(Operand::Count(1)); n]);
        assert_eq!(policy_with(many(MAX_CONSTRAINTS - 1)).check_bounds(), Ok(()));
        assert_eq!(policy_with(many(MAX_CONSTRAINTS)).check_bounds(), Err(BoundError::TooManyConstraints));

        let list = |n: usize| purpose(Operand::List(vec![String::new(); n]));
        assert_eq!(policy_with(list(MAX_OPERANDS)).check_bounds(), Ok(()));
        assert!(matches!(policy_with(list(MAX_OPERANDS + 1)).check_bounds(), Err(BoundError::TooManyOperands { .. })));

        let mut policy = Policy::new("urn:p", PolicyKind::Set);
        policy.prohibitions = vec![Rule::new(Action::Use); MAX_RULES + 1];
        assert_eq!(policy.check_bounds(), Err(BoundError::TooManyRules));
        assert!(Policy::new(&"x".repeat(MAX_TEXT_BYTES + 1), PolicyKind::Set).check_bounds().is_err());
    }
}
