//! One consumer's query: a session holding only the contract's table, planned and run within limits.

use std::{path::PathBuf, sync::Arc, time::Duration};

use datafusion::{
    arrow::{
        array::RecordBatch,
        datatypes::{Schema, SchemaRef},
    },
    catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider},
    common::{DataFusionError, ParamValues, ScalarValue},
    execution::{
        SendableRecordBatchStream, SessionState, SessionStateBuilder, SessionStateDefaults,
        disk_manager::{DiskManager, DiskManagerMode},
        memory_pool::{FairSpillPool, TrackConsumersPool},
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    logical_expr::LogicalPlan,
    physical_plan::{ExecutionPlan, execute_stream},
    prelude::SessionConfig,
};
use object_store::ObjectStore;
use url::Url;

use crate::{
    barrier::{BATCH_ROWS, ScanFailed},
    edge::{edge_schema, to_edge},
    gate::{Grant, TableSource},
    governed::GovernedTable,
    guard::{self, FUNCTIONS, GuardError},
    safe::TotalArithmetic,
    source::{self, Files, SourceError},
};

/// Catalogue and schema under which a consumer finds its table.
pub(crate) const CATALOG: &str = "shuyu";
/// See [`CATALOG`].
pub(crate) const SCHEMA: &str = "contract";

/// Most parameters of a prepared statement.
const MAX_PARAMETERS: usize = 256;

/// What one query may take.
#[derive(Clone, Debug)]
pub struct QueryLimits {
    /// Memory of the consumer's operators (sorts, joins, groups). Reading the table is not counted, since that
    /// would follow hidden rows.
    pub memory_bytes: usize,
    /// Disk a query may spill to.
    pub spill_bytes: u64,
    /// Where it spills. `None` forbids spilling.
    pub spill_dir: Option<PathBuf>,
    /// Time spent computing; waiting for a slow consumer is not counted.
    pub compute_time: Duration,
    /// Threads that plan and run queries, of all queries together.
    pub threads: usize,
    /// Partitions of a consumer's plan. With 1, answers are repeatable to the last bit of a floating-point sum and
    /// rows without `ORDER BY` keep one order. Decoding behind the barrier is parallel in any case.
    pub partitions: usize,
}

impl Default for QueryLimits {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            memory_bytes: 1 << 30,
            spill_bytes: 4 << 30,
            spill_dir: None,
            compute_time: Duration::from_secs(300),
            threads,
            partitions: 1,
        }
    }
}

