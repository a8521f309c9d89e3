//! JSON to policies.

use serde_json::Value;
use shuyu_base::{Did, UnixMillis};
use shuyu_policy::model::{BoundError, MAX_DEPTH};
use shuyu_policy::terms::Sort;
use shuyu_policy::{Action, Conflict, Constraint, Duty, LeftOperand, Operand, Operator, Policy, PolicyKind, Rule};

use super::OdrlError;
use super::terms::{Term, check_context, is_known_profile, xsd};

/// Most members of one object; ODRL names about twenty. Keeps the search for repeated names cheap.
const MAX_MEMBERS: usize = 64;

/// Longest piece of foreign text repeated in an error, in characters.
const MAX_QUOTED: usize = 120;

/// Members of ODRL that, on a policy, would change what its rules mean (ODRL sections 2.7 and 2.8).
const CHANGE_THE_MEANING: [&str; 10] = [
    "action",
    "constraint",
    "duty",
    "remedy",
    "consequence",
    "failure",
    "refinement",
    "inheritFrom",
    "inheritAllowed",
    "relation",
];

pub(super) fn policy(value: &Value) -> Result<Policy, OdrlError> {
    let mut object = Object::of("policy", value)?;
    if let Some(context) = object.take("@context") {
        check_context(context)?;
    }
    let kind = match object.take("@type") {
        None => return Err(object.missing("@type")),
        Some(kind) => policy_kind(kind)?,
    };
    for profile in object.take("profile").map(one_or_many).unwrap_or_default() {
        let name = reference("profile", profile)?;
        if !is_known_profile(&name) {
            return Err(OdrlError::UnknownProfile { profile: clip(&name) });
        }
    }
    let uid = object.take("@id").map(|id| text("@id", id)).transpose()?.ok_or_else(|| object.missing("@id"))?;
    let policy = Policy {
        assigner: object.party("assigner")?,
        assignee: object.party("assignee")?,
        target: object.target()?,
        permissions: object.all("permission", rule_with_duties)?,
        prohibitions: object.all("prohibition", rule)?,
        obligations: object.all("obligation", duty)?,
        conflict: object.take("conflict").map(conflict).transpose()?.unwrap_or_default(),
        ..Policy::new(&uid, kind)
    };
    object.refuse_what_changes_the_meaning()?;
    policy.check_bounds()?;
    Ok(policy)
}

fn policy_kind(value: &Value) -> Result<PolicyKind, OdrlError> {
    let name = only("@type", value)?;
    match Term::of(name).odrl() {
        Some("Set" | "Policy") => Ok(PolicyKind::Set),
        Some("Offer") => Ok(PolicyKind::Offer),
        Some("Agreement") => Ok(PolicyKind::Agreement),
        _ => Err(unknown("@type", "class of policy", name)),
    }
}

fn conflict(value: &Value) -> Result<Conflict, OdrlError> {
    let name = reference("conflict", value)?;
    match Term::of(&name).odrl() {
        Some("prohibit") => Ok(Conflict::Prohibit),
        Some("perm") => Ok(Conflict::Permit),
        Some("invalid") => Ok(Conflict::Invalid),
        _ => Err(unknown("conflict", "conflict strategy", &name)),
    }
}

fn rule_with_duties(path: &str, value: &Value) -> Result<Rule, OdrlError> {
    let mut object = Object::of(path, value)?;
    let rule = Rule { duties: object.all("duty", duty)?, ..plain_rule(&mut object)? };
    object.refuse_the_rest(&["Permission", "Rule"])?;
    Ok(rule)
}

/// A prohibition: it has no duties, and its `remedy` is not supported.
fn rule(path: &str, value: &Value) -> Result<Rule, OdrlError> {
    let mut object = Object::of(path, value)?;
    let rule = plain_rule(&mut object)?;
    object.refuse_the_rest(&["Prohibition", "Rule"])?;
    Ok(rule)
}

fn plain_rule(object: &mut Object<'_>) -> Result<Rule, OdrlError> {
    Ok(Rule {
        uid: object.id()?,
        action: object.action()?,
        target: object.target()?,
        assigner: object.party("assigner")?,
        assignee: object.party("assignee")?,
        constraints: object.all("constraint", |path, value| constraint(path, value, MAX_DEPTH))?,
        duties: Vec::new(),
    })
}

