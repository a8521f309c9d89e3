//! Why a command did not do what was asked, and the exit code that says so.

use std::fmt;
use std::process::ExitCode;

/// The kinds of failure a script can tell apart by the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Exit code 1: it did not work; trying again or mending the machine may help.
    Failed,
    /// Exit code 2: a policy, a peer or a verification says no.
    Refused,
    /// Exit code 3: what was given cannot be read or is not valid.
    Invalid,
    /// Exit code 64: the command line makes no sense (EX_USAGE of sysexits.h).
    Usage,
}

impl Kind {
    /// The process exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Refused => 2,
            Self::Invalid => 3,
            Self::Usage => 64,
        }
    }
}

/// A failure as a person reads it: what happened, why in detail, what to try.
#[derive(Debug)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: Kind,
    /// One line: lower case, no full stop.
    pub message: String,
    /// The reasons of a refusal, one a line.
    pub explanation: Vec<String>,
    /// What to try next.
    pub hint: Option<String>,
    /// HTTP status of the answer it comes from.
    pub status: Option<u16>,
}

/// What every command returns.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string(), explanation: Vec::new(), hint: None, status: None }
    }

    /// Exit code 1.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// Exit code 2.
    pub fn refused(message: impl fmt::Display) -> Self {
        Self::new(Kind::Refused, message)
    }

    /// Exit code 3.
    pub fn invalid(message: impl fmt::Display) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// Exit code 64.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Adds what to try next.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Adds the reasons of a refusal.
    #[must_use]
    pub fn because(mut self, explanation: Vec<String>) -> Self {
        self.explanation = explanation;
        self
    }

    /// Prints to stderr and gives the exit code.
    pub fn report(&self) -> ExitCode {
        let word = match self.kind {
            Kind::Failed | Kind::Invalid | Kind::Usage => "error",
            Kind::Refused => "refused",
        };
        crate::print::talk(format_args!("{word}: {}", crate::print::clean(&self.message)));
        for reason in &self.explanation {
            crate::print::talk(format_args!("  - {}", crate::print::clean(reason)));
        }
        if let Some(hint) = &self.hint {
            crate::print::talk(format_args!("hint: {}", crate::print::clean(hint)));
        }
        ExitCode::from(self.kind.code())
    }
}

/// The message of an error and of all that caused it, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("could not open `{0}`")]
    struct Outer(&'static str, #[source] std::io::Error);

    #[test]
    fn chain_names_each_cause_once() {
        let error = Outer("a.toml", std::io::Error::other("permission denied"));
        assert_eq!(chain(&error), "could not open `a.toml`: permission denied");
    }

    #[test]
    fn exit_codes_are_those_of_the_house() {
        let codes = [Kind::Failed, Kind::Refused, Kind::Invalid, Kind::Usage].map(Kind::code);
        assert_eq!(codes, [1, 2, 3, 64]);
    }
}
