//! The closed vocabulary: actions, left operands and operators that this system understands.
//!
//! Names are the local names of their IRIs, in the ODRL namespace or in the Shuyu profile's.

/// Namespace of the ODRL 2.2 core and common vocabulary.
pub const ODRL_NAMESPACE: &str = "http://www.w3.org/ns/odrl/2/";

/// Namespace of the Shuyu profile, `docs/profile/README.md`.
pub const PROFILE_NAMESPACE: &str = "https://w3id.org/shuyu/profile/1#";

/// Declares a closed set of terms with their local names.
macro_rules! closed_terms {
    ($(#[$outer:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// Every term of the set, in a fixed order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The local name of the term's IRI.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The term with this local name; `None` when the set has no such term.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

closed_terms! {
    /// What is done with the asset (ODRL Vocabulary section 4). All are terms of ODRL.
    Action {
        /// Any use at all; includes every action below except `transfer` and the duties.
        Use = "use",
        /// Ask questions of the asset and read the answers (a query).
        Read = "read",
        /// Make a copy (a download of the governed result).
        Reproduce = "reproduce",
        /// Show to a person.
        Display = "display",
        /// Compute totals that do not show single records.
        Aggregate = "aggregate",
        /// Make something new out of it.
        Derive = "derive",
        /// Hand on to third parties.
        Distribute = "distribute",
        /// Hand over altogether; not included in `use`.
        Transfer = "transfer",
        /// Duty: name the source.
        Attribute = "attribute",
        /// Duty: tell the holder.
        Inform = "inform",
        /// Duty: delete the copies.
        Delete = "delete",
        /// Duty: pay.
        Compensate = "compensate",
        /// Duty: obtain consent.
        ObtainConsent = "obtainConsent",
    }
}

closed_terms! {
    /// What a constraint speaks about. The first five are terms of ODRL, the rest of the Shuyu profile.
    LeftOperand {
        /// The purpose the consumer declares.
        Purpose = "purpose",
        /// The participant that receives the data; a DID.
        Recipient = "recipient",
        /// The instant of the use.
        DateTime = "dateTime",
        /// How many uses there will have been, this one counted.
        Count = "count",
        /// The place of the use; an ISO 3166 code such as `CN` or `CN-SH`.
        Spatial = "spatial",
        /// Rows the consumer may see: a [`crate::Predicate`].
        RowFilter = "rowFilter",
        /// Columns shown only through a mask, `column=mask`.
        ColumnMask = "columnMask",
        /// Columns that do not exist for the consumer.
        ColumnDeny = "columnDeny",
        /// Rows delivered in all under the agreement.
        RowCount = "rowCount",
        /// Bytes delivered in all under the agreement.
        ByteCount = "byteCount",
        /// The format of the delivery: `arrow-stream`, `arrow-ipc`, `parquet`, `csv`, `json`, `file`.
        DeliveryFormat = "deliveryFormat",
        /// A type of credential that the consumer has shown and that is valid now.
        CredentialType = "credentialType",
        /// What such a credential says of the consumer: `Type#member=value`, see [`crate::access`].
        CredentialClaim = "credentialClaim",
    }
}

closed_terms! {
    /// How a constraint compares (ODRL Vocabulary section 4.10).
    Operator {
        /// Equal to.
        Eq = "eq",
        /// Not equal to.
        Neq = "neq",
        /// Less than.
        Lt = "lt",
        /// Less than or equal to.
        Lteq = "lteq",
        /// Greater than.
        Gt = "gt",
        /// Greater than or equal to.
        Gteq = "gteq",
        /// Is a kind of.
        IsA = "isA",
        /// Has as a part.
        HasPart = "hasPart",
        /// Is a part of.
        IsPartOf = "isPartOf",
        /// Is each of the list.
        IsAllOf = "isAllOf",
        /// Is one of the list.
        IsAnyOf = "isAnyOf",
        /// Is none of the list.
        IsNoneOf = "isNoneOf",
    }
}

/// The kind of value a left operand is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sort {
    /// Text or IRI, compared exactly.
    Text,
    /// An instant.
    Time,
    /// A number of things, at least 0.
    Count,
}

impl Action {
    /// Whether permitting `self` permits `other` (ODRL `includedIn`, transitively; each action includes itself).
    pub fn includes(self, other: Self) -> bool {
        self == other || (self == Self::Use && other != Self::Transfer && !other.is_duty())
    }

    /// Whether some act is an instance of both: one of the two includes the other.
    pub fn overlaps(self, other: Self) -> bool {
        self.includes(other) || other.includes(self)
    }

    /// Whether the action is something owed, so it may stand in a duty or obligation and not in a permission.
    pub fn is_duty(self) -> bool {
        match self {
            Self::Attribute | Self::Inform | Self::Delete | Self::Compensate | Self::ObtainConsent => true,
            Self::Use
            | Self::Read
            | Self::Reproduce
            | Self::Display
            | Self::Aggregate
            | Self::Derive
            | Self::Distribute
            | Self::Transfer => false,
        }
    }

    /// Whether the provider's node performs the act itself and so can refuse it; other acts happen at the consumer.
    pub fn is_enforced(self) -> bool {
        match self {
            Self::Use | Self::Read | Self::Reproduce | Self::Aggregate => true,
            Self::Display | Self::Derive | Self::Distribute | Self::Transfer => false,
            Self::Attribute | Self::Inform | Self::Delete | Self::Compensate | Self::ObtainConsent => false,
        }
    }

    /// The term's full IRI.
    pub fn iri(self) -> String {
        format!("{ODRL_NAMESPACE}{}", self.name())
    }
}

impl LeftOperand {
    /// Whether the term belongs to the Shuyu profile rather than to ODRL.
    pub fn is_profile_term(self) -> bool {
        match self {
            Self::Purpose | Self::Recipient | Self::DateTime | Self::Count | Self::Spatial => false,
            Self::RowFilter
            | Self::ColumnMask
            | Self::ColumnDeny
            | Self::RowCount
            | Self::ByteCount
            | Self::DeliveryFormat
            | Self::CredentialType
            | Self::CredentialClaim => true,
        }
    }

    /// The term's full IRI.
    pub fn iri(self) -> String {
        let namespace = if self.is_profile_term() { PROFILE_NAMESPACE } else { ODRL_NAMESPACE };
        format!("{namespace}{}", self.name())
    }

    /// The kind of value it is compared with.
    pub fn sort(self) -> Sort {
        match self {
            Self::DateTime => Sort::Time,
            Self::Count | Self::RowCount | Self::ByteCount => Sort::Count,
            Self::Purpose
            | Self::Recipient
            | Self::Spatial
            | Self::RowFilter
            | Self::ColumnMask
            | Self::ColumnDeny
            | Self::DeliveryFormat
            | Self::CredentialType
            | Self::CredentialClaim => Sort::Text,
        }
    }

    /// Whether the term shapes the answer (rows, columns) instead of testing the request.
    pub fn is_shape(self) -> bool {
        match self {
            Self::RowFilter | Self::ColumnMask | Self::ColumnDeny => true,
            Self::Purpose
            | Self::Recipient
            | Self::DateTime
            | Self::Count
            | Self::Spatial
            | Self::RowCount
            | Self::ByteCount
            | Self::DeliveryFormat
            | Self::CredentialType
            | Self::CredentialClaim => false,
        }
    }

    /// Whether the term speaks of credentials. Such a constraint holds or is unknown and never fails, because a holder
    /// shows what it likes: that it has not shown something proves nothing.
    pub fn is_credential(self) -> bool {
        matches!(self, Self::CredentialType | Self::CredentialClaim)
    }

    /// Whether the term speaks of who asks.
    pub fn is_of_caller(self) -> bool {
        self.is_credential() || self == Self::Recipient
    }

    /// Whether an access policy may speak of the term: of who asks, and when.
    pub fn is_of_access(self) -> bool {
        self.is_of_caller() || self == Self::DateTime
    }

    /// Whether the term is a budget that is spent while data flows.
    pub fn is_quota(self) -> bool {
        self.sort() == Sort::Count
    }

    /// The operators that may stand with the term; every other one is refused when the policy is written.
    pub fn operators(self) -> &'static [Operator] {
        use Operator::{Eq, Gt, Gteq, IsA, IsAllOf, IsAnyOf, IsNoneOf, IsPartOf, Lt, Lteq, Neq};
        match self {
            Self::Purpose => &[Eq, Neq, IsAnyOf, IsNoneOf, IsA],
            Self::Spatial => &[Eq, Neq, IsAnyOf, IsNoneOf, IsPartOf],
            Self::Recipient | Self::DeliveryFormat => &[Eq, Neq, IsAnyOf, IsNoneOf],
            Self::DateTime => &[Lt, Lteq, Gt, Gteq],
            Self::Count | Self::RowCount | Self::ByteCount => &[Lt, Lteq],
            Self::RowFilter => &[Eq],
            Self::ColumnMask => &[Eq, IsAllOf],
            Self::ColumnDeny => &[Eq, IsAnyOf],
            Self::CredentialType | Self::CredentialClaim => &[Eq, IsAnyOf, IsAllOf],
        }
    }

    /// The character between the steps of a hierarchical name: purposes nest with `/`, places with `-`.
    pub fn separator(self) -> char {
        if self == Self::Spatial { '-' } else { '/' }
    }
}

impl Operator {
    /// Whether the operator takes a list; the others take one value.
    pub fn takes_list(self) -> bool {
        match self {
            Self::IsAllOf | Self::IsAnyOf | Self::IsNoneOf => true,
            Self::Eq
            | Self::Neq
            | Self::Lt
            | Self::Lteq
            | Self::Gt
            | Self::Gteq
            | Self::IsA
            | Self::HasPart
            | Self::IsPartOf => false,
        }
    }
}

/// Whether `name` is `ancestor` or lies below it: `research/clinical` is under `research`, `CN-SH` under `CN`.
pub fn is_under(name: &str, ancestor: &str, separator: char) -> bool {
    name.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with(separator))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        assert!(Action::ALL.iter().all(|term| Action::from_name(term.name()) == Some(*term)));
        assert!(LeftOperand::ALL.iter().all(|term| LeftOperand::from_name(term.name()) == Some(*term)));
        assert!(Operator::ALL.iter().all(|term| Operator::from_name(term.name()) == Some(*term)));
        assert_eq!(Action::from_name("Use"), None);
    }

    #[test]
    fn use_includes_uses_only() {
        assert!(Action::Use.includes(Action::Read) && !Action::Read.includes(Action::Use));
        assert!(!Action::Use.includes(Action::Transfer) && !Action::Use.includes(Action::Delete));
        assert!(Action::Read.overlaps(Action::Use) && !Action::Read.overlaps(Action::Reproduce));
    }

    #[test]
    fn a_name_is_under_its_ancestors_only() {
        assert!(is_under("CN-SH", "CN", '-') && is_under("CN", "CN", '-'));
        assert!(!is_under("CNX", "CN", '-') && !is_under("CN", "CN-SH", '-'));
    }
}
