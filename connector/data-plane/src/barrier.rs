//! The opaque end of a governed scan.
//!
//! Nothing of the plan behind the barrier is reachable from the consumer's plan: no children, no expressions, no
//! statistics, no metrics, no text. Rows come in one fixed order (file, row group, row) and in batches of one fixed
//! size, so neither `LIMIT`, nor batch boundaries, nor their count follow rows that are hidden.
//!
//! Units (stretches of files) are decoded in parallel and handed on strictly in order.

use std::{collections::VecDeque, fmt, sync::Arc};

use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions},
        compute::BatchCoalescer,
        datatypes::SchemaRef,
        error::ArrowError,
    },
    common::{DataFusionError, Result, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        execution_plan::{Boundedness, EmissionType, SchedulingType},
        stream::RecordBatchReceiverStream,
    },
};
use futures::StreamExt;
use shuyu_policy::Mask;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::mask;

/// Rows of every batch that leaves the barrier, save the last. DataFusion's own default.
pub const BATCH_ROWS: usize = 8192;

/// Most bytes one unit may decode ahead of its turn, in KiB.
const MAX_AHEAD_KIB: u32 = 32 * 1024;

/// A column as it leaves the barrier.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// Its place in the inner plan's output.
    pub(crate) index: usize,
    /// How it is masked.
    pub(crate) mask: Option<Mask>,
}

/// What lies behind a barrier.
pub(crate) struct Behind {
    /// Scan and filter; partition `n` is the n-th unit of the fixed order.
    pub(crate) plan: Arc<dyn ExecutionPlan>,
    /// The holder's own run time, apart from the consumer's memory limits.
    pub(crate) context: Arc<TaskContext>,
    /// Output columns.
    pub(crate) shown: Vec<Shown>,
    /// Units decoded at once, at least 1.
    pub(crate) parallel_units: usize,
    /// Whether rows are hidden at all.
    pub(crate) is_filtered: bool,
    /// Rows wanted at most.
    pub(crate) limit: Option<usize>,
}

/// See the module.
pub(crate) struct BarrierExec {
    contract: Arc<str>,
    behind: Arc<Behind>,
    properties: Arc<PlanProperties>,
}

impl BarrierExec {
    /// A barrier in front of a plan; `schema` is what `behind.shown` gives.
    pub(crate) fn new(contract: Arc<str>, schema: SchemaRef, behind: Behind) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Self { contract, behind: Arc::new(behind), properties: Arc::new(properties) }
    }
}

impl fmt::Debug for BarrierExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GovernedScan({})", self.contract)
    }
}

impl DisplayAs for BarrierExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GovernedScan({})", self.contract)
    }
}

impl ExecutionPlan for BarrierExec {
    fn name(&self) -> &str {
        "GovernedScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, _partition: usize, _consumer: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut builder = RecordBatchReceiverStream::builder(self.schema(), 2);
        let out = builder.tx();
        let (behind, schema, contract) = (self.behind.clone(), self.schema(), self.contract.clone());
        builder.spawn(async move {
            if let Err(error) = merge(&behind, schema, &out).await {
                tracing::error!(%contract, %error, "governed scan failed");
                let _closed = out.send(Err(DataFusionError::External(Box::new(ScanFailed)))).await;
            }
            Ok(())
        });
        Ok(builder.build())
    }
}

/// The whole of what a consumer's plan learns of a failure behind the barrier.
#[derive(Debug, thiserror::Error)]
#[error("the holder's table could not be read")]
pub(crate) struct ScanFailed;

type Batches = mpsc::Sender<Result<RecordBatch>>;

