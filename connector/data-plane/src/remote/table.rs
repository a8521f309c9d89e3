//! A provider's table inside the consumer's own DataFusion session.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    arrow::{
        array::RecordBatch,
        datatypes::{DataType, Decimal128Type, DecimalType, Schema, SchemaRef},
    },
    catalog::{Session, TableProvider},
    common::{
        Column, DataFusionError, Result, ScalarValue,
        tree_node::{Transformed, TreeNode},
    },
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{
        BinaryExpr, Cast, Expr, Operator, TableProviderFilterPushDown, TableType,
        expr::{Between, InList},
        lit,
    },
    physical_plan::{
        ExecutionPlan,
        stream::RecordBatchStreamAdapter,
        streaming::{PartitionStream, StreamingTableExec},
    },
    sql::unparser::{Unparser, dialect::PostgreSqlDialect},
};
use futures::{StreamExt, TryStreamExt};

use super::{Provider, RemoteError};

/// Rows up to which an answer with a limit is taken whole.
const MAX_SHORT_ROWS: usize = 65_536;

/// A table at a provider. Projection, simple filters and limits travel to the provider as SQL.
#[derive(Debug)]
pub struct RemoteTable {
    local_name: String,
    remote_name: String,
    provider: Provider,
    schema: SchemaRef,
}

impl RemoteTable {
    /// Asks the provider for the columns of `remote_name`, to be called `local_name` here.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub async fn open(provider: Provider, remote_name: &str, local_name: &str) -> Result<Self, RemoteError> {
        let schema = provider.columns(&format!("SELECT * FROM {}", quoted(remote_name))).await?;
        Ok(Self { local_name: local_name.to_owned(), remote_name: remote_name.to_owned(), provider, schema })
    }

    /// Its name in the session.
    pub fn name(&self) -> &str {
        &self.local_name
    }

    /// The provider, for its receipts.
    pub fn provider(&self) -> &Provider {
        &self.provider
    }

    fn sql(&self, columns: &Schema, filters: &[Expr], limit: Option<usize>) -> Result<String> {
        let mut sql = String::from("SELECT ");
        for (index, field) in columns.fields().iter().enumerate() {
            sql.push_str(if index == 0 { "" } else { ", " });
            sql.push_str(&quoted(field.name()));
        }
        sql.push_str(&format!(" FROM {}", quoted(&self.remote_name)));
        let dialect = PostgreSqlDialect {};
        let unparser = Unparser::new(&dialect);
        for (index, filter) in filters.iter().enumerate() {
            let filter = unparser.expr_to_sql(&bare(filter.clone())?)?;
            sql.push_str(if index == 0 { " WHERE " } else { " AND " });
            sql.push_str(&format!("({filter})"));
        }
        if let Some(limit) = limit {
            sql.push_str(&format!(" LIMIT {limit}"));
        }
        Ok(sql)
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A filter as the provider shall read it: columns without the local table's name, and decimals as text with a type,
/// because a bare number with a point would be read as floating point.
fn bare(expr: Expr) -> Result<Expr> {
    let done = expr.transform(|inner| {
        Ok(match inner {
            Expr::Column(column) => Transformed::yes(Expr::Column(Column::new_unqualified(column.name))),
            Expr::Literal(ScalarValue::Decimal128(Some(value), precision, scale), _) => {
                let digits = lit(Decimal128Type::format_decimal(value, precision, scale));
                let cast = Cast::new(Box::new(digits), DataType::Decimal128(precision, scale));
                Transformed::yes(Expr::Cast(cast))
            }
            other => Transformed::no(other),
        })
    });
    done.map(|done| done.data)
}

/// Whether a filter means the same in the provider's SQL: comparisons of a column with a literal, and their combinations.
fn is_simple(expr: &Expr) -> bool {
    let column = |expr: &Expr| matches!(expr, Expr::Column(_));
    let literal = |expr: &Expr| match expr {
        Expr::Literal(value, _) => {
            let kind = value.data_type();
            kind.is_integer()
                || kind.is_floating()
                || kind.is_string()
                || matches!(kind, DataType::Boolean | DataType::Date32)
                || matches!(kind, DataType::Decimal128(_, scale) if 0 <= scale)
        }
        _ => false,
    };
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::And | Operator::Or => is_simple(left) && is_simple(right),
            Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => {
                (column(left) && literal(right)) || (literal(left) && column(right))
            }
            _ => false,
        },
        Expr::Not(inner) => is_simple(inner),
        Expr::IsNull(inner) | Expr::IsNotNull(inner) => column(inner),
        Expr::InList(InList { expr, list, .. }) => column(expr) && list.iter().all(literal),
        Expr::Between(Between { expr, low, high, .. }) => column(expr) && literal(low) && literal(high),
        _ => false,
    }
}

