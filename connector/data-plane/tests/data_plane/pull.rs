//! Downloads: formats, ranges, resume without a second count, revocation.

use std::{collections::HashMap, sync::Arc};

use axum::{Router, body::Body};
use bytes::Bytes;
use datafusion::arrow::{array::RecordBatch, csv, ipc::reader::StreamReader, json};
use futures::StreamExt;
use http::{Request, Response, StatusCode, header};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use shuyu_data_plane::{Engine, Format, Pull, Spool, SpoolLimits, pull_router};
use tempfile::TempDir;
use tonic::codegen::Service;

use crate::fixture::{ALICE, EVERYTHING, MALLORY, TENANT_A, Terms, TestGate, limits, source, world, write_parquet};

struct Door {
    dir: TempDir,
    gate: Arc<TestGate>,
    pull: Pull,
}

impl Door {
    fn open(terms: &Terms<'_>, rows: i64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.parquet");
        write_parquet(&path, &world(rows, 0.5, 1), 20_000);
        let gate = TestGate::new(terms, source(&path, Format::Parquet));
        let spool = Spool::open(&dir.path().join("spool"), SpoolLimits::default()).unwrap();
        let pull = Pull { gate: gate.clone(), engine: Engine::start(limits()).unwrap(), spool };
        Self { dir, gate, pull }
    }

    async fn get(&self, query: &str, extra: &[(header::HeaderName, String)]) -> Response<Body> {
        get(&self.pull, ALICE, query, extra).await
    }
}

async fn get(pull: &Pull, token: &str, query: &str, extra: &[(header::HeaderName, String)]) -> Response<Body> {
    let mut request = Request::get(format!("/data/transfer-alice{query}"));
    if !token.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    for (name, value) in extra {
        request = request.header(name, value);
    }
    let mut router: Router = pull_router(pull.clone());
    router.call(request.body(Body::empty()).unwrap()).await.unwrap()
}

fn headers(response: &Response<Body>) -> HashMap<String, String> {
    let text = |(name, value): (&header::HeaderName, &header::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap_or_default().to_owned())
    };
    response.headers().iter().map(text).collect()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
}

fn rows(format: &str, bytes: Bytes) -> usize {
    let count = |batches: Vec<RecordBatch>| batches.iter().map(RecordBatch::num_rows).sum();
    match format {
        "parquet" => {
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
            count(reader.collect::<Result<_, _>>().unwrap())
        }
        "arrow" => count(StreamReader::try_new(&*bytes, None).unwrap().collect::<Result<_, _>>().unwrap()),
        "csv" => {
            let (schema, rows) = csv::reader::Format::default().with_header(true).infer_schema(&*bytes, None).unwrap();
            assert!(schema.column_with_name("ssn").is_none() && schema.column_with_name("id").is_some());
            rows
        }
        _ => json::reader::infer_json_schema(&*bytes, None).unwrap().1,
    }
}