fn duty(path: &str, value: &Value) -> Result<Duty, OdrlError> {
    let mut object = Object::of(path, value)?;
    let duty = Duty {
        uid: object.id()?,
        action: object.action()?,
        constraints: object.all("constraint", |path, value| constraint(path, value, MAX_DEPTH))?,
    };
    object.refuse_the_rest(&["Duty", "Rule"])?;
    Ok(duty)
}

fn constraint(path: &str, value: &Value, depth_left: usize) -> Result<Constraint, OdrlError> {
    let deeper = depth_left.checked_sub(1).ok_or_else(|| BoundError::TooDeep { path: path.to_owned() })?;
    let mut object = Object::of(path, value)?;
    object.id()?;
    type Make = fn(Vec<Constraint>) -> Constraint;
    let groups: [(&str, Make); 3] = [("and", Constraint::And), ("or", Constraint::Or), ("xone", Constraint::Xone)];
    for (name, make) in groups {
        let members = object.take(name).map(|value| match value {
            // JSON-LD may wrap the members in an ordered list.
            Value::Object(list) if list.len() == 1 => list.get("@list").unwrap_or(value),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                value
            }
        });
        if let Some(members) = members {
            object.refuse_the_rest(&["LogicalConstraint", "Constraint"])?;
            return Ok(make(each(path, name, members, |path, value| constraint(path, value, deeper))?));
        }
    }
    if object.take("andSequence").is_some() {
        return Err(object.unsupported("andSequence"));
    }
    let left = object.need("leftOperand")?;
    let left = left_operand(&format!("{path}.leftOperand"), left)?;
    let operator = object.need("operator")?;
    let operator = self::operator(&format!("{path}.operator"), operator)?;
    let right = object.need("rightOperand")?;
    let right = operand(&format!("{path}.rightOperand"), right, left, operator)?;
    object.refuse_the_rest(&["AtomicConstraint", "Constraint"])?;
    Ok(Constraint::Atomic { left, operator, right })
}

fn left_operand(path: &str, value: &Value) -> Result<LeftOperand, OdrlError> {
    let name = reference(path, value)?;
    let found = match Term::of(&name) {
        Term::Compact(local) | Term::Odrl(local) => {
            LeftOperand::from_name(local).filter(|left| !left.is_profile_term())
        }
        Term::Profile(local) => LeftOperand::from_name(local).filter(|left| left.is_profile_term()),
        Term::Foreign => None,
    };
    found.ok_or_else(|| unknown(path, "left operand", &name))
}

fn operator(path: &str, value: &Value) -> Result<Operator, OdrlError> {
    let name = reference(path, value)?;
    // The JSON schema of DSP 2025-1 also spells `lteq` as `term-lteq`.
    let local = Term::of(&name).odrl().map(|local| if local == "term-lteq" { "lteq" } else { local });
    local.and_then(Operator::from_name).ok_or_else(|| unknown(path, "operator", &name))
}

fn operand(path: &str, value: &Value, left: LeftOperand, operator: Operator) -> Result<Operand, OdrlError> {
    match left.sort() {
        Sort::Time => time(path, single(value)),
        Sort::Count => count(path, single(value)),
        Sort::Text => {
            let list = match value {
                Value::Array(list) => Some(list),
                Value::Object(members) => members.get("@list").and_then(Value::as_array),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
            };
            match list.map(Vec::as_slice) {
                None => Ok(Operand::Text(literal_text(path, value)?)),
                Some([one]) if !operator.takes_list() => Ok(Operand::Text(literal_text(path, one)?)),
                Some(list) => {
                    let texts = list.iter().map(|item| literal_text(path, item)).collect::<Result<_, _>>()?;
                    Ok(Operand::List(texts))
                }
            }
        }
    }
}

/// The only member of a list of one; any other value as it is.
fn single(value: &Value) -> &Value {
    match value.as_array().map(Vec::as_slice) {
        Some([one]) => one,
        Some(_) | None => value,
    }
}