/// Why a query gave no answer. The words are for the consumer; details are in the holder's log under the query's id.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The statement was not let in.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The statement does not fit the visible columns.
    #[error("{0}")]
    Invalid(String),
    /// The holder's files are missing, broken, or do not fit the policy.
    #[error("the table cannot be opened by its holder (query {query})")]
    Unreadable {
        /// The query's id in the holder's log.
        query: String,
    },
    /// The computation failed.
    #[error("the query failed while running (query {query})")]
    Failed {
        /// The query's id in the holder's log.
        query: String,
    },
    /// [`QueryLimits::compute_time`] is used up.
    #[error("the query took longer than {limit_seconds} s (query {query})")]
    TimeLimit {
        /// The query's id in the holder's log.
        query: String,
        /// The limit.
        limit_seconds: u64,
    },
    /// [`QueryLimits::memory_bytes`] or `spill_bytes` is used up.
    #[error("the query needs more memory than it may take (query {query})")]
    MemoryLimit {
        /// The query's id in the holder's log.
        query: String,
    },
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The operating system gave no threads.
    #[error("could not start the query threads")]
    Threads(#[source] std::io::Error),
    /// DataFusion refused its configuration.
    #[error("could not configure the query engine")]
    Configure(#[source] DataFusionError),
}

/// Runs queries on threads of its own, so that a busy query never delays a revocation.
#[derive(Debug)]
pub struct Engine {
    limits: QueryLimits,
    holder: Arc<SessionState>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// Stack of a query thread. Only touched pages count; plans are walked recursively.
const STACK_BYTES: usize = 32 << 20;

impl Engine {
    /// Starts the query threads.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(limits: QueryLimits) -> Result<Arc<Self>, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(limits.threads.max(1))
            .thread_stack_size(STACK_BYTES)
            .thread_name("shuyu-query")
            .enable_all()
            .build()
            .map_err(StartError::Threads)?;
        let environment = RuntimeEnvBuilder::new().build_arc().map_err(StartError::Configure)?;
        let mut config = SessionConfig::new().with_target_partitions(1).with_batch_size(BATCH_ROWS);
        config.options_mut().execution.collect_statistics = false;
        let holder = SessionStateBuilder::new().with_config(config).with_runtime_env(environment).build();
        Ok(Arc::new(Self { limits, holder: Arc::new(holder), runtime: Some(runtime) }))
    }

    /// Makes a store (such as S3) available for [`TableSource::location`]s beginning with `url`.
    pub fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) {
        let _replaced = self.holder.runtime_env().register_object_store(url, store);
    }

    /// The columns of a table's files, to be pinned in [`TableSource::schema`] at publication.
    ///
    /// # Errors
    /// [`SourceError`], for the holder's eyes.
    pub async fn infer_schema(&self, source: &TableSource) -> Result<SchemaRef, SourceError> {
        source::infer(source, &*self.holder).await
    }

    /// The query threads.
    pub(crate) fn spawn<F>(&self, task: F) -> tokio_util::task::AbortOnDropHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let handle = match &self.runtime {
            Some(runtime) => runtime.spawn(task),
            None => tokio::spawn(task),
        };
        tokio_util::task::AbortOnDropHandle::new(handle)
    }

    /// The compute time a query has.
    pub(crate) fn compute_time(&self) -> Duration {
        self.limits.compute_time
    }

    /// The columns a grant shows, as clients see them.
    ///
    /// # Errors
    /// [`QueryError::Unreadable`].
    pub async fn visible_schema(self: &Arc<Self>, grant: &Grant) -> Result<SchemaRef, QueryError> {
        let query = query_id();
        let table = self.open(grant, &query).await?;
        Ok(Arc::new(edge_schema(&datafusion::catalog::TableProvider::schema(&table))))
    }

    /// Plans a statement over what a grant shows.
    ///
    /// # Errors
    /// [`QueryError`]; the words never tell of hidden columns or rows.
    pub async fn plan(self: &Arc<Self>, grant: &Grant, sql: &str) -> Result<Planned, QueryError> {
        let query = query_id();
        let (engine, grant, sql, id) = (self.clone(), grant.clone(), sql.to_owned(), query.clone());
        let work = self.spawn(async move { engine.plan_here(&grant, &sql, id).await });
        work.await.unwrap_or_else(|error| {
            tracing::error!(%query, %error, "planning ended early");
            Err(QueryError::Failed { query })
        })
    }

    async fn open(&self, grant: &Grant, query: &str) -> Result<GovernedTable, QueryError> {
        let open = async {
            let files = Files::open(&grant.table, &*self.holder).await?;
            let (contract, plan) = (grant.permit.agreement_id(), grant.permit.plan());
            GovernedTable::new(contract, files, plan, self.holder.clone(), self.limits.threads)
        };
        open.await.map_err(|error| {
            tracing::error!(%query, table = %grant.table.name, error = &error as &dyn std::error::Error, "table did not open");
            QueryError::Unreadable { query: query.to_owned() }
        })
    }

    async fn plan_here(&self, grant: &Grant, sql: &str, query: String) -> Result<Planned, QueryError> {
        let table = self.open(grant, &query).await?;
        let statement = guard::admit(sql, &datafusion::catalog::TableProvider::schema(&table))?;
        let state = self.session(&grant.table.name, table).map_err(|error| failed(&query, &error))?;
        let logical = state.statement_to_plan(statement).await.map_err(|error| invalid(&query, &error))?;
        let parameters = parameter_schema(&logical).map_err(|error| invalid(&query, &error))?;
        Ok(Planned { state, logical, parameters, query })
    }

    fn session(&self, name: &str, table: GovernedTable) -> Result<SessionState, DataFusionError> {
        let schema = MemorySchemaProvider::new();
        schema.register_table(name.to_owned(), Arc::new(table))?;
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema(SCHEMA, Arc::new(schema))?;
        let catalogs = datafusion::catalog::MemoryCatalogProviderList::new();
        let _none = datafusion::catalog::CatalogProviderList::register_catalog(
            &catalogs,
            CATALOG.to_owned(),
            Arc::new(catalog),
        );
        let mut config = SessionConfig::new()
            .with_target_partitions(self.limits.partitions.max(1))
            .with_batch_size(BATCH_ROWS)
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(false);
        config.options_mut().execution.enable_recursive_ctes = false;
        let known = |name: &str| FUNCTIONS.contains(&name);
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(self.environment()?)
            .with_catalog_list(Arc::new(catalogs))
            .with_expr_planners(SessionStateDefaults::default_expr_planners())
            .with_scalar_functions(
                SessionStateDefaults::default_scalar_functions().into_iter().filter(|f| known(f.name())).collect(),
            )
            .with_aggregate_functions(
                SessionStateDefaults::default_aggregate_functions().into_iter().filter(|f| known(f.name())).collect(),
            )
            .with_window_functions(
                SessionStateDefaults::default_window_functions().into_iter().filter(|f| known(f.name())).collect(),
            )
            .with_analyzer_rule(Arc::new(TotalArithmetic))
            .build();
        Ok(state)
    }

    /// Memory and disk of one query.
    fn environment(&self) -> Result<Arc<RuntimeEnv>, DataFusionError> {
        let pool = FairSpillPool::new(self.limits.memory_bytes);
        let disk = match &self.limits.spill_dir {
            Some(dir) => DiskManager::builder()
                .with_mode(DiskManagerMode::Directories(vec![dir.clone()]))
                .with_max_temp_directory_size(self.limits.spill_bytes),
            None => DiskManager::builder().with_mode(DiskManagerMode::Disabled),
        };
        let few = std::num::NonZeroUsize::MIN;
        RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(TrackConsumersPool::new(pool, few)))
            .with_disk_manager_builder(disk)
            .build_arc()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn query_id() -> String {
    uuid::Uuid::new_v4().simple().to_string().chars().take(12).collect()
}

