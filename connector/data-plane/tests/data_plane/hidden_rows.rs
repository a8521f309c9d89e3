//! Design invariant 4: a hidden row has no influence on answers, errors, order, batches or metadata.

use datafusion::arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::Int64Type,
    util::pretty::pretty_format_batches,
};
use futures::StreamExt;
use shuyu_data_plane::{
    Format,
    remote::{Provider, RemoteError},
};

use crate::fixture::{ALICE, Holder, TENANT_A, limits, source, stable, world, write_parquet};

/// Everything a consumer can tell of an answer: columns, values, order, and where batches end; or the error.
async fn told(provider: &Provider, sql: &str) -> String {
    let answer = async {
        let stream = provider.query(sql).await?;
        let schema = format!("{:?}", stream.schema());
        let batches: Vec<RecordBatch> =
            stream.map(|batch| batch).collect::<Vec<_>>().await.into_iter().collect::<Result<_, _>>()?;
        let cuts: Vec<usize> = batches.iter().map(RecordBatch::num_rows).collect();
        Ok::<_, RemoteError>(format!("{schema}\n{cuts:?}\n{}", pretty_format_batches(&batches).unwrap()))
    };
    match answer.await {
        Ok(text) => text,
        Err(RemoteError::Refused { code, words }) => format!("{code}: {}", stable(&words)),
        Err(error) => format!("other: {error}"),
    }
}

/// Queries that pry at hidden rows and columns.
const HOSTILE: &[&str] = &[
    "SELECT count(*) FROM people WHERE CAST(note AS INT) >= 0",
    "SELECT count(*) FROM people WHERE 1/(salary-100) < 5",
    "SELECT count(*) FROM people WHERE 1 % (salary - 100) = 0",
    "SELECT count(*) FROM people WHERE salary / (id + 1) > 0 AND CAST(note AS BIGINT) < 100",
    "SELECT sum(CASE WHEN salary = 100 THEN 1/(salary-100) ELSE 0 END) FROM people",
    "SELECT id FROM people LIMIT 5",
    "SELECT id FROM people LIMIT 5 OFFSET 1500",
    "SELECT id FROM people WHERE note LIKE 'SECRET%'",
    "SELECT id, note FROM people WHERE id < 0",
    "SELECT * FROM people",
    "SELECT id FROM people WHERE salary > 1010 LIMIT 7",
    "SELECT id FROM people WHERE tenant = 'b' OR id IN (3, 4, 5)",
    "SELECT id FROM people WHERE tenant <> 'a'",
    "SELECT id FROM people WHERE NOT (tenant = 'a' AND salary > 0)",
    "SELECT id FROM people WHERE day BETWEEN DATE '2024-10-01' AND DATE '2024-11-01'",
    "SELECT min(id), max(salary), count(*), sum(salary), avg(amount), sum(amount) FROM people",
    "SELECT count(*) FROM people",
    "SELECT note, count(*), sum(amount) FROM people GROUP BY note",
    "SELECT stddev(amount), median(amount), approx_distinct(note) FROM people",
    "SELECT id, row_number() OVER () FROM people LIMIT 20",
    "SELECT id, lag(id) OVER (ORDER BY salary, id) FROM people ORDER BY salary DESC, id LIMIT 20",
    "SELECT first_value(id), last_value(id), array_agg(id)[1] FROM people",
    "SELECT name, count(*) FROM people WHERE name LIKE 'Hidd%' GROUP BY name",
    "SELECT name FROM people WHERE name = 'Name 7'",
    "SELECT ssn FROM people",
    "SELECT people.ssn FROM people",
    "SELECT sssn FROM people",
    "SELECT id FROM people WHERE ssn = 'secret-1'",
    "SELECT CASE WHEN true THEN id ELSE ssn END FROM people",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM information_schema.columns",
    "SELECT * FROM pg_catalog.pg_class",
    "SELECT * FROM raw",
    "SELECT a.id FROM people a JOIN people b ON a.salary = b.id ORDER BY 1 LIMIT 3",
    "SELECT id FROM people WHERE salary > (SELECT avg(salary) FROM people) ORDER BY id LIMIT 3",
    "SELECT id FROM people WHERE EXISTS (SELECT 1 FROM people p WHERE p.salary = 100)",
    "SELECT to_date(note) FROM people LIMIT 1",
    "SELECT date_trunc(note, day) FROM people",
    "SELECT sqrt(-salary), ln(salary - 100), power(salary, 400) FROM people LIMIT 3",
    "SELECT salary * 9223372036854775807 FROM people LIMIT 2",
    "SELECT CAST(amount * 1e300 AS INT) FROM people LIMIT 2",
    "SELECT regexp_replace(note, '(', '') FROM people",
    "EXPLAIN SELECT * FROM people",
    "EXPLAIN ANALYZE SELECT * FROM people",
    "SELECT random() FROM people LIMIT 1",
    "SELECT version()",
    "SELECT id FROM people TABLESAMPLE SYSTEM (10)",
];