fn time(path: &str, value: &Value) -> Result<Operand, OdrlError> {
    let written = match typed(path, value)? {
        Some((written, "dateTime" | "dateTimeStamp" | "string")) => written,
        Some(_) => return Err(bad(path, "a time of type xsd:dateTime")),
        None => value,
    };
    let instant = written.as_str().and_then(UnixMillis::from_rfc3339);
    instant.map(Operand::Time).ok_or_else(|| bad(path, "a time with offset (RFC 3339), such as 2026-11-22T08:00:00Z"))
}

fn count(path: &str, value: &Value) -> Result<Operand, OdrlError> {
    const INTEGERS: [&str; 9] = [
        "integer",
        "nonNegativeInteger",
        "positiveInteger",
        "unsignedLong",
        "unsignedInt",
        "long",
        "int",
        "decimal",
        "string",
    ];
    let written = match typed(path, value)? {
        Some((written, kind)) if INTEGERS.contains(&kind) => written,
        Some(_) => return Err(bad(path, "a whole number of type xsd:integer")),
        None => value,
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let number = written.as_u64().or_else(|| written.as_str().filter(|text| digits(text))?.parse().ok());
    number.map(Operand::Count).ok_or_else(|| bad(path, "a whole number from 0 to 18446744073709551615"))
}

/// Value and local type name of a typed literal.
fn typed<'a>(path: &str, value: &'a Value) -> Result<Option<(&'a Value, &'a str)>, OdrlError> {
    let Some(members) = value.as_object() else { return Ok(None) };
    let known = members.keys().all(|name| name == "@value" || name == "@type");
    let literal = members.get("@value").filter(|_| known).ok_or_else(|| bad(path, "a value with `@value`"))?;
    let kind = match members.get("@type") {
        None => "string",
        Some(kind) => {
            let kind = kind.as_str().and_then(xsd);
            kind.ok_or_else(|| bad(path, "a value of a type of XML Schema"))?
        }
    };
    Ok(Some((literal, kind)))
}

/// A text, an IRI (`{"@id": ..}`) or a text literal (`{"@value": ..}`).
fn literal_text(path: &str, value: &Value) -> Result<String, OdrlError> {
    const WANTED: &str = "a text or an IRI";
    let Some(members) = value.as_object() else { return text(path, value) };
    if members.len() == 1
        && let Some(id) = members.get("@id")
    {
        return text(path, id);
    }
    match typed(path, value)? {
        Some((literal, "string" | "anyURI")) => text(path, literal),
        Some(_) | None => Err(bad(path, WANTED)),
    }
}

fn text(path: &str, value: &Value) -> Result<String, OdrlError> {
    value.as_str().map(str::to_owned).ok_or_else(|| bad(path, "a text"))
}

/// A name: text, or an object with nothing but `@id`; a list of one such.
fn reference(path: &str, value: &Value) -> Result<String, OdrlError> {
    let value = single(value);
    let named = match value.as_object() {
        Some(members) if members.len() == 1 => members.get("@id").or_else(|| members.get("uid")),
        Some(_) => None,
        None => Some(value),
    };
    let name = named.and_then(Value::as_str).ok_or_else(|| bad(path, "one name, or an object with `@id` alone"))?;
    Ok(name.to_owned())
}

fn only<'a>(path: &str, value: &'a Value) -> Result<&'a str, OdrlError> {
    single(value).as_str().ok_or_else(|| bad(path, "one name"))
}

fn one_or_many(value: &Value) -> Vec<&Value> {
    match value.as_array() {
        Some(list) => list.iter().collect(),
        None => vec![value],
    }
}

fn each<T>(
    path: &str,
    name: &str,
    value: &Value,
    read: impl Fn(&str, &Value) -> Result<T, OdrlError>,
) -> Result<Vec<T>, OdrlError> {
    let items = one_or_many(value).into_iter().enumerate();
    items.map(|(index, item)| read(&join(path, &format!("{name}[{index}]")), item)).collect()
}

fn join(path: &str, name: &str) -> String {
    if path == "policy" { name.to_owned() } else { format!("{path}.{name}") }
}

fn unknown(path: &str, kind: &'static str, term: &str) -> OdrlError {
    OdrlError::UnknownTerm { path: path.to_owned(), kind, term: clip(term) }
}

fn bad(path: &str, wanted: &'static str) -> OdrlError {
    OdrlError::BadValue { path: path.to_owned(), wanted }
}

