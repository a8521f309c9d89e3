//! A contract's table: what the permit leaves of it, behind the barrier.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    arrow::datatypes::{DataType, Field, Schema, SchemaRef},
    catalog::{Session, TableProvider},
    common::{
        DataFusionError, Result, ScalarValue,
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode},
    },
    execution::SessionState,
    logical_expr::{
        BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType,
        expr::{Between, InList},
        utils::conjunction,
    },
    physical_optimizer::{PhysicalOptimizerRule, filter_pushdown::FilterPushdown},
    physical_plan::{ExecutionPlan, filter::FilterExec},
};
use shuyu_policy::{DataPlan, Mask};

use crate::{
    barrier::{BarrierExec, Behind, ScanFailed, Shown},
    mask::{MaskError, masked_field},
    predicate::{FilterError, filter_expr},
    source::{Files, SourceError, plain_schema},
};

/// Why a table does not open. For the holder's log; the consumer learns only that it did not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error(transparent)]
    Mask(#[from] MaskError),
    #[error("policy hides column `{0}`, which the table lacks")]
    UnknownDenied(String),
}

/// A column the consumer sees.
#[derive(Clone, Debug)]
struct Visible {
    /// Its place in the files.
    raw: usize,
    mask: Option<Mask>,
}

/// The table of one contract, for one query. DataFusion sees the visible schema and nothing else.
pub(crate) struct GovernedTable {
    contract: Arc<str>,
    files: Files,
    filter: Option<Expr>,
    columns: Vec<Visible>,
    schema: SchemaRef,
    holder: Arc<SessionState>,
    parallel_units: usize,
}

impl fmt::Debug for GovernedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GovernedTable({})", self.contract)
    }
}

impl GovernedTable {
    /// Fits the plan to the files; whatever of the plan does not fit refuses the table.
    pub(crate) fn new(
        contract: &str,
        files: Files,
        plan: &DataPlan,
        holder: Arc<SessionState>,
        parallel_units: usize,
    ) -> Result<Self, OpenError> {
        let raw = files.schema.clone();
        let filter = plan.row_filter.as_ref().map(|predicate| filter_expr(predicate, &raw)).transpose()?;
        for denied in &plan.denied {
            raw.column_with_name(denied).ok_or_else(|| OpenError::UnknownDenied(denied.clone()))?;
        }
        for (column, mask) in &plan.masks {
            raw.column_with_name(column)
                .ok_or_else(|| MaskError::UnknownColumn { column: column.clone(), mask: *mask })?;
        }
        let mut columns = Vec::new();
        let mut fields = Vec::new();
        for (index, field) in raw.fields().iter().enumerate() {
            if plan.denied.contains(field.name()) {
                continue;
            }
            let mask = plan.masks.iter().find(|(column, _)| column == field.name()).map(|(_, mask)| *mask);
            fields.push(match mask {
                Some(mask) => masked_field(field, mask)?,
                None => Field::new(field.name(), field.data_type().clone(), field.is_nullable()),
            });
            columns.push(Visible { raw: index, mask });
        }
        let schema = Arc::new(Schema::new(fields));
        Ok(Self { contract: contract.into(), files, filter, columns, schema, holder, parallel_units })
    }

    /// The type of a visible, unmasked column.
    fn open_column(&self, name: &str) -> Option<&DataType> {
        let (index, field) = self.schema.column_with_name(name)?;
        self.columns.get(index)?.mask.is_none().then_some(field.data_type())
    }

