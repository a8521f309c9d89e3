//! The credential service: what verifiers and issuers may ask of this node's owner (DCP 1.0, sections 5.4, 6.5, 6.6).

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::Value;
use shuyu_base::json::MAX_MESSAGE_BYTES;
use shuyu_credentials::access;
use shuyu_credentials::vp::{self, Draft};
use shuyu_wire::dcp::{CredentialMessage, CredentialOffer, PresentationQuery, PresentationResponse};

use super::wallet::Wallet;
use super::{body, caller};
use crate::clock;
use crate::identity::{CREDENTIAL_SERVICE_PATH, Doorkeeper, Identity, access_token};
use crate::management::chain;
use crate::problem::Problem;

/// Life of a presentation, in milliseconds: long enough to be verified, too short to be kept.
const PRESENTATION_MS: i64 = 120_000;

/// What these handlers need.
pub struct CredentialService {
    /// Who is calling.
    pub doorkeeper: Doorkeeper,
    /// Who presents.
    pub identity: Arc<Identity>,
    /// What can be presented.
    pub wallet: Arc<Wallet>,
}

/// The routes, below the public root.
pub fn router(service: Arc<CredentialService>) -> Router {
    let routes = Router::new()
        .route("/presentations/query", post(query))
        .route("/credentials", post(store))
        .route("/offers", post(offer));
    Router::new()
        .nest(CREDENTIAL_SERVICE_PATH, routes)
        .layer(DefaultBodyLimit::max(MAX_MESSAGE_BYTES))
        .with_state(service)
}

/// Presents what the query asks for and the access token allows. Who asks for more gets less (section 5.4.1.2).
async fn query(
    State(service): State<Arc<CredentialService>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Json<Value>, Problem> {
    let claims = caller(&service.doorkeeper, &headers).await?;
    let unauthorized = |why: String| Problem::new(StatusCode::UNAUTHORIZED, why);
    let access = access_token(&claims).ok_or_else(|| unauthorized("the token carries no access token".to_owned()))?;
    let (identity, now) = (&service.identity, clock::now());
    let grant = access::check(access, &identity.key, &identity.kid, &identity.did, &claims.issuer, now)
        .map_err(|error| unauthorized(error.to_string()))?;
    let asked = match PresentationQuery::decode(&body(&bytes)?) {
        Ok(PresentationQuery::Scopes(scopes)) => scopes,
        Ok(PresentationQuery::Definition) => {
            let why = "`presentationDefinition` is not supported; ask by `scope`";
            return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, why));
        }
        Err(error) => return Err(Problem::invalid(chain(&error))),
    };
    let found = service.wallet.presentable(&asked, &grant.scopes, now)?;
    let present = |(profile, jwts): (_, Vec<String>)| {
        let jti = uuid::Uuid::new_v4().to_string();
        let draft = Draft {
            profile,
            holder: &identity.did,
            audience: &claims.issuer,
            jti: &jti,
            now,
            lifetime_ms: PRESENTATION_MS,
        };
        let jwts: Vec<&str> = jwts.iter().map(String::as_str).collect();
        vp::present(&identity.key, &identity.kid, &draft, &jwts)
    };
    let presentations: Vec<String> = found.into_iter().map(present).collect();
    tracing::info!(verifier = %claims.issuer, presentations = presentations.len(), "credentials presented");
    Ok(Json(PresentationResponse { presentations }.encode()))
}

async fn store(
    State(service): State<Arc<CredentialService>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<StatusCode, Problem> {
    let claims = caller(&service.doorkeeper, &headers).await?;
    let message = CredentialMessage::decode(&body(&bytes)?).map_err(|error| Problem::invalid(chain(&error)))?;
    service.wallet.deliver(&claims.issuer, message).await?;
    Ok(StatusCode::OK)
}

async fn offer(
    State(service): State<Arc<CredentialService>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<StatusCode, Problem> {
    let claims = caller(&service.doorkeeper, &headers).await?;
    let offer = CredentialOffer::decode(&body(&bytes)?).map_err(|error| Problem::invalid(chain(&error)))?;
    service.wallet.offered(&claims.issuer, offer).await?;
    Ok(StatusCode::OK)
}
