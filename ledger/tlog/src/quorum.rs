//! Which witnesses make a checkpoint believed: the policy file of C2SP tlog-policy, and what it says of a note.

use std::collections::HashMap;
use std::fmt;

use crate::cosignature::WitnessKey;
use crate::note::{Note, OpenNoteError, Vkey};

/// Largest policy file accepted, in bytes.
pub const MAX_POLICY_BYTES: usize = 64 * 1024;

/// Most logs, most witnesses and most groups accepted of each; the specification asks for at least 32.
pub const MAX_POLICY_NAMES: usize = 128;

/// Longest URL accepted, in bytes.
pub const MAX_POLICY_URL_BYTES: usize = 2048;

/// A policy: logs, witnesses, and how many of them must have cosigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessPolicy {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    groups: Vec<Group>,
    quorum: Option<Member>,
    text: String,
}

/// A log that the policy lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyLog {
    /// Its key, whose name is the origin.
    pub key: Vkey,
    /// Where to reach it.
    pub url: Option<String>,
}

/// A witness that the policy lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyWitness {
    /// What the policy calls it; no meaning elsewhere.
    pub name: String,
    /// Its key.
    pub key: WitnessKey,
    /// Its submission prefix (tlog-witness).
    pub url: Option<String>,
}

/// `group <name> <k> <member>...`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    needed: usize,
    members: Vec<Member>,
}

/// A witness or a group, by its place. Invariant: a group's members stand before it, so that there is no circle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group(usize),
}

/// Why a text is not a policy; lines are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParsePolicyError {
    /// Too long, not UTF-8, or a control character other than tab and newline.
    #[error("policy is not text of at most {MAX_POLICY_BYTES} bytes")]
    NotText,
    /// The line is none of the known kinds, or has too few or too many items.
    #[error("line {line} is not `log`, `witness`, `group` or `quorum` with its items")]
    Line {
        /// Number of the line.
        line: usize,
    },
    /// The key is of no kind that stands there.
    #[error("line {line}: the key is not one of a {role}")]
    Key {
        /// Number of the line.
        line: usize,
        /// `log` or `witness`.
        role: &'static str,
    },
    /// A key or a name stands there twice.
    #[error("line {line}: `{what}` stands there twice")]
    Repeated {
        /// Number of the line.
        line: usize,
        /// The key or name.
        what: String,
    },
    /// A name is used that no line before defines.
    #[error("line {line}: `{name}` is not defined on a line before")]
    Unknown {
        /// Number of the line.
        line: usize,
        /// The name.
        name: String,
    },
    /// The threshold of a group is not `any`, `all`, or 1 to the number of members.
    #[error("line {line}: the threshold is not `any`, `all` or 1 to the number of members")]
    Threshold {
        /// Number of the line.
        line: usize,
    },
    /// More than [`MAX_POLICY_NAMES`] of a kind.
    #[error("line {line}: more than {MAX_POLICY_NAMES} of a kind")]
    TooMany {
        /// Number of the line.
        line: usize,
    },
    /// There is no `quorum` line.
    #[error("policy has no `quorum` line")]
    NoQuorum,
}