/// Hands on the units' rows in order, re-cut to [`BATCH_ROWS`].
async fn merge(behind: &Arc<Behind>, schema: SchemaRef, out: &Batches) -> Result<()> {
    let unit_count = behind.plan.properties().partitioning.partition_count();
    let mut waiting = VecDeque::new();
    let mut next_unit = 0;
    let mut coalescer = BatchCoalescer::new(schema.clone(), BATCH_ROWS);
    let mut wanted_rows = behind.limit.unwrap_or(usize::MAX);
    loop {
        while waiting.len() < behind.parallel_units.max(1) && next_unit < unit_count {
            waiting.push_back(Unit::start(behind.clone(), schema.clone(), next_unit));
            next_unit += 1;
        }
        let Some(mut unit) = waiting.pop_front() else { break };
        while let Some((batch, ahead)) = unit.next().await? {
            drop(ahead);
            let batch = batch?;
            let kept = batch.slice(0, batch.num_rows().min(wanted_rows));
            wanted_rows -= kept.num_rows();
            push(&mut coalescer, kept)?;
            while let Some(full) = coalescer.next_completed_batch() {
                if out.send(settled(full, behind.is_filtered)).await.is_err() {
                    return Ok(());
                }
            }
            if wanted_rows == 0 {
                return finish(coalescer, behind.is_filtered, out).await;
            }
        }
    }
    finish(coalescer, behind.is_filtered, out).await
}

fn push(coalescer: &mut BatchCoalescer, batch: RecordBatch) -> Result<(), ArrowError> {
    if batch.num_rows() == 0 { Ok(()) } else { coalescer.push_batch(batch) }
}

async fn finish(mut coalescer: BatchCoalescer, is_filtered: bool, out: &Batches) -> Result<()> {
    coalescer.finish_buffered_batch()?;
    while let Some(last) = coalescer.next_completed_batch() {
        if out.send(settled(last, is_filtered)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// A batch whose text views hold only their own text. Buffers shared with hidden rows would count against the
/// consumer's memory limit.
fn settled(batch: RecordBatch, is_filtered: bool) -> Result<RecordBatch> {
    if !is_filtered {
        return Ok(batch);
    }
    let columns = batch.columns().iter().map(|values| -> ArrayRef {
        if let Some(text) = values.as_string_view_opt() {
            Arc::new(text.gc())
        } else if let Some(binary) = values.as_binary_view_opt() {
            Arc::new(binary.gc())
        } else {
            values.clone()
        }
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(batch.schema(), columns.collect(), &options)?)
}

/// A batch, and the place it holds among what is decoded ahead.
type Ahead = (Result<RecordBatch>, Option<OwnedSemaphorePermit>);

/// A stretch of the table being decoded; dropping it stops the work.
struct Unit {
    batches: mpsc::UnboundedReceiver<Ahead>,
    work: tokio_util::task::AbortOnDropHandle<()>,
}

impl Unit {
    /// The next batch. A decoder that panics over a damaged file closes its queue as one that is through does, so the
    /// end is an end only if the work ended well.
    async fn next(&mut self) -> Result<Option<Ahead>> {
        if let Some(ahead) = self.batches.recv().await {
            return Ok(Some(ahead));
        }
        (&mut self.work).await.map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(None)
    }

    fn start(behind: Arc<Behind>, schema: SchemaRef, unit: usize) -> Self {
        // The queue is bounded by bytes, through the semaphore, not by batches.
        let (sender, batches) = mpsc::unbounded_channel();
        let budget = Arc::new(Semaphore::new(MAX_AHEAD_KIB as usize));
        let work = tokio::spawn(async move {
            let mut stream = match behind.plan.execute(unit, behind.context.clone()) {
                Ok(stream) => stream,
                Err(error) => {
                    let _closed = sender.send((Err(error), None));
                    return;
                }
            };
            while let Some(batch) = stream.next().await {
                let batch = batch.and_then(|batch| show(&batch, &behind.shown, &schema));
                let kib = batch.as_ref().map_or(1, |batch| batch.get_array_memory_size() / 1024);
                let kib = u32::try_from(kib).unwrap_or(u32::MAX).clamp(1, MAX_AHEAD_KIB);
                let ahead = budget.clone().acquire_many_owned(kib).await.ok();
                if sender.send((batch, ahead)).is_err() {
                    return;
                }
            }
        });
        Self { batches, work: tokio_util::task::AbortOnDropHandle::new(work) }
    }
}

/// The columns of `shown`, masked.
fn show(batch: &RecordBatch, shown: &[Shown], schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = shown.iter().map(|column| {
        let values: &ArrayRef =
            batch.columns().get(column.index).ok_or_else(|| ArrowError::SchemaError("column is missing".to_owned()))?;
        match column.mask {
            Some(mask) => mask::apply(mask, values),
            None => Ok(values.clone()),
        }
    });
    let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}
