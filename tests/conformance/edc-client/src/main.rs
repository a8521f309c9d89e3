//! Reads where two nodes are from stdin, drives them with `edc-connector-client` from asset to data and back, and prints
//! one line of JSON a step. The first step that does not hold ends it with an error.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use edc_connector_client::types::ExtraTokenFields;
use edc_connector_client::types::asset::{Asset, NewAsset};
use edc_connector_client::types::catalog::{CatalogRequest, DatasetRequest};
use edc_connector_client::types::contract_definition::{ContractDefinition, NewContractDefinition};
use edc_connector_client::types::contract_negotiation::{
    ContractNegotiationKind, ContractNegotiationState, ContractRequest,
};
use edc_connector_client::types::data_address::DataAddress;
use edc_connector_client::types::policy::{
    Action, AtomicConstraint, Constraint, LeftOperand, NewPolicyDefinition, Operator, Permission, Policy,
    PolicyDefinition, PolicyKind, Target,
};
use edc_connector_client::types::query::{Criterion, Query, SortOrder};
use edc_connector_client::types::transfer_process::{TransferProcessKind, TransferProcessState, TransferRequest};
use edc_connector_client::{
    Auth, EDC_NAMESPACE, EdcConnectorApiVersion, EdcConnectorClient, Error, ManagementApiErrorDetailKind,
};
use serde::Deserialize;
use serde_json::json;

const V3: EdcConnectorApiVersion = EdcConnectorApiVersion::V3;
/// How long a state is waited for, and how often it is looked at, as the API asks of its clients.
const PATIENCE: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(20);

#[derive(Deserialize)]
struct Party {
    url: String,
    key: String,
    did: String,
    protocol: String,
}

#[derive(Deserialize)]
struct Places {
    holder: Party,
    consumer: Party,
    table: String,
}

#[derive(Debug, Deserialize)]
struct Rest {}
impl ExtraTokenFields for Rest {}

fn client(party: &Party) -> anyhow::Result<EdcConnectorClient> {
    Ok(EdcConnectorClient::builder()
        .management_url(&party.url)
        .with_auth(Auth::ApiToken(party.key.clone()))
        .build()?)
}

fn step(name: &str, seen: serde_json::Value) {
    println!("{}", json!({ "step": name, "seen": seen }));
}