impl WitnessPolicy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// [`ParsePolicyError`] names the line.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParsePolicyError> {
        if MAX_POLICY_BYTES < bytes.len() {
            return Err(ParsePolicyError::NotText);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ParsePolicyError::NotText)?;
        if text.bytes().any(|b| (b < 0x20 && b != b'\n' && b != b'\t') || b == 0x7f) {
            return Err(ParsePolicyError::NotText);
        }
        let mut reading = Reading::default();
        for (at, line) in text.split('\n').enumerate() {
            let items: Vec<&str> = line.split([' ', '\t']).filter(|item| !item.is_empty()).collect();
            if items.first().is_some_and(|first| !first.starts_with('#')) {
                reading.line(at + 1, &items)?;
            }
        }
        let quorum = reading.quorum.ok_or(ParsePolicyError::NoQuorum)?;
        let Reading { logs, witnesses, groups, .. } = reading;
        Ok(Self { logs, witnesses, groups, quorum, text: text.to_owned() })
    }

    /// The logs it lists; none where the log is known from elsewhere.
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    /// The witnesses it lists.
    pub fn witnesses(&self) -> &[PolicyWitness] {
        &self.witnesses
    }

    /// Whether a checkpoint needs cosignatures at all (`quorum none` needs none).
    pub fn needs_witnesses(&self) -> bool {
        self.quorum.is_some()
    }

    /// Whether the cosignatures on `note` make the quorum.
    ///
    /// # Errors
    /// [`OpenNoteError::BadSignature`] if the line of a listed witness does not verify.
    pub fn is_met(&self, note: &Note) -> Result<bool, OpenNoteError> {
        let times = self.times(note)?;
        Ok(self.holds(|witness| times.get(witness).is_some_and(Option::is_some)))
    }

    /// By when the quorum had seen the note: the smallest time, in seconds since 1970, by which those who had cosigned
    /// make the quorum. `None` without a quorum on it, and where the policy needs none.
    ///
    /// # Errors
    /// As [`Self::is_met`].
    pub fn existed_by(&self, note: &Note) -> Result<Option<u64>, OpenNoteError> {
        let times = self.times(note)?;
        let mut known: Vec<u64> = times.iter().flatten().copied().collect();
        known.sort_unstable();
        let is_by = |bound: u64| move |time: &u64| *time <= bound;
        Ok(self.first_time(&times, known, is_by))
    }

    /// Until when the quorum knew nothing newer: the largest time, in seconds since 1970, from which on those who cosigned
    /// make the quorum. A cosignature says that the note was the largest tree seen of the log at its time.
    ///
    /// # Errors
    /// As [`Self::is_met`].
    pub fn newest_at(&self, note: &Note) -> Result<Option<u64>, OpenNoteError> {
        let times = self.times(note)?;
        let mut known: Vec<u64> = times.iter().flatten().copied().collect();
        known.sort_unstable_by(|a, b| b.cmp(a));
        let is_from = |bound: u64| move |time: &u64| bound <= *time;
        Ok(self.first_time(&times, known, is_from))
    }

    fn first_time<F: Fn(&u64) -> bool>(
        &self,
        times: &[Option<u64>],
        bounds: Vec<u64>,
        test: impl Fn(u64) -> F,
    ) -> Option<u64> {
        if !self.needs_witnesses() {
            return None;
        }
        let counts = |bound: u64| {
            let test = test(bound);
            self.holds(|witness| times.get(witness).is_some_and(|time| time.as_ref().is_some_and(&test)))
        };
        bounds.into_iter().find(|bound| counts(*bound))
    }

    /// When each witness cosigned, in the order of the policy.
    fn times(&self, note: &Note) -> Result<Vec<Option<u64>>, OpenNoteError> {
        let time = |witness: &PolicyWitness| Ok(witness.key.cosignature(note)?.map(|cosigned| cosigned.time_s));
        self.witnesses.iter().map(time).collect()
    }

    /// Whether those for whom `has` says yes make the quorum.
    fn holds(&self, has: impl Fn(usize) -> bool) -> bool {
        let mut groups: Vec<bool> = Vec::with_capacity(self.groups.len());
        let member = |groups: &[bool], member: Member| match member {
            Member::Witness(at) => has(at),
            Member::Group(at) => groups.get(at).copied().unwrap_or(false),
        };
        for group in &self.groups {
            let count = group.members.iter().filter(|one| member(&groups, **one)).count();
            groups.push(group.needed <= count);
        }
        self.quorum.is_none_or(|quorum| member(&groups, quorum))
    }
}

