//! Queries that would take the node down do not, and bad files are a clear error.

use std::time::Duration;

use datafusion::arrow::{
    array::{AsArray, RecordBatch},
    datatypes::Int64Type,
};
use shuyu_data_plane::{Format, QueryLimits, remote::RemoteError};

use crate::fixture::{ALICE, EVERYTHING, Holder, TENANT_A, Terms, limits, source, world, write_parquet};

async fn refusal(holder: &Holder, sql: &str) -> (String, String) {
    let provider = holder.connect(ALICE).await;
    let answer = async { provider.query(sql).await?.collect().await };
    match answer.await {
        Err(RemoteError::Refused { code, words }) => (code, words),
        other => panic!("{sql}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_queries_end_and_the_node_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    write_parquet(&path, &world(5000, 1.0, 1), 1000);
    let limits = QueryLimits { memory_bytes: 16 << 20, compute_time: Duration::from_millis(1500), ..limits() };
    let holder = Holder::start(&EVERYTHING, source(&path, Format::Parquet), limits).await;
    for sql in [
        "SELECT count(*) FROM people a, people b, people c WHERE a.id + b.id + c.id = 7",
        "SELECT a.id FROM people a, people b, people c ORDER BY a.id + b.id * c.id DESC LIMIT 3",
        "SELECT a.id, b.id, count(*) FROM people a, people b GROUP BY 1, 2",
    ] {
        let (code, words) = refusal(&holder, sql).await;
        assert!(code == "time-limit" || code == "memory-limit", "{sql}: {code} {words}");
        let provider = holder.connect(ALICE).await;
        let rows = provider.query("SELECT id FROM people LIMIT 3").await.unwrap().collect().await.unwrap();
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    }
}

/// A sort of three million rows in 32 MiB: refused without a place to spill to, answered in order with one, and nothing
/// stays on the disk.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_in_memory_goes_through_the_disk() {
    const SQL: &str =
        "SELECT a.id * 7919 % 1009 + b.id AS n, b.id AS m, a.id AS l FROM people a, people b ORDER BY 1, 2, 3";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    write_parquet(&path, &world(1750, 1.0, 1), 500);
    let tight = QueryLimits { memory_bytes: 32 << 20, ..limits() };
    let holder = Holder::start(&EVERYTHING, source(&path, Format::Parquet), tight.clone()).await;
    assert_eq!(refusal(&holder, SQL).await.0, "memory-limit");

    let spill_dir = dir.path().join("spill");
    std::fs::create_dir(&spill_dir).unwrap();
    let roomy = QueryLimits { spill_dir: Some(spill_dir.clone()), spill_bytes: 1 << 30, ..tight };
    let holder = Holder::start(&EVERYTHING, source(&path, Format::Parquet), roomy).await;
    let provider = holder.connect(ALICE).await;
    let batches = provider.query(SQL).await.unwrap().collect().await.unwrap();
    let numbers = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
    let sorted: Vec<i64> = batches.iter().flat_map(numbers).collect();
    assert_eq!(sorted.len(), 1750 * 1750);
    assert!(sorted.is_sorted());
    let left = walk(&spill_dir);
    assert!(left.is_empty(), "{left:?}");
}

/// Every file below a directory.
fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_not_a_query_over_the_table_is_refused_with_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    write_parquet(&path, &world(10, 1.0, 1), 1000);
    let holder = Holder::start(&TENANT_A, source(&path, Format::Parquet), limits()).await;
    for (sql, wanted) in [
        ("INSERT INTO people VALUES (1)", "statement-not-allowed"),
        ("SET datafusion.execution.batch_size = 1", "statement-not-allowed"),
        ("COPY people TO '/tmp/stolen.csv'", "statement-not-allowed"),
        ("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'", "statement-not-allowed"),
        ("EXPLAIN SELECT 1", "statement-not-allowed"),
        ("EXPLAIN ANALYZE VERBOSE SELECT 1", "statement-not-allowed"),
        ("SHOW TABLES", "statement-not-allowed"),
        ("DESCRIBE people", "statement-not-allowed"),
        ("SELECT * FROM read_parquet('/etc/passwd')", "statement-not-allowed"),
        ("SELECT * FROM '/etc/passwd'", "statement-invalid"),
        ("SELECT * FROM \"/etc/passwd\"", "statement-invalid"),
        ("SELECT unheard_of(id) FROM people", "statement-invalid"),
        ("SELECT repeat('x', 1000000000) FROM people", "statement-invalid"),
        ("SELECT id FROM people; DROP TABLE people", "statement-invalid"),
        ("SELECT id INTO stolen FROM people", "statement-not-allowed"),
        ("WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT * FROM r", "statement-not-allowed"),
        ("this is not SQL", "statement-invalid"),
    ] {
        let (code, words) = refusal(&holder, sql).await;
        assert_eq!(code, wanted, "{sql}: {words}");
    }
    let deep = format!("SELECT 1{}", " + 1".repeat(7_000));
    assert_eq!(refusal(&holder, &deep).await.0, "statement-invalid");
    let unions = format!("SELECT id FROM people{}", " UNION ALL SELECT id FROM people".repeat(1_900));
    assert_eq!(refusal(&holder, &unions).await.0, "statement-invalid");
    assert!(!std::path::Path::new("/tmp/stolen.csv").exists());
    assert_eq!(holder.gate.uses(), 0, "a statement that is not let in spends no count");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_files_and_policies_that_do_not_fit_are_clear_and_tell_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    write_parquet(&path, &world(5000, 0.5, 1), 1000);
    let whole = std::fs::read(&path).unwrap();
    for keep in [0, 3, whole.len() / 2, whole.len() - 1] {
        let cut = dir.path().join(format!("cut-{keep}.parquet"));
        std::fs::write(&cut, &whole[..keep]).unwrap();
        let holder = Holder::start(&TENANT_A, source(&cut, Format::Parquet), limits()).await;
        let (code, words) = refusal(&holder, "SELECT * FROM people").await;
        assert_eq!(code, "table-unreadable", "{keep}: {words}");
        assert!(!words.contains("cut-"), "{words}");
    }
    // A footer that is whole over pages that are not.
    let mut garbled = whole.clone();
    let middle = garbled.len() / 3;
    garbled[4..middle].fill(0xA5);
    let path_garbled = dir.path().join("garbled.parquet");
    std::fs::write(&path_garbled, garbled).unwrap();
    let holder = Holder::start(&TENANT_A, source(&path_garbled, Format::Parquet), limits()).await;
    let (code, words) = refusal(&holder, "SELECT * FROM people").await;
    assert_eq!(code, "table-unreadable", "{words}");

    for terms in [
        Terms { filter: Some("tenant = 5"), ..TENANT_A },
        Terms { filter: Some("nobody = 'a'"), ..TENANT_A },
        Terms { masks: &["salary=mask-alphanum"], ..TENANT_A },
        Terms { masks: &["nobody=replace-with-null"], ..TENANT_A },
        Terms { denied: &["nobody"], ..TENANT_A },
    ] {
        let holder = Holder::start(&terms, source(&path, Format::Parquet), limits()).await;
        let (code, words) = refusal(&holder, "SELECT * FROM people").await;
        assert_eq!(code, "table-unreadable", "{words}");
        assert!(!words.contains("nobody") && !words.contains("tenant"), "{words}");
    }
}
