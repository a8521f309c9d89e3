//! A consumer joins the tables of two holders in one query.

use datafusion::arrow::{array::AsArray, datatypes::Int64Type};
use shuyu_data_plane::{
    Format,
    remote::{RemoteTable, join_session, query_stream},
};

use crate::fixture::{ALICE, EVERYTHING, Holder, TENANT_A, limits, source, world, write_parquet};

#[tokio::test(flavor = "multi_thread")]
async fn two_holders_tables_are_joined() {
    let dir = tempfile::tempdir().unwrap();
    let mut tables = Vec::new();
    let mut providers = Vec::new();
    let mut holders = Vec::new();
    for (name, rows, terms) in [("left_people", 1000, &TENANT_A), ("right_people", 500, &EVERYTHING)] {
        let path = dir.path().join(format!("{name}.parquet"));
        write_parquet(&path, &world(rows, 1.0, 1), 300);
        let holder = Holder::start(terms, source(&path, Format::Parquet), limits()).await;
        let provider = holder.connect(ALICE).await;
        tables.push(RemoteTable::open(provider.clone(), "people", name).await.unwrap());
        providers.push(provider);
        holders.push(holder);
    }
    let session = join_session(tables).unwrap();
    let sql = "SELECT count(*), sum(l.salary) FROM left_people l JOIN right_people r ON l.id = r.id \
               WHERE l.note = '7' AND r.salary > 1005 AND r.id BETWEEN 100 AND 450";
    let answer = session.sql(sql).await.unwrap().collect().await.unwrap();
    let wanted: Vec<i64> = (100..=450).filter(|n| n % 10 == 7 && 1000 + n % 50 > 1005).collect();
    assert_eq!(answer[0].column(0).as_primitive::<Int64Type>().value(0), wanted.len() as i64);
    assert_eq!(
        answer[0].column(1).as_primitive::<Int64Type>().value(0),
        wanted.iter().map(|n| 1000 + n % 50).sum::<i64>()
    );
    assert!(providers.iter().all(|provider| provider.receipts().len() == 1));
    assert!(providers[1].receipts()[0].rows <= 351, "the filter travelled");

    let count = session.sql("SELECT count(*) FROM left_people").await.unwrap().collect().await.unwrap();
    assert_eq!(count[0].column(0).as_primitive::<Int64Type>().value(0), 1000);
    let days = "SELECT count(*) FROM right_people WHERE day < DATE '2024-10-14'";
    let days = session.sql(days).await.unwrap().collect().await.unwrap();
    assert_eq!(days[0].column(0).as_primitive::<Int64Type>().value(0), 20, "twice in 500 rows");
    assert_eq!(providers[1].receipts().last().map(|receipt| receipt.rows), Some(20), "the date travelled");
    let few = session.sql("SELECT id FROM left_people LIMIT 3").await.unwrap().collect().await.unwrap();
    assert_eq!(few.iter().map(datafusion::arrow::array::RecordBatch::num_rows).sum::<usize>(), 3);
    assert_eq!(providers[0].receipts().last().map(|receipt| receipt.rows), Some(3), "the limit travelled");

    let (stream, provider) =
        query_stream(&holders[0].flight, ALICE, "SELECT id FROM people", None, None).await.unwrap();
    assert_eq!(stream.collect().await.unwrap().len(), 1);
    assert_eq!(provider.receipts().len(), 1);
}
