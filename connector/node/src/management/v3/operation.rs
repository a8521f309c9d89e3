//! One entry an operation: its route, who may call it, and what the OpenAPI document says of it.

use std::sync::Arc;

use axum::routing::MethodRouter;

use super::V3;
use crate::api_keys::ApiRole;

/// Roles of operations that publish.
pub const PUBLISH: &[ApiRole] = &[ApiRole::Holder];
/// Roles of operations that use data.
pub const USE: &[ApiRole] = &[ApiRole::Consumer];
/// Roles of operations that either party does.
pub const DEAL: &[ApiRole] = &[ApiRole::Holder, ApiRole::Consumer];
/// Roles of operations that look and change nothing.
pub const LOOK: &[ApiRole] = &[ApiRole::Holder, ApiRole::Consumer, ApiRole::Regulator];
/// Roles of operations of a foreign control plane.
pub const CONTROL: &[ApiRole] = &[ApiRole::Control];
/// Operations for the operator alone.
pub const OPERATE: &[ApiRole] = &[];

/// Method of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// GET.
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
}

impl Verb {
    /// The name in an OpenAPI document.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Put => "put",
            Self::Delete => "delete",
        }
    }
}

/// What an operation answers with when it succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200 and one thing of this schema.
    One(&'static str),
    /// 200 and a list of things of this schema.
    Many(&'static str),
    /// 204.
    Nothing,
    /// 200 and server-sent events.
    Stream,
}

/// An operation.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Method.
    pub verb: Verb,
    /// Path below `/v3`.
    pub path: &'static str,
    /// Its name for programs.
    pub id: &'static str,
    /// What it does, for people.
    pub summary: &'static str,
    /// Who may call it, besides the operator.
    pub roles: &'static [ApiRole],
    /// Schema of its body.
    pub body: Option<&'static str>,
    /// What it answers.
    pub answer: Answer,
    /// Statuses it may refuse with, besides 400, 401 and 403.
    pub refusals: &'static [u16],
}

impl Operation {
    /// An operation without a body that answers with nothing.
    pub const fn new(verb: Verb, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self { verb, path, id, summary, roles: OPERATE, body: None, answer: Answer::Nothing, refusals: &[] }
    }

    /// Who may call it.
    pub const fn by(mut self, roles: &'static [ApiRole]) -> Self {
        self.roles = roles;
        self
    }

    /// The schema of its body.
    pub const fn takes(mut self, schema: &'static str) -> Self {
        self.body = Some(schema);
        self
    }

    /// What it answers.
    pub const fn gives(mut self, answer: Answer) -> Self {
        self.answer = answer;
        self
    }

    /// Further statuses it refuses with.
    pub const fn or(mut self, refusals: &'static [u16]) -> Self {
        self.refusals = refusals;
        self
    }
}

/// An operation and what performs it.
pub struct Route {
    /// The operation.
    pub operation: Operation,
    /// What performs it.
    pub handler: MethodRouter<Arc<V3>>,
}

/// An entry of the table.
pub fn route(operation: Operation, handler: MethodRouter<Arc<V3>>) -> Route {
    Route { operation, handler }
}