#[tokio::test(flavor = "multi_thread")]
async fn worlds_that_differ_in_hidden_rows_tell_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for (turn, share) in [0.001, 0.01, 0.1, 0.19, 0.21, 0.5, 0.9, 0.99].into_iter().enumerate() {
        let visible = if share < 0.01 { 300 } else { 2500 };
        let mut providers = Vec::new();
        let mut holders = Vec::new();
        for seed in [1, 2] {
            let path = dir.path().join(format!("{turn}-{seed}.parquet"));
            write_parquet(
                &path,
                &world(visible, share, seed * 1000 + turn as i64),
                if seed == 1 { 700 } else { 100_000 },
            );
            let holder = Holder::start(&TENANT_A, source(&path, Format::Parquet), limits()).await;
            providers.push(holder.connect(ALICE).await);
            holders.push(holder);
        }
        for sql in HOSTILE {
            let (left, right) = (told(&providers[0], sql).await, told(&providers[1], sql).await);
            assert_eq!(left, right, "share {share}: {sql}");
            for secret in ["SECRET", "Hidden", "secret-", "ssn-", "tenant = "] {
                let asked = sql.contains(secret);
                assert!(asked || !left.contains(secret), "share {share}: {sql} tells {left}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_column_does_not_exist_and_a_masked_one_is_masked_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    write_parquet(&path, &world(100, 0.5, 3), 1000);
    let holder = Holder::start(&TENANT_A, source(&path, Format::Parquet), limits()).await;
    let provider = holder.connect(ALICE).await;
    let denied = told(&provider, "SELECT ssn FROM people").await;
    let absent = told(&provider, "SELECT zzz FROM people").await;
    assert_eq!(denied.replace("ssn", "zzz"), absent);
    let close = told(&provider, "SELECT ss FROM people").await;
    assert!(!close.contains("ssn"), "{close}");
    let columns = provider.columns("SELECT * FROM people").await.unwrap();
    assert!(columns.column_with_name("ssn").is_none());
    let masked = provider.query("SELECT DISTINCT name FROM people").await.unwrap().collect().await.unwrap();
    let names: Vec<_> = masked
        .iter()
        .flat_map(|batch| batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert!(names.iter().all(|name| name.starts_with("Name n")), "{names:?}");
    let probe =
        provider.query("SELECT count(*) FROM people WHERE name = 'Name 42'").await.unwrap().collect().await.unwrap();
    assert_eq!(probe[0].column(0).as_primitive::<Int64Type>().value(0), 0);
    assert_eq!(probe[0].column(0).null_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_and_json_hide_as_parquet_does() {
    use std::fmt::Write as _;
    let dir = tempfile::tempdir().unwrap();
    for (format, extension) in [(Format::Csv, "csv"), (Format::NdJson, "json")] {
        let mut tellings = Vec::new();
        for seed in [1_i64, 2] {
            let mut text = String::new();
            if format == Format::Csv {
                text.push_str("tenant,id,salary,note,name,ssn\n");
            }
            for row in 0..500_i64 {
                let (tenant, salary, note) = if row % 5 == 0 {
                    ("a", row.to_string(), row.to_string())
                } else {
                    ("b", (row * seed).to_string(), format!("SECRET{seed}"))
                };
                let id = row;
                match format {
                    // A hidden row of one world holds a cell that is no number.
                    Format::Csv if tenant == "b" && seed == 2 && row % 7 == 0 => {
                        writeln!(text, "b,oops,oops,{note},N,s").unwrap();
                    }
                    Format::Csv => writeln!(text, "{tenant},{id},{salary},{note},Name {id},s{id}").unwrap(),
                    Format::Parquet | Format::NdJson => writeln!(text, r#"{{"tenant":"{tenant}","id":{id},"salary":{salary},"note":"{note}","name":"Name {id}","ssn":"s"}}"#).unwrap(),
                }
            }
            let path = dir.path().join(format!("{seed}.{extension}"));
            std::fs::write(&path, text).unwrap();
            let mut table = source(&path, format);
            let clean = source(&dir.path().join(format!("1.{extension}")), format);
            let engine = shuyu_data_plane::Engine::start(limits()).unwrap();
            table.schema = Some(engine.infer_schema(&clean).await.unwrap());
            let holder = Holder::start(&TENANT_A, table, limits()).await;
            let provider = holder.connect(ALICE).await;
            let mut all = String::new();
            for sql in [
                "SELECT * FROM people",
                "SELECT count(*), sum(salary) FROM people WHERE CAST(note AS INT) >= 0",
                "SELECT id FROM people LIMIT 3",
                "SELECT id FROM people WHERE salary > 100 AND salary < 200",
            ] {
                all.push_str(&told(&provider, sql).await);
            }
            tellings.push(all);
        }
        assert_eq!(tellings[0], tellings[1], "{format:?}");
        assert!(tellings[0].contains("100") && !tellings[0].contains("SECRET") && !tellings[0].contains("refused"));
    }
}