/// A statement that fits what its grant shows.
pub struct Planned {
    state: SessionState,
    logical: LogicalPlan,
    parameters: SchemaRef,
    query: String,
}

impl Planned {
    /// The columns of the answer, as clients see them.
    pub fn schema(&self) -> SchemaRef {
        Arc::new(edge_schema(self.logical.schema().as_arrow()))
    }

    /// The parameters (`$1`, `$2`, …) the statement waits for, in order.
    pub fn parameters(&self) -> &SchemaRef {
        &self.parameters
    }

    /// The query's id in the holder's log.
    pub fn query(&self) -> &str {
        &self.query
    }

    /// Gives the parameters their values, from the only row of a batch.
    ///
    /// # Errors
    /// [`QueryError::Invalid`] if number or types do not fit.
    pub fn bind(mut self, row: &RecordBatch) -> Result<Self, QueryError> {
        if row.num_rows() != 1 || row.num_columns() > MAX_PARAMETERS {
            return Err(QueryError::Invalid("parameters must be one row".to_owned()));
        }
        let values = row.columns().iter().map(|column| ScalarValue::try_from_array(column, 0));
        let values = values.collect::<Result<Vec<_>, _>>().map_err(|error| invalid(&self.query, &error))?;
        let values = ParamValues::from(values);
        self.logical = self.logical.with_param_values(values).map_err(|error| invalid(&self.query, &error))?;
        self.parameters = Arc::new(Schema::empty());
        Ok(self)
    }