    /// Whether a predicate cannot fail on any row and looks only at what is shown unmasked, so that it may run
    /// beside the policy's own filter.
    fn is_total(&self, expr: &Expr) -> bool {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
                Operator::And | Operator::Or => self.is_total(left) && self.is_total(right),
                Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => {
                    self.is_same_type(left, right) || self.is_same_type(right, left)
                }
                _ => false,
            },
            Expr::Not(inner) => self.is_total(inner),
            Expr::Column(column) => self.open_column(&column.name) == Some(&DataType::Boolean),
            Expr::IsNull(inner) | Expr::IsNotNull(inner) => {
                matches!(&**inner, Expr::Column(column) if self.open_column(&column.name).is_some())
            }
            Expr::InList(InList { expr, list, .. }) => list.iter().all(|item| self.is_same_type(expr, item)),
            Expr::Between(Between { expr, low, high, .. }) => {
                self.is_same_type(expr, low) && self.is_same_type(expr, high)
            }
            _ => false,
        }
    }

    fn is_same_type(&self, column: &Expr, literal: &Expr) -> bool {
        match (column, literal) {
            (Expr::Column(column), Expr::Literal(value, _)) => {
                self.open_column(&column.name).is_some_and(|kind| !kind.is_nested() && *kind == value.data_type())
            }
            _ => false,
        }
    }

    async fn plan(&self, columns: &[&Visible], filters: &[Expr], limit: Option<usize>) -> Result<Behind> {
        let filters = self.filter.iter().chain(filters).cloned().map(unqualified).collect::<Result<Vec<_>>>()?;
        let predicate = conjunction(filters);
        let mut needed: Vec<usize> = columns.iter().map(|column| column.raw).collect();
        for column in predicate.iter().flat_map(Expr::column_refs) {
            needed.push(self.files.schema.index_of(&column.name)?);
        }
        needed.sort_unstable();
        needed.dedup();
        let scan = self.files.scan(&needed, &*self.holder).await?;
        let plan = match predicate {
            Some(predicate) => filtered(scan, &predicate, &self.holder)?,
            None => scan,
        };
        let shown = columns.iter().map(|column| {
            let index = needed.binary_search(&column.raw).map_err(|_| DataFusionError::External(Box::new(ScanFailed)));
            Ok(Shown { index: index?, mask: column.mask })
        });
        Ok(Behind {
            plan,
            context: self.holder.task_ctx(),
            shown: shown.collect::<Result<_>>()?,
            parallel_units: self.parallel_units,
            is_filtered: self.filter.is_some(),
            limit,
        })
    }
}

fn unqualified(expr: Expr) -> Result<Expr> {
    expr.transform(|inner| {
        Ok(match inner {
            Expr::Column(column) => {
                Transformed::yes(Expr::Column(datafusion::common::Column::new_unqualified(column.name)))
            }
            other => Transformed::no(other),
        })
    })
    .map(|done| done.data)
}

/// The scan under a filter, which the Parquet reader also uses to skip row groups and pages.
fn filtered(scan: Arc<dyn ExecutionPlan>, predicate: &Expr, holder: &SessionState) -> Result<Arc<dyn ExecutionPlan>> {
    if *predicate == Expr::Literal(ScalarValue::Boolean(Some(true)), None) {
        return Ok(scan);
    }
    let schema = plain_schema(&scan.schema())?;
    let predicate = holder.create_physical_expr(predicate.clone(), &schema)?;
    let plan: Arc<dyn ExecutionPlan> = Arc::new(FilterExec::try_new(predicate, scan)?);
    let options: &ConfigOptions = holder.config_options();
    FilterPushdown::new().optimize(plan, options)
}

#[async_trait]
impl TableProvider for GovernedTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let verdict = |filter: &&Expr| {
            if self.is_total(filter) {
                TableProviderFilterPushDown::Exact
            } else {
                TableProviderFilterPushDown::Unsupported
            }
        };
        Ok(filters.iter().map(verdict).collect())
    }

    async fn scan(
        &self,
        _consumer: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all: Vec<usize> = (0..self.columns.len()).collect();
        let wanted = projection.unwrap_or(&all);
        let schema = Arc::new(self.schema.project(wanted)?);
        let columns: Vec<&Visible> = wanted.iter().filter_map(|index| self.columns.get(*index)).collect();
        if !filters.iter().all(|filter| self.is_total(filter)) {
            return Err(DataFusionError::Plan("filter cannot pass the barrier".to_owned()));
        }
        let behind = self.plan(&columns, filters, limit).await.map_err(|error| {
            tracing::error!(contract = %self.contract, %error, "governed scan could not be planned");
            DataFusionError::External(Box::new(ScanFailed))
        })?;
        Ok(Arc::new(BarrierExec::new(self.contract.clone(), schema, behind)))
    }
}
