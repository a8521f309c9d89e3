//! What is known of a caller's credentials, by space.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use shuyu_base::{Did, UnixMillis};
use shuyu_policy::Shown;

/// A caller in the spaces it was admitted to.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Its membership in each, by the name of the space; at least one.
    pub memberships: BTreeMap<String, Membership>,
    /// When this is to be looked at again.
    pub until: UnixMillis,
}

/// A caller in one space.
#[derive(Clone, Debug, Default)]
pub struct Membership {
    /// What its credentials say that count in this space.
    pub shown: Shown,
    /// Why others do not count, a line each.
    pub set_aside: Vec<String>,
}

/// Who looks: a caller, and where the node belongs to spaces, its standing in them.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// The caller.
    pub did: Did,
    /// Its standing; absent on a node of no space.
    pub standing: Option<Arc<Standing>>,
}

impl Viewer {
    /// What the caller has shown, once for each of `spaces` that it is in; where there are no spaces, once and empty.
    pub fn shown_in(&self, spaces: &[String]) -> Vec<(Option<&str>, Shown)> {
        match &self.standing {
            None if spaces.is_empty() => vec![(None, Shown::default())],
            None => Vec::new(),
            Some(standing) => spaces
                .iter()
                .filter_map(|name| standing.memberships.get_key_value(name))
                .map(|(name, membership)| (Some(name.as_str()), membership.shown.clone()))
                .collect(),
        }
    }

    /// Why credentials of the caller do not count in `spaces`, a line each.
    pub fn set_aside_in(&self, spaces: &[String]) -> Vec<String> {
        let memberships = self.standing.iter().flat_map(|standing| &standing.memberships);
        let of = memberships.filter(|(name, _)| spaces.contains(name));
        of.flat_map(|(_, membership)| membership.set_aside.clone()).collect()
    }
}

/// The names of this node's spaces, and which of them something belongs to that names some or none.
#[derive(Clone, Debug, Default)]
pub struct SpaceNames(Arc<[String]>);

impl SpaceNames {
    /// Of a node of these spaces.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().collect())
    }

    /// All of them.
    pub fn all(&self) -> &[String] {
        &self.0
    }

    /// Those that `listed` names; where it names none, the node's only space. On a node of several spaces what names none
    /// belongs to none: it might have been meant for one and not for the other.
    pub fn of(&self, listed: &[String]) -> Vec<String> {
        match (listed, &*self.0) {
            ([], [only]) => vec![only.clone()],
            ([], []) => Vec::new(),
            // No caller is in a space without a name.
            ([], _) => vec![String::new()],
            (listed, _) => listed.to_vec(),
        }
    }
}

/// What running streams rely on: facts of credentials that their policy speaks of, by space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relied(BTreeMap<String, Shown>);

impl Relied {
    /// Adds what a use in `space` relied on, of credentials of these types.
    pub fn add(&mut self, space: &str, shown: &Shown, types: &BTreeSet<String>) {
        let of_type = |fact: &&String| fact.split('#').next().is_some_and(|kind| types.contains(kind));
        let known = self.0.entry(space.to_owned()).or_default();
        known.types.extend(shown.types.iter().filter(of_type).cloned());
        known.claims.extend(shown.claims.iter().filter(of_type).cloned());
    }

    /// What of it no longer holds, in words that name types and no claims; `None` if all of it holds.
    pub fn lost(&self, standing: &Standing) -> Option<String> {
        self.0.iter().find_map(|(space, relied)| {
            let Some(membership) = standing.memberships.get(space) else {
                return Some(format!("the consumer is no longer in the space `{space}`"));
            };
            let missing = relied.types.difference(&membership.shown.types).next().cloned();
            let changed = || {
                let claim = relied.claims.difference(&membership.shown.claims).next();
                claim.and_then(|claim| claim.split('#').next()).map(str::to_owned)
            };
            missing.or_else(changed).map(|kind| {
                let why = membership.set_aside.iter().find(|line| line.contains(&format!("`{kind}`")));
                why.cloned().unwrap_or_else(|| format!("`{kind}` no longer says what the contract relies on"))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(types: &[&str], claims: &[&str]) -> Shown {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Shown { types: own(types), claims: own(claims) }
    }

    fn standing(spaces: &[(&str, Shown)]) -> Standing {
        let of = |(name, shown): &(&str, Shown)| {
            ((*name).to_owned(), Membership { shown: shown.clone(), set_aside: vec!["`Auditor` has ended".to_owned()] })
        };
        Standing { memberships: spaces.iter().map(of).collect(), until: UnixMillis(0) }
    }

    #[test]
    fn facts_of_one_space_do_not_count_in_another() {
        let standing = standing(&[("a", shown(&["Member"], &[])), ("b", shown(&["Auditor"], &[]))]);
        let viewer = Viewer { did: "did:web:c.example".parse().unwrap(), standing: Some(Arc::new(standing)) };
        let seen = |spaces: &[&str]| {
            let spaces: Vec<String> = spaces.iter().map(|space| (*space).to_owned()).collect();
            viewer.shown_in(&spaces).into_iter().map(|(_, shown)| shown.types).collect::<Vec<_>>()
        };
        assert_eq!(seen(&["a"]), [["Member".to_owned()].into()]);
        assert_eq!(seen(&["a", "b"]).len(), 2);
        assert!(seen(&["c"]).is_empty() && seen(&[]).is_empty());
        let stranger = Viewer { standing: None, ..viewer };
        assert_eq!(stranger.shown_in(&[]).len(), 1);
        assert!(stranger.shown_in(&["a".to_owned()]).is_empty());
    }

    #[test]
    fn what_names_no_space_belongs_to_the_only_one_or_to_none() {
        let names = |names: &[&str]| SpaceNames::new(names.iter().map(|name| (*name).to_owned()));
        assert!(names(&[]).of(&[]).is_empty());
        assert_eq!(names(&["a"]).of(&[]), ["a"]);
        assert_eq!(names(&["a", "b"]).of(&[]), [""]);
        assert_eq!(names(&["a", "b"]).of(&["b".to_owned()]), ["b"]);
    }

    #[test]
    fn streams_end_when_what_they_rely_on_is_lost() {
        let mut relied = Relied::default();
        let gold = shown(&["Member", "Auditor"], &["Member#level=gold", "Auditor#no=7"]);
        relied.add("a", &gold, &["Auditor".to_owned()].into());
        let lost = |spaces: &[(&str, Shown)]| relied.lost(&standing(spaces));
        assert_eq!(lost(&[("a", gold.clone())]), None);
        // What no policy speaks of may change.
        assert_eq!(lost(&[("a", shown(&["Auditor"], &["Auditor#no=7"]))]), None);
        assert_eq!(lost(&[("a", shown(&["Member"], &[]))]), Some("`Auditor` has ended".to_owned()));
        assert_eq!(lost(&[("a", shown(&["Auditor"], &[]))]), Some("`Auditor` has ended".to_owned()));
        assert_eq!(lost(&[("b", gold)]), Some("the consumer is no longer in the space `a`".to_owned()));
    }
}