impl fmt::Display for WitnessPolicy {
    /// The file as it was read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The lines read so far.
#[derive(Default)]
struct Reading {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    groups: Vec<Group>,
    names: HashMap<String, Member>,
    /// Whether a group lists the member already: each counts in one way only.
    used: Vec<Member>,
    quorum: Option<Option<Member>>,
}

impl Reading {
    fn line(&mut self, line: usize, items: &[&str]) -> Result<(), ParsePolicyError> {
        match items {
            ["log", key] => self.log(line, key, None),
            ["log", key, url] => self.log(line, key, Some(url)),
            ["witness", name, key] => self.witness(line, name, key, None),
            ["witness", name, key, url] => self.witness(line, name, key, Some(url)),
            ["group", name, threshold, members @ ..] if !members.is_empty() => {
                self.group(line, name, threshold, members)
            }
            ["quorum", name] => self.take_quorum(line, name),
            _ => Err(ParsePolicyError::Line { line }),
        }
    }

    fn log(&mut self, line: usize, key: &str, url: Option<&str>) -> Result<(), ParsePolicyError> {
        let key: Vkey = key.parse().map_err(|_| ParsePolicyError::Key { line, role: "log" })?;
        if self.logs.iter().any(|log| log.key.key() == key.key()) {
            return Err(ParsePolicyError::Repeated { line, what: key.to_string() });
        }
        self.logs.push(PolicyLog { key, url: read_url(line, url)? });
        bounded(line, self.logs.len())
    }

    fn witness(&mut self, line: usize, name: &str, key: &str, url: Option<&str>) -> Result<(), ParsePolicyError> {
        let key: WitnessKey = key.parse().map_err(|_| ParsePolicyError::Key { line, role: "witness" })?;
        if self.witnesses.iter().any(|witness| witness.key.key() == key.key()) {
            return Err(ParsePolicyError::Repeated { line, what: key.to_string() });
        }
        self.define(line, name, Member::Witness(self.witnesses.len()))?;
        self.witnesses.push(PolicyWitness { name: name.to_owned(), key, url: read_url(line, url)? });
        bounded(line, self.witnesses.len())
    }

    fn group(&mut self, line: usize, name: &str, threshold: &str, names: &[&str]) -> Result<(), ParsePolicyError> {
        let mut members = Vec::new();
        for name in names {
            let member = self.member(line, name)?;
            if self.used.contains(&member) {
                return Err(ParsePolicyError::Repeated { line, what: (*name).to_owned() });
            }
            self.used.push(member);
            members.push(member);
        }
        let needed = match threshold {
            "any" => Some(1),
            "all" => Some(members.len()),
            number => crate::decimal::parse(number).and_then(|number| usize::try_from(number).ok()),
        };
        let needed = needed.filter(|needed| (1..=members.len()).contains(needed));
        let needed = needed.ok_or(ParsePolicyError::Threshold { line })?;
        self.define(line, name, Member::Group(self.groups.len()))?;
        self.groups.push(Group { needed, members });
        bounded(line, self.groups.len())
    }

    fn take_quorum(&mut self, line: usize, name: &str) -> Result<(), ParsePolicyError> {
        if self.quorum.is_some() {
            return Err(ParsePolicyError::Repeated { line, what: "quorum".to_owned() });
        }
        self.quorum = Some(if name == "none" { None } else { Some(self.member(line, name)?) });
        Ok(())
    }

    fn member(&self, line: usize, name: &str) -> Result<Member, ParsePolicyError> {
        self.names.get(name).copied().ok_or_else(|| ParsePolicyError::Unknown { line, name: name.to_owned() })
    }

    fn define(&mut self, line: usize, name: &str, member: Member) -> Result<(), ParsePolicyError> {
        if name == "none" || self.names.insert(name.to_owned(), member).is_some() {
            return Err(ParsePolicyError::Repeated { line, what: name.to_owned() });
        }
        Ok(())
    }
}

fn bounded(line: usize, count: usize) -> Result<(), ParsePolicyError> {
    if count <= MAX_POLICY_NAMES { Ok(()) } else { Err(ParsePolicyError::TooMany { line }) }
}

fn read_url(line: usize, url: Option<&str>) -> Result<Option<String>, ParsePolicyError> {
    if url.is_some_and(|url| MAX_POLICY_URL_BYTES < url.len()) {
        return Err(ParsePolicyError::Line { line });
    }
    Ok(url.map(str::to_owned))
}

#[cfg(test)]
mod tests;
