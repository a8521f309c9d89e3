//! A holder's governed tables behind Flight SQL with TLS on the loopback, and the consumer's connections.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use shuyu_data_plane::remote::{Provider, RemoteTable, join_session};
use shuyu_data_plane::{Engine, FlightSql, Format, QueryLimits, TableSource, serve_flight};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};
use url::Url;

use super::gate::{MemoryGate, Terms};
use super::tpch::{TABLES, Tables};
use crate::machine;

/// Contract over `lineitem` whose policy shows a tenth of its rows, spread over the whole file.
pub const SCATTERED: &str = "lineitem-scattered";
/// The rows of [`SCATTERED`]: 1,000 of 10,000 suppliers.
pub const SCATTERED_ROWS: &str = "l_suppkey <= 1000";
/// Contract over `lineitem` whose policy shows a tenth of its rows, which lie together.
pub const CLUSTERED: &str = "lineitem-clustered";
/// The rows of [`CLUSTERED`]: order keys go up to 6,000,000, in the order of the file.
pub const CLUSTERED_ROWS: &str = "l_orderkey <= 600000";

/// The one mask of figure 1. Queries 10 and 22 read the column; only query 10 shows what the mask hides.
const CUSTOMER_MASK: &str = "c_phone=show-first-4";

/// A self-signed certificate for 127.0.0.1.
pub struct Tls {
    certificate: String,
    key: String,
}

/// The holder, for as long as it is not dropped.
pub struct Space {
    /// The certificate, for other servers to be compared with.
    pub tls: Tls,
    flight: Url,
    stop: CancellationToken,
}

impl Drop for Space {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Tls {
    fn make() -> Result<Self> {
        let dir = TempDir::new()?;
        let (config, key, certificate) =
            (dir.path().join("openssl.cnf"), dir.path().join("key.pem"), dir.path().join("certificate.pem"));
        let text = "[req]\ndistinguished_name=name\nx509_extensions=extensions\nprompt=no\n[name]\nCN=bench\n\
                    [extensions]\nsubjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n";
        std::fs::write(&config, text)?;
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .arg("-config")
            .arg(&config)
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .context("cannot start `openssl`; `./x setup` installs it")?;
        ensure!(made.status.success(), "openssl req: {}", String::from_utf8_lossy(&made.stderr));
        Ok(Self { certificate: std::fs::read_to_string(certificate)?, key: std::fs::read_to_string(key)? })
    }

    /// For a server.
    pub fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new().identity(Identity::from_pem(&self.certificate, &self.key))
    }

    /// For its clients.
    pub fn client(&self) -> ClientTlsConfig {
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.certificate))
    }
}

impl Space {
    /// One contract a table, showing every row (`key >= 0`) with one mask on `customer`; and the two of figure 2.
    pub async fn start(tables: &Tables) -> Result<Self> {
        let mut contracts = Vec::new();
        for (table, key) in TABLES {
            let mask = (table == "customer").then_some(CUSTOMER_MASK);
            contracts.push(terms(table, table, format!("{key} >= 0"), mask, tables)?);
        }
        contracts.push(terms(SCATTERED, "lineitem", SCATTERED_ROWS.to_owned(), None, tables)?);
        contracts.push(terms(CLUSTERED, "lineitem", CLUSTERED_ROWS.to_owned(), None, tables)?);
        let engine = Engine::start(QueryLimits::default())?;
        let service = FlightSql::new(MemoryGate::new(contracts)?, engine);
        let tls = Tls::make()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let flight = format!("https://{}", listener.local_addr()?).parse()?;
        let stop = CancellationToken::new();
        tokio::spawn(serve_flight(service, listener, Some(tls.server()), stop.clone()));
        Ok(Self { tls, flight, stop })
    }

    /// A connection for the holder of a contract.
    pub async fn connect(&self, contract: &str) -> Result<Provider> {
        Ok(Provider::connect(&self.flight, contract, None, Some(self.tls.client())).await?)
    }

    /// The eight governed tables in one session of the consumer, as `shuyu query` joins them.
    pub async fn joined(&self) -> Result<SessionContext> {
        let mut remote = Vec::new();
        for (table, _) in TABLES {
            remote.push(RemoteTable::open(self.connect(table).await?, table, table).await?);
        }
        Ok(join_session(remote)?)
    }
}

fn terms(
    contract: &str,
    table: &str,
    row_filter: String,
    mask: Option<&'static str>,
    tables: &Tables,
) -> Result<Terms> {
    let location = Url::from_file_path(tables.file(table)).ok().context("the cache directory is no absolute path")?;
    let table = TableSource { name: table.to_owned(), location, format: Format::Parquet, schema: None };
    Ok(Terms { contract: contract.to_owned(), row_filter, mask, table })
}

/// What is compared with: DataFusion as it comes, one partition a core, over the same files.
pub async fn ungoverned(tables: &Tables) -> Result<SessionContext> {
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(machine::cores()));
    for (table, _) in TABLES {
        session.register_parquet(table, path(&tables.file(table))?, ParquetReadOptions::default()).await?;
    }
    Ok(session)
}

/// A path as DataFusion wants it.
pub fn path(path: &Path) -> Result<&str> {
    path.to_str().context("the cache directory is not UTF-8")
}