    /// Begins to run; must be called on the engine's threads ([`Engine::spawn`]).
    pub(crate) async fn start(self) -> Result<Running, QueryError> {
        if !self.parameters.fields().is_empty() {
            return Err(QueryError::Invalid(format!(
                "statement waits for {} parameters",
                self.parameters.fields().len()
            )));
        }
        let schema = self.schema();
        let plan: Arc<dyn ExecutionPlan> =
            self.state.create_physical_plan(&self.logical).await.map_err(|error| failed(&self.query, &error))?;
        let stream = execute_stream(plan, self.state.task_ctx()).map_err(|error| failed(&self.query, &error))?;
        Ok(Running { stream, schema, query: self.query })
    }
}

/// A running query.
pub(crate) struct Running {
    stream: SendableRecordBatchStream,
    /// The columns of the answer.
    pub(crate) schema: SchemaRef,
    query: String,
}

impl Running {
    /// The next batch with the types of `schema`.
    pub(crate) async fn next(
        &mut self,
        time_left: &mut Duration,
        limit: Duration,
    ) -> Option<Result<RecordBatch, QueryError>> {
        let begun = std::time::Instant::now();
        let next = tokio::time::timeout(*time_left, futures::StreamExt::next(&mut self.stream)).await;
        *time_left = time_left.saturating_sub(begun.elapsed());
        let Ok(next) = next else {
            let (query, limit_seconds) = (self.query.clone(), limit.as_secs());
            return Some(Err(QueryError::TimeLimit { query, limit_seconds }));
        };
        let batch = next?.and_then(|batch| Ok(to_edge(&batch, &self.schema)?));
        Some(batch.map_err(|error| failed(&self.query, &error)))
    }
}

/// `$1`, `$2`, … in order, with their types where the planner found them.
fn parameter_schema(plan: &LogicalPlan) -> Result<SchemaRef, DataFusionError> {
    let mut fields: Vec<_> = plan.get_parameter_fields()?.into_iter().collect();
    fields.sort_by_key(|(name, _)| name.trim_start_matches('$').parse::<u32>().unwrap_or(u32::MAX));
    if fields.len() > MAX_PARAMETERS {
        return Err(DataFusionError::Plan(format!("statement has more than {MAX_PARAMETERS} parameters")));
    }
    let fields = fields.into_iter().map(|(name, field)| match field {
        Some(field) => field.as_ref().clone().with_name(name),
        None => datafusion::arrow::datatypes::Field::new(name, datafusion::arrow::datatypes::DataType::Null, true),
    });
    Ok(Arc::new(edge_schema(&Schema::new(fields.collect::<Vec<_>>()))))
}

/// A failure of planning over the visible columns: its words may pass. Everything else becomes a code.
fn invalid(query: &str, error: &DataFusionError) -> QueryError {
    match error.find_root() {
        DataFusionError::Plan(words) | DataFusionError::NotImplemented(words) => {
            // The suggestion for a function is picked by the order of a hash table: chance has no place in an answer.
            let words =
                if words.starts_with("Invalid function") { words.lines().next() } else { None }.unwrap_or(words);
            QueryError::Invalid(words.to_owned())
        }
        DataFusionError::SchemaError(cause, _) => QueryError::Invalid(cause.to_string()),
        DataFusionError::SQL(cause, _) => QueryError::Invalid(cause.to_string()),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => invalid(query, first),
            None => failed(query, error),
        },
        _ => failed(query, error),
    }
}

fn failed(query: &str, error: &DataFusionError) -> QueryError {
    tracing::warn!(%query, %error, "query failed");
    let query = query.to_owned();
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => QueryError::MemoryLimit { query },
        DataFusionError::External(cause) if cause.is::<ScanFailed>() => QueryError::Unreadable { query },
        _ => QueryError::Failed { query },
    }
}