/// An object whose members are taken one by one, under their normalised names.
struct Object<'a> {
    path: String,
    /// Normalised name, name as written, value.
    members: Vec<(&'a str, &'a str, &'a Value)>,
}

impl<'a> Object<'a> {
    fn of(path: &str, value: &'a Value) -> Result<Self, OdrlError> {
        let object = value.as_object().ok_or_else(|| bad(path, "an object"))?;
        if MAX_MEMBERS < object.len() {
            return Err(bad(path, "an object of at most 64 members"));
        }
        let mut members: Vec<(&str, &str, &Value)> = Vec::with_capacity(object.len());
        for (written, value) in object {
            let name = match Term::of(written) {
                Term::Odrl("uid") | Term::Compact("uid" | "id") => "@id",
                Term::Compact("type") => "@type",
                Term::Compact(name) | Term::Odrl(name) => name,
                Term::Profile(_) | Term::Foreign => written,
            };
            if members.iter().any(|(known, ..)| *known == name) {
                return Err(OdrlError::Twice { path: path.to_owned(), member: clip(name) });
            }
            members.push((name, written, value));
        }
        Ok(Self { path: path.to_owned(), members })
    }

    fn take(&mut self, name: &str) -> Option<&'a Value> {
        let at = self.members.iter().position(|(known, ..)| *known == name)?;
        Some(self.members.remove(at).2)
    }

    fn need(&mut self, name: &'static str) -> Result<&'a Value, OdrlError> {
        self.take(name).ok_or_else(|| self.missing(name))
    }

    fn missing(&self, member: &'static str) -> OdrlError {
        OdrlError::Missing { path: self.path.clone(), member }
    }

    fn at(&self, name: &str) -> String {
        join(&self.path, name)
    }

    fn id(&mut self) -> Result<Option<String>, OdrlError> {
        let path = self.at("@id");
        self.take("@id").map(|id| text(&path, id)).transpose()
    }

    fn target(&mut self) -> Result<Option<String>, OdrlError> {
        let path = self.at("target");
        self.take("target").map(|target| reference(&path, target)).transpose()
    }

    fn party(&mut self, name: &'static str) -> Result<Option<Did>, OdrlError> {
        let path = self.at(name);
        let Some(party) = self.take(name) else { return Ok(None) };
        let did = reference(&path, party)?.parse();
        did.map(Some).map_err(|_| bad(&path, "a DID"))
    }

    fn action(&mut self) -> Result<Action, OdrlError> {
        let path = self.at("action");
        let name = reference(&path, self.need("action")?)?;
        let action = Term::of(&name).odrl().and_then(Action::from_name);
        action.ok_or_else(|| unknown(&path, "action", &name))
    }

    fn all<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&str, &Value) -> Result<T, OdrlError>,
    ) -> Result<Vec<T>, OdrlError> {
        self.take(name).map_or(Ok(Vec::new()), |value| each(&self.path, name, value, read))
    }

    /// Refuses every member that has not been taken, and a class that is not one of `classes`.
    fn refuse_the_rest(&mut self, classes: &[&str]) -> Result<(), OdrlError> {
        if let Some(class) = self.take("@type") {
            let path = self.at("@type");
            let name = only(&path, class)?;
            if !Term::of(name).odrl().is_some_and(|local| classes.contains(&local)) {
                return Err(unknown(&path, "class here", name));
            }
        }
        self.members.first().map_or(Ok(()), |(_, written, _)| Err(self.unsupported(written)))
    }

    fn refuse_what_changes_the_meaning(&self) -> Result<(), OdrlError> {
        let changes = |name: &str, written: &str| {
            CHANGE_THE_MEANING.contains(&name) || !matches!(Term::of(written), Term::Compact(_) | Term::Foreign)
        };
        let found = self.members.iter().find(|(name, written, _)| changes(name, written));
        found.map_or(Ok(()), |(_, written, _)| Err(self.unsupported(written)))
    }

    fn unsupported(&self, member: &str) -> OdrlError {
        OdrlError::Unsupported { path: self.path.clone(), member: clip(member) }
    }
}

fn clip(text: &str) -> String {
    text.chars().take(MAX_QUOTED).collect()
}
