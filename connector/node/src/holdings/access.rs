//! Who sees an offer: the spaces it belongs to, and its access policy.

use std::collections::BTreeSet;

use shuyu_base::UnixMillis;
use shuyu_policy::{
    Action, CompileError, Decision, Lang, Policy, PolicyKind, Program, Request, Severity, caller_view, check_access,
    compile, credential_types,
};

use super::{Holdings, Offer, PolicyRow, described, parse_policy};
use crate::claims::space::{SpaceNames, Viewer};
use crate::problem::Problem;
use crate::store::Table;

/// What the shelf knows of the node's spaces.
#[derive(Clone, Debug, Default)]
pub struct Spaced {
    /// Their names.
    pub names: SpaceNames,
    /// The types of credentials that count in one of them.
    pub types: BTreeSet<String>,
}

/// Who sees an offer, ready to be asked.
#[derive(Debug)]
pub struct Rule {
    spaces: Vec<String>,
    program: Program,
}

impl Rule {
    /// For members of one of `spaces` (all callers of a node without spaces, if there is none) whom the policy permits.
    ///
    /// # Errors
    /// [`CompileError`] for a policy that cannot be evaluated.
    pub fn new(spaces: Vec<String>, policy: &Policy) -> Result<Self, CompileError> {
        let policy = Policy { kind: PolicyKind::Set, ..policy.clone() };
        Ok(Self { spaces, program: compile(&policy)? })
    }

    /// Rules of one name decide alike.
    pub fn name(&self) -> String {
        format!("{} {:?}", self.program.program_hash(), self.spaces)
    }

    /// Whether the viewer sees it: by what it has shown in one space, never by what it has shown in several together.
    pub fn admits(&self, viewer: &Viewer, now: UnixMillis) -> bool {
        self.requests(viewer, now).any(|request| self.program.permits(&request).is_permit())
    }

    /// Why the viewer is not admitted, in words that name types of credentials and no claims of the viewer.
    pub fn refusal(&self, viewer: &Viewer, now: UnixMillis) -> String {
        let decisions: Vec<Decision> =
            self.requests(viewer, now).map(|request| self.program.decide(&request)).collect();
        let mut lines: Vec<String> = decisions.iter().take(1).map(|decision| decision.words(Lang::En)).collect();
        if lines.is_empty() {
            lines.push("the consumer is in none of the spaces that this belongs to".to_owned());
        }
        lines.extend(viewer.set_aside_in(&self.spaces));
        lines.join("\n")
    }

    fn requests(&self, viewer: &Viewer, now: UnixMillis) -> impl Iterator<Item = Request> {
        // The asset is not looked at: an access policy names none.
        let asked = Request::new(now, Action::Use, "", viewer.did.clone());
        viewer.shown_in(&self.spaces).into_iter().map(move |(_, shown)| Request { shown, ..asked.clone() })
    }
}

impl Holdings {
    /// The same shelf on a node of these spaces.
    #[must_use]
    pub fn in_spaces(mut self, spaced: Spaced) -> Self {
        self.spaced = spaced;
        self
    }

    /// Who sees an offer: by its access policy; without one of its own, by what the contract's policy says of the caller.
    ///
    /// # Errors
    /// 404 for a policy that is gone, 422 for one that is not understood.
    pub fn rule_of(&self, offer: &Offer) -> Result<Rule, Problem> {
        let of = |id: &str| parse_policy(&self.policy(id)?.policy);
        let policy = match &offer.access {
            Some(access) => of(access)?,
            None => caller_view(&of(&offer.policy)?),
        };
        self.rule(&offer.spaces, &policy)
    }

    /// Whether a policy can be met by a caller as it is, in spaces that something names.
    ///
    /// # Errors
    /// 422 for a policy that cannot be evaluated.
    pub fn rule(&self, spaces: &[String], policy: &Policy) -> Result<Rule, Problem> {
        let made = Rule::new(self.spaced.names.of(spaces), policy);
        made.map_err(|error| Problem::refused(format!("the policy cannot be enforced: {error}"), Vec::new()))
    }

    /// The spaces that a new offer belongs to, which must be named where the node has several.
    pub(super) fn spaces_for(&self, field: &str, named: &[String]) -> Result<Vec<String>, Problem> {
        let all = self.spaced.names.all();
        let bad = |reason: String| Problem::invalid(format!("`{field}`: {reason}"));
        let known = || all.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        if let Some(unknown) = named.iter().find(|name| !all.contains(name)) {
            let hint = if all.is_empty() { "this node belongs to no space".to_owned() } else { known() };
            return Err(bad(format!("this node is in no space `{unknown}`")).hint(hint));
        }
        if named.is_empty() && 1 < all.len() {
            return Err(bad(format!("say which spaces see the offer; this node is in {}", known())));
        }
        let mut spaces = self.spaced.names.of(named);
        spaces.sort();
        spaces.dedup();
        Ok(spaces)
    }

    /// Refuses a policy that speaks of credentials which count in no space of this node: it could never hold.
    ///
    /// # Errors
    /// 422 naming the type.
    pub fn check_credentials(&self, policy: &Policy) -> Result<(), Problem> {
        let types = credential_types(policy);
        let Some(unknown) = types.iter().find(|kind| !self.spaced.types.contains(*kind)) else { return Ok(()) };
        let words = vec![format!("credential type `{unknown}` is required and accepted by no space of this node")];
        let hint = "name it under `require` or `accept` of a space in shuyu.toml, with its issuers";
        Err(Problem::refused("the policy cannot be enforced as written", words).hint(hint))
    }

    /// Refuses conditions that are not over the caller in a policy that decides who sees an offer.
    pub(super) fn check_access_policy(&self, field: &str, row: &PolicyRow) -> Result<(), Problem> {
        let findings = check_access(&parse_policy(&row.policy)?);
        let words: Vec<String> =
            findings.iter().filter(|finding| finding.severity == Severity::Error).map(described).collect();
        if words.is_empty() {
            return Ok(());
        }
        Err(Problem::refused(format!("`{field}`: policy `{}` cannot decide who sees an offer", row.id), words)
            .hint("put conditions on the use into the contract's policy"))
    }

    /// Refuses a change of a policy that decides who sees an offer and would not be able to any more.
    pub(super) fn check_still_access(&self, row: &PolicyRow) -> Result<(), Problem> {
        let decides = |definition: &super::Definition| {
            definition.access_policy == row.id && definition.contract_policy != definition.access_policy
        };
        match self.find_definition(decides)? {
            Some(user) => self.check_access_policy("policy", row).map_err(|problem| {
                Problem::conflict(format!("it is the access policy of `{}`: {}", user.id, problem.detail))
            }),
            None => Ok(()),
        }
    }

    pub(super) fn known_policy(&self, field: &str, id: &str) -> Result<PolicyRow, Problem> {
        let row = self.store.get::<PolicyRow>(Table::Policies, id)?;
        row.ok_or_else(|| Problem::invalid(format!("`{field}`: there is no policy `{id}`")))
    }
}