#[async_trait]
impl TableProvider for RemoteTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let verdict = |filter: &&Expr| {
            if is_simple(filter) {
                TableProviderFilterPushDown::Exact
            } else {
                TableProviderFilterPushDown::Unsupported
            }
        };
        Ok(filters.iter().map(verdict).collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => self.schema.clone(),
        };
        // A count needs rows but no column; the provider is asked for one, which is dropped here.
        let asked = if schema.fields().is_empty() { self.schema.project(&[0])? } else { schema.as_ref().clone() };
        let sql = self.sql(&asked, filters, limit)?;
        let is_short = limit.is_some_and(|rows| rows <= MAX_SHORT_ROWS);
        let partition = Arc::new(Remote { provider: self.provider.clone(), sql, schema: schema.clone(), is_short });
        let partitions: Vec<Arc<dyn PartitionStream>> = vec![partition];
        Ok(Arc::new(StreamingTableExec::try_new(schema, partitions, None, Vec::new(), false, None)?))
    }
}

/// One query at a provider.
#[derive(Debug)]
struct Remote {
    provider: Provider,
    sql: String,
    schema: SchemaRef,
    /// Whether the answer is taken whole. A local `LIMIT` would drop a stream before its receipt has come.
    is_short: bool,
}

impl PartitionStream for Remote {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (provider, sql, schema) = (self.provider.clone(), self.sql.clone(), self.schema.clone());
        let is_count = schema.fields().is_empty();
        let is_short = self.is_short;
        let answer = async move {
            let stream = provider.query(&sql).await?;
            if is_short {
                let batches = stream.collect().await?;
                return Ok(futures::stream::iter(batches.into_iter().map(Ok)).boxed());
            }
            Ok::<_, RemoteError>(stream.boxed())
        };
        let batches =
            futures::stream::once(answer).try_flatten().map(move |batch: Result<RecordBatch, RemoteError>| {
                let batch = batch.map_err(DataFusionError::from)?;
                if is_count { Ok(batch.project(&[])?) } else { Ok(batch) }
            });
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::col;

    use super::*;

    #[test]
    fn literals_keep_their_types_on_the_way() {
        let unparser = Unparser::new(&PostgreSqlDialect {});
        for (filter, wanted) in [
            (col("t.price").lt_eq(lit(ScalarValue::Decimal128(Some(5), 15, 2))), "CAST('0.05' AS DECIMAL(15,2))"),
            (col("t.price").gt(lit(ScalarValue::Decimal128(Some(-105), 3, 1))), "CAST('-10.5' AS DECIMAL(3,1))"),
            (col("t.day").lt(lit(ScalarValue::Date32(Some(8766)))), "CAST('1994-01-01' AS DATE)"),
        ] {
            assert!(is_simple(&filter), "{filter}");
            let sql = unparser.expr_to_sql(&bare(filter).unwrap()).unwrap().to_string();
            assert!(sql.contains(wanted) && !sql.contains("t."), "{sql}");
        }
        assert!(!is_simple(&col("price").eq(lit(ScalarValue::Decimal128(Some(5), 3, -2)))));
    }
}