/// The status and the type of an error in the array that the client reads.
fn refusal<T>(result: Result<T, Error>) -> anyhow::Result<(u16, String, String)> {
    match result {
        Ok(_) => bail!("was not refused"),
        Err(Error::ManagementApi(error)) => match error.error_detail {
            ManagementApiErrorDetailKind::Parsed(details) => {
                let first = details.into_iter().next().context("an error array without an error")?;
                Ok((error.status_code.as_u16(), first.kind, first.message))
            }
            ManagementApiErrorDetailKind::Raw(text) => bail!("not an error array: {text}"),
        },
        Err(other) => Err(other.into()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let places: Places = serde_json::from_reader(std::io::stdin())?;
    let (holder, consumer) = (client(&places.holder)?, client(&places.consumer)?);
    publish(&holder, &places).await?;
    let offer = find(&consumer, &places).await?;
    let agreement = negotiate(&holder, &consumer, &places, offer).await?;
    use_data(&consumer, &places, &agreement).await?;
    change(&holder, &places).await?;
    refusals(&holder, &consumer, &places).await
}

async fn publish(holder: &EdcConnectorClient, places: &Places) -> anyhow::Result<()> {
    let address = DataAddress::builder()
        .kind("File")
        .property("location", places.table.as_str())
        .property("format", "csv")
        .property("tableName", "rain")
        .build()?;
    let asset = NewAsset::builder()
        .id("rain")
        .property("name", "Rain per day")
        .property("contenttype", "text/csv")
        .property("dct:subject", json!({ "nested": ["a", "b"] }))
        .private_property("cost-centre", "4711")
        .data_address(address)
        .build();
    let made = holder.assets(V3).create(&asset).await?;
    ensure!(made.id() == "rain" && 0 < made.created_at());
    let seen = holder.assets(V3).get("rain").await?;
    ensure!(seen.property::<String>("name")?.as_deref() == Some("Rain per day"));
    ensure!(seen.property::<String>("contenttype")?.as_deref() == Some("text/csv"));
    ensure!(!seen.private_properties().is_empty());
    let found = holder.assets(V3).query(Query::builder().filter("name", "like", "Rain%").build()).await?;
    ensure!(found.len() == 1, "{} assets found", found.len());
    step("asset", json!(seen.id()));

    let limit = AtomicConstraint::new_with_operator("dateTime", Operator::id("odrl:lt"), "2099-01-01T00:00:00Z");
    let permission = Permission::builder().action(Action::simple("use")).constraint(Constraint::Atomic(limit)).build();
    let policy = NewPolicyDefinition::builder()
        .id("until-2099")
        .policy(Policy::builder().permission(permission).build())
        .build();
    ensure!(holder.policies(V3).create(&policy).await?.id() == "until-2099");
    let seen = holder.policies(V3).get("until-2099").await?;
    ensure!(seen.policy().permissions().len() == 1 && *seen.policy().kind() == PolicyKind::Set);
    ensure!(holder.policies(V3).validate("until-2099").await?.is_valid());
    let plan = holder.policies(V3).evaluation_plan("until-2099", "transfer.process").await?;
    let steps = plan.permission_steps().first().context("no step for the permission")?.constraint_steps();
    ensure!(steps.len() == 1 && !plan.permission_steps().iter().any(|step| step.is_filtered()), "{plan:?}");
    ensure!(holder.policies(V3).query(Query::builder().build()).await?.len() == 1);
    step("policy", json!(format!("{steps:?}")));

    let definition = NewContractDefinition::builder()
        .id("rain-offer")
        .asset_selector(Criterion::new(&format!("{EDC_NAMESPACE}id"), "=", "rain"))
        .access_policy_id("until-2099")
        .contract_policy_id("until-2099")
        .build();
    ensure!(holder.contract_definitions(V3).create(&definition).await?.id() == "rain-offer");
    let seen = holder.contract_definitions(V3).get("rain-offer").await?;
    ensure!(seen.assets_selector().len() == 1 && seen.contract_policy_id() == "until-2099");
    let query = Query::builder().filter("contractPolicyId", "=", "until-2099").build();
    ensure!(holder.contract_definitions(V3).query(query).await?.len() == 1);
    step("contract definition", json!(seen.id()));
    Ok(())
}

/// The offer as the catalogue has it, ready to be asked for.
async fn find(consumer: &EdcConnectorClient, places: &Places) -> anyhow::Result<Policy> {
    let request = CatalogRequest::builder()
        .counter_party_address(&places.holder.protocol)
        .counter_party_id(&places.holder.did)
        .query_spec(Query::builder().filter("id", "=", "rain").build())
        .build();
    let catalog = consumer.catalogue(V3).request::<Rest>(&request).await?;
    ensure!(catalog.participant_id().as_deref() == Some(places.holder.did.as_str()));
    let [dataset] = catalog.datasets() else { bail!("{} datasets", catalog.datasets().len()) };
    ensure!(dataset.id() == "rain");
    let request = DatasetRequest::builder()
        .id("rain")
        .counter_party_address(&places.holder.protocol)
        .counter_party_id(&places.holder.did)
        .build();
    let dataset = consumer.catalogue(V3).dataset::<Rest>(&request).await?;
    let [offer] = dataset.offers() else { bail!("{} offers", dataset.offers().len()) };
    step("catalogue", json!({ "dataset": dataset.id(), "offer": offer.id() }));
    Ok(Policy::builder()
        .id(offer.id().context("an offer without an id")?)
        .kind(PolicyKind::Offer)
        .assigner(&places.holder.did)
        .target(Target::id("rain"))
        .permissions(offer.permissions().to_vec())
        .build())
}

async fn negotiate(
    holder: &EdcConnectorClient,
    consumer: &EdcConnectorClient,
    places: &Places,
    offer: Policy,
) -> anyhow::Result<String> {
    let request = ContractRequest::builder()
        .counter_party_address(&places.holder.protocol)
        .counter_party_id(&places.holder.did)
        .policy(offer)
        .build();
    let id = consumer.contract_negotiations(V3).initiate(&request).await?.id().clone();
    until("the negotiation is finalized", async || {
        match consumer.contract_negotiations(V3).get_state(&id).await? {
            ContractNegotiationState::Finalized => Ok(Some(())),
            ContractNegotiationState::Terminated => bail!("the negotiation was terminated"),
            _ => Ok(None),
        }
    })
    .await?;
    let negotiation = consumer.contract_negotiations(V3).get(&id).await?;
    ensure!(*negotiation.kind() == ContractNegotiationKind::Consumer && negotiation.error_detail().is_none());
    ensure!(negotiation.counter_party_id().as_deref() == Some(places.holder.did.as_str()));
    let agreement = negotiation.contract_agreement_id().context("no agreement")?.clone();
    ensure!(consumer.contract_negotiations(V3).get_agreement(&id).await?.id() == agreement);
    let seen = consumer.contract_agreements(V3).get(&agreement).await?;
    ensure!(seen.asset_id() == "rain" && seen.provider_id() == places.holder.did);
    ensure!(seen.consumer_id() == places.consumer.did && *seen.policy().kind() == PolicyKind::Agreement);
    ensure!(consumer.contract_agreements(V3).get_negotiation(&agreement).await?.id() == id);
    let query = || Query::builder().filter("assetId", "=", "rain").sort("contractSigningDate", SortOrder::Desc).build();
    ensure!(consumer.contract_agreements(V3).query(query()).await?.len() == 1);
    ensure!(holder.contract_agreements(V3).query(query()).await?.len() == 1);
    let query = Query::builder().filter("state", "=", "FINALIZED").build();
    let theirs = until("the holder has it too", async || {
        Ok(holder.contract_negotiations(V3).query(query.clone()).await?.into_iter().next())
    })
    .await?;
    ensure!(*theirs.kind() == ContractNegotiationKind::Provider);
    step("agreement", json!(agreement));
    Ok(agreement)
}

async fn use_data(consumer: &EdcConnectorClient, places: &Places, agreement: &str) -> anyhow::Result<()> {
    let request = TransferRequest::builder()
        .counter_party_address(&places.holder.protocol)
        .contract_id(agreement)
        .transfer_type("HttpData-PULL")
        .build();
    let id = consumer.transfer_processes(V3).initiate(&request).await?.id().clone();
    until("the transfer has started", async || reached(consumer, &id, TransferProcessState::Started).await).await?;
    let transfer = consumer.transfer_processes(V3).get(&id).await?;
    ensure!(*transfer.kind() == TransferProcessKind::Consumer && transfer.asset_id() == "rain");
    ensure!(transfer.contract_id() == agreement && transfer.transfer_type() == "HttpData-PULL");
    let query = Query::builder().filter("contractId", "=", agreement).build();
    ensure!(consumer.transfer_processes(V3).query(query).await?.len() == 1);
    step("transfer", json!(id));

    let entry = consumer.edrs(V3).get_entry(&id).await?;
    ensure!(entry.agreement_id() == agreement && entry.asset_id() == "rain");
    ensure!(entry.provider_id() == places.holder.did && entry.transfer_process_id() == id);
    let edr = consumer.edrs(V3).get_data_address(&id).await?;
    let text = |name: &str| edr.property::<String>(name).ok().flatten().with_context(|| format!("the EDR has no {name}"));
    let (endpoint, token) = (text("endpoint")?, text("authorization")?);
    let answer = reqwest::Client::new().get(format!("{endpoint}?format=csv")).bearer_auth(&token).send().await?;
    ensure!(answer.status().is_success(), "the data: {}", answer.status());
    let lines = answer.text().await?.lines().count();
    step("data", json!({ "lines": lines }));

    consumer.transfer_processes(V3).suspend(&id, "pause").await?;
    until("the transfer is suspended", async || reached(consumer, &id, TransferProcessState::Suspended).await).await?;
    ensure!(refusal(consumer.edrs(V3).get_data_address(&id).await)?.0 == 409);
    let refused = reqwest::Client::new().get(format!("{endpoint}?format=csv")).bearer_auth(&token).send().await?;
    ensure!(!refused.status().is_success(), "a suspended transfer gave data");
    consumer.transfer_processes(V3).resume(&id).await?;
    until("the transfer goes on", async || reached(consumer, &id, TransferProcessState::Started).await).await?;
    consumer.transfer_processes(V3).terminate(&id, "enough").await?;
    until("the transfer is over", async || reached(consumer, &id, TransferProcessState::Terminated).await).await?;
    ensure!(consumer.edrs(V3).query(Query::builder().build()).await?.is_empty());
    step("end of transfer", json!(id));
    Ok(())
}

async fn change(holder: &EdcConnectorClient, places: &Places) -> anyhow::Result<()> {
    let _ = places;
    let asset: Asset = holder.assets(V3).get("rain").await?;
    holder.assets(V3).update(&asset).await?;
    let policy = PolicyDefinition::builder()
        .id("until-2099")
        .policy(Policy::builder().permission(Permission::builder().action(Action::simple("use")).build()).build())
        .build();
    holder.policies(V3).update(&policy).await?;
    ensure!(holder.policies(V3).get("until-2099").await?.policy().permissions()[0].constraints().is_empty());
    let definition: ContractDefinition = holder.contract_definitions(V3).get("rain-offer").await?;
    holder.contract_definitions(V3).update(&definition).await?;
    step("updates", json!(definition.id()));
    Ok(())
}

async fn refusals(
    holder: &EdcConnectorClient,
    consumer: &EdcConnectorClient,
    places: &Places,
) -> anyhow::Result<()> {
    let (status, kind, _) = refusal(holder.assets(V3).get("nothing").await)?;
    ensure!((status, kind.as_str()) == (404, "ObjectNotFound"), "{status} {kind}");
    let (status, kind, _) = refusal(holder.policies(V3).delete("until-2099").await)?;
    ensure!((status, kind.as_str()) == (409, "ObjectConflict"), "{status} {kind}");
    let odd = NewContractDefinition::builder()
        .id("odd")
        .asset_selector(Criterion::new("name", "like", "%"))
        .access_policy_id("until-2099")
        .contract_policy_id("until-2099")
        .build();
    let (status, kind, message) = refusal(holder.contract_definitions(V3).create(&odd).await)?;
    ensure!((status, kind.as_str()) == (400, "ValidationFailure"), "{status} {kind}");
    ensure!(message.contains("assetsSelector"), "{message}");
    let unknown = LeftOperand::simple("phaseOfTheMoon");
    let constraint = AtomicConstraint::new_with_operator(unknown, Operator::simple("eq"), "full");
    let permission =
        Permission::builder().action(Action::simple("use")).constraint(Constraint::Atomic(constraint)).build();
    let policy = NewPolicyDefinition::builder()
        .id("moon")
        .policy(Policy::builder().permission(permission).build())
        .build();
    let (status, _, message) = refusal(holder.policies(V3).create(&policy).await)?;
    ensure!(status == 400 && message.contains("phaseOfTheMoon"), "{status} {message}");
    let stranger = EdcConnectorClient::builder()
        .management_url(&places.consumer.url)
        .with_auth(Auth::ApiToken("0123456789abcdef0123456789abcdef".to_owned()))
        .build()?;
    let (status, kind, _) = refusal(stranger.assets(V3).get("rain").await)?;
    ensure!((status, kind.as_str()) == (401, "AuthenticationFailed"), "{status} {kind}");
    // The consumer's key is good for using data, not for publishing it.
    let (status, kind, _) = refusal(consumer.assets(V3).delete("rain").await)?;
    ensure!((status, kind.as_str()) == (403, "NotAuthorized"), "{status} {kind}");
    holder.contract_definitions(V3).delete("rain-offer").await?;
    holder.policies(V3).delete("until-2099").await?;
    step("refusals", json!(7));
    Ok(())
}

async fn reached(
    consumer: &EdcConnectorClient,
    id: &str,
    wanted: TransferProcessState,
) -> anyhow::Result<Option<()>> {
    let state = consumer.transfer_processes(V3).get_state(id).await?;
    if state == TransferProcessState::Terminated && wanted != state {
        bail!("the transfer was terminated");
    }
    Ok((state == wanted).then_some(()))
}

async fn until<T>(what: &str, look: impl AsyncFn() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let waited = async {
        loop {
            if let Some(seen) = look().await? {
                return Ok(seen);
            }
            tokio::time::sleep(GLANCE).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.with_context(|| format!("waited in vain until {what}"))?
}