async fn body(response: Response<Body>) -> Bytes {
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    assert!(status.is_success(), "{}", String::from_utf8_lossy(&bytes));
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_holds_the_visible_rows() {
    let door = Door::open(&TENANT_A, 3000);
    for format in ["parquet", "csv", "arrow", "json"] {
        let response = door.get(&format!("?format={format}"), &[]).await;
        let told = headers(&response);
        let bytes = body(response).await;
        assert_eq!(told["shuyu-blake3"], blake3::hash(&bytes).to_hex().as_str());
        assert_eq!(told["content-length"], bytes.len().to_string());
        assert_eq!(told["shuyu-rows"], "3000");
        assert_eq!(told["accept-ranges"], "bytes");
        assert_eq!(rows(format, bytes), 3000, "{format}");
        let receipt = door.get(&format!("/receipts/{}", told["shuyu-use"]), &[]).await;
        assert_eq!(text(receipt).await, format!("receipt-of-{}", told["shuyu-use"]));
    }
    let response = door.get("?format=csv&sql=SELECT+id+FROM+people+WHERE+id+%3C+7", &[]).await;
    let lines = text(response).await;
    assert_eq!(lines, "id\n0\n1\n2\n3\n4\n5\n6\n");
    let empty = door.get("?format=csv&sql=SELECT+id+FROM+people+WHERE+id+%3C+0", &[]).await;
    assert_eq!(text(empty).await, "id\n");
    assert_eq!(door.gate.uses(), 6);
    assert!(door.gate.outcomes.lock().unwrap().iter().all(|(_, outcome)| outcome.complete));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_download_goes_on_without_a_second_count() {
    let door = Door::open(&Terms { max_count: Some(1), ..EVERYTHING }, 100_000);
    let response = door.get("?format=csv", &[]).await;
    let told = headers(&response);
    let size: usize = told["content-length"].parse().unwrap();
    let mut stream = response.into_body().into_data_stream();
    let mut whole = stream.next().await.unwrap().unwrap().to_vec();
    drop(stream);
    let mut turn = 0;
    while whole.len() < size {
        let range = format!("bytes={}-{}", whole.len(), whole.len() + size / 3);
        let response =
            door.get("?format=csv", &[(header::RANGE, range), (header::IF_RANGE, told["etag"].clone())]).await;
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
        whole.extend(body(response).await);
        turn += 1;
        assert!(turn < 10);
    }
    assert_eq!(told["shuyu-blake3"], blake3::hash(&whole).to_hex().as_str());
    assert_eq!(door.gate.uses(), 1);
    // What the broken download had reserved served the next one; nothing is lost and nothing is given away.
    assert_eq!(door.gate.used.lock().unwrap().bytes, size as u64);

    // The node restarts: the segment is still there, and the gate is still asked.
    let spool = Spool::open(&door.dir.path().join("spool"), SpoolLimits::default()).unwrap();
    let restarted = Pull { spool, ..door.pull.clone() };
    let tail = get(&restarted, ALICE, "?format=csv", &[(header::RANGE, "bytes=-100".to_owned())]).await;
    assert_eq!(body(tail).await, whole[size - 100..]);
    let beyond = door.get("?format=csv", &[(header::RANGE, format!("bytes={size}-"))]).await;
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(headers(&beyond)["content-range"], format!("bytes */{size}"));
    // A plain GET after a finished download is a new use, and the only one is spent.
    let again = door.get("?format=csv", &[]).await;
    assert_eq!(again.status(), StatusCode::FORBIDDEN);
    assert_eq!(headers(&again)["content-type"], "application/problem+json");
    door.gate.revoke();
    let revoked = door.get("?format=csv", &[(header::RANGE, "bytes=0-1".to_owned())]).await;
    assert_eq!(revoked.status(), StatusCode::GONE);
    assert!(text(revoked).await.contains("\"code\":\"revoked\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_downloads_of_one_file_all_spend() {
    let door = Door::open(&EVERYTHING, 100_000);
    let mut streams = Vec::new();
    let mut received = 0;
    for _ in 0..4 {
        let mut stream = door.get("?format=csv", &[]).await.into_body().into_data_stream();
        received += stream.next().await.unwrap().unwrap().len() as u64;
        streams.push(stream);
    }
    let broken = streams.pop();
    drop(broken);
    for mut stream in streams {
        while let Some(chunk) = stream.next().await {
            received += chunk.unwrap().len() as u64;
        }
        assert!(received <= door.gate.used.lock().unwrap().bytes, "more left than was spent");
    }
    assert_eq!(door.gate.uses(), 1);
    assert_eq!(door.gate.used.lock().unwrap().bytes, received);
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_breaks_a_running_body() {
    let door = Door::open(&EVERYTHING, 100_000);
    let response = door.get("?format=json", &[]).await;
    let mut stream = response.into_body().into_data_stream();
    stream.next().await.unwrap().unwrap();
    door.gate.revoke();
    let end = stream.next().await.unwrap().unwrap_err();
    assert!(format!("{end:?}").contains("the holder withdrew it"), "{end:?}");
    assert!(stream.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_door_refuses_with_words() {
    let door = Door::open(&Terms { max_bytes: 10_000, ..TENANT_A }, 3000);
    for (token, query, wanted) in [
        ("", "", 401),
        ("forged", "", 401),
        (MALLORY, "", 404),
        (ALICE, "?format=xlsx", 400),
        (ALICE, "?location=file:///etc/passwd", 400),
        (ALICE, "?sql=SELECT+ssn+FROM+people", 400),
        (ALICE, "?sql=COPY+people+TO+'x'", 403),
    ] {
        let response = get(&door.pull, token, query, &[]).await;
        assert_eq!(response.status().as_u16(), wanted, "{query}");
        assert_eq!(headers(&response)["content-type"], "application/problem+json");
    }
    let over = door.get("?format=csv", &[]).await;
    let mut stream = over.into_body().into_data_stream();
    assert!(stream.next().await.unwrap().is_err(), "the byte quota breaks the body");
    assert!(door.gate.used.lock().unwrap().bytes <= 10_000);
}
