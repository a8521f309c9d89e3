//! Starting a node, keeping it up, and stopping it without losing anything.

mod ledger;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use shuyu_data_plane::{
    Bucket, BucketError, Engine, FlightSql, Pull, QueryLimits, SharedGate, Spool, SpoolError, SpoolLimits, StartError,
    pull_router, serve_flight,
};
use shuyu_ledger::{Ledger, OpenError};
use shuyu_resolver::{DidResolver, Http, HttpOptions};
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::{Identity as TlsIdentity, ServerTlsConfig};

use crate::access::AccessTokens;
use crate::agreements::Agreements;
use crate::anchor::{AnchorDesk, Anchoring, router as anchor_router};
use crate::api_keys::ApiKeys;
use crate::audit::{Auditor, Follower};
use crate::catalogue::Catalogue;
use crate::claims::issuer::server::{IssuerService, router as issuer_router};
use crate::claims::issuer::{Issuer, IssuerTools};
use crate::claims::service::{CredentialService, router as credential_router};
use crate::claims::space::Spaces;
use crate::claims::tokens::{TokenDesk, router as token_router};
use crate::claims::wallet::Wallet;
use crate::config::{Config, ConfigError, Role};
use crate::counterparty::Counterparties;
use crate::events::Events;
use crate::evidence::{Evidence, EvidenceError};
use crate::exchange::driver::Tools;
use crate::exchange::{Negotiations, Transfers};
use crate::finder::Finder;
use crate::gate::Gatekeeper;
use crate::holdings::{Holdings, Spaced};
use crate::hooks::Hooks;
use crate::identity::{Doorkeeper, Identity, IdentityError};
use crate::init::MANAGEMENT_KEY_FILE;
use crate::keeper::{Keeper, parse_retention};
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::promises::Promises;
use crate::readers::Readers;
use crate::receipts::Receipts;
use crate::store::{Store, StoreError};
use crate::twin::TwinBinder;
use crate::witness::{Cosigning, router as witness_router};
use crate::{clock, dsp_server, management, public, whole};
use ledger::{ledger_keys, quorums, witness_desk};

pub use ledger::origin;

/// How long open requests may take to end after a stop was asked for.
const GRACE: Duration = Duration::from_secs(10);
/// How often expired token ids are forgotten.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// Why a node did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no usable key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The store cannot be opened; another node may use the directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger cannot be opened.
    #[error("the ledger cannot be opened: {0}")]
    Ledger(#[from] OpenError),
    /// The query threads cannot be started.
    #[error("the query engine cannot be started: {0}")]
    Engine(#[from] StartError),
    /// An object store cannot be used.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The directory for downloads cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// Evidence that a crash interrupted cannot be completed.
    #[error("evidence of an earlier run cannot be completed: {0}")]
    Evidence(#[from] EvidenceError),
    /// A socket cannot be had.
    #[error("cannot listen on {address} (`{key}`): {source}")]
    Listen {
        /// The configuration key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that the node needs cannot be read.
    #[error("cannot read `{path}`: {reason}")]
    File {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The guarded HTTP client cannot be made.
    #[error("cannot set up HTTP towards peers: {0}")]
    Http(String),
    /// State of an earlier run cannot be read.
    #[error("cannot go on from the last run: {0}")]
    Recover(String),
    /// A server ended.
    #[error("the {server} server ended: {reason}")]
    Server {
        /// Which one.
        server: &'static str,
        /// Why.
        reason: String,
    },
}

/// Chooses the one crypto library for every TLS connection of the process; several are linked in, and rustls asks.
pub fn choose_crypto() {
    // A second call finds the choice made.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Runs the node in `dir` until `stop` is cancelled; then ends open requests and returns.
///
/// # Errors
/// [`RunError`] names the configuration key, file or socket.
pub async fn run(dir: &Path, stop: CancellationToken) -> Result<(), RunError> {
    choose_crypto();
    Node::start(dir, stop).await?.serve().await
}

/// A started node before it serves.
struct Node {
    config: Config,
    tools: Tools,
    public: Router,
    management: Router,
    gate: Arc<Gatekeeper>,
    engine: Arc<Engine>,
    pull: Pull,
    doorkeeper: Doorkeeper,
    twin: TwinBinder,
    cosigning: Cosigning,
    follower: Arc<Follower>,
    anchoring: Arc<Anchoring>,
    keeper: Arc<Keeper>,
    tls: Option<RustlsConfig>,
    tls_pem: Option<TlsPem>,
}

impl Node {
    #[expect(clippy::too_many_lines, reason = "the parts of a node, put together one after another")]
    async fn start(dir: &Path, stopping: CancellationToken) -> Result<Self, RunError> {
        let config = Config::load(dir)?;
        // The store's lock is taken first: a second node on this directory touches nothing.
        let store = Store::open(&dir.join("db"))?;
        let identity = Arc::new(Identity::load(dir, &config)?);
        let origin = origin(&config);
        let keys = ledger_keys(&origin, &identity, &config)?;
        let ledger_dir = dir.join("ledger");
        let options = config.ledger.of_node(dir);
        let ledger = tokio::task::spawn_blocking(move || Ledger::open_with(&ledger_dir, keys, &options))
            .await
            .map_err(|error| RunError::Recover(error.to_string()))??;
        let ledger = Arc::new(ledger);
        let evidence = Evidence::new(Arc::clone(&ledger), Arc::clone(&identity), store.clone());
        let recovered = evidence.recover().await?;
        if 0 < recovered {
            tracing::info!(recovered, "evidence of the last run completed");
        }
        let twin = TwinBinder::new(Arc::clone(&ledger), evidence.clone(), Arc::clone(&identity));
        let quorums = quorums(dir, &config)?;
        let keeper = Arc::new(Keeper::new(
            Arc::clone(&ledger),
            evidence.clone(),
            Arc::clone(&identity),
            store.clone(),
            parse_retention(&config.ledger.retention).map_err(RunError::Recover)?,
        ));
        // After what the old key signed, and before anything the new one signs.
        evidence.record_successions().await?;
        let http = Http::new(HttpOptions {
            insecure_loopback: config.insecure_loopback,
            allow_networks: config.networks()?,
            extra_roots_pem: extra_roots(dir, &config)?,
            ..HttpOptions::default()
        })
        .map_err(|error| RunError::Http(error.to_string()))?;
        let heads_every = Duration::from_secs(config.ledger.heads_every_s.map_or(600, u64::from));
        let cosigning = Cosigning::new(
            Arc::clone(&ledger),
            evidence.clone(),
            Arc::clone(&identity),
            http.clone(),
            quorums,
            heads_every,
        );
        let witness = witness_desk(dir, &config, &identity, &store)?;
        let resolver = Arc::new(DidResolver::new(http.clone()));
        let peers = Arc::new(Peers::new(Arc::clone(&identity), http.clone(), Arc::clone(&resolver)));
        let spaces = Arc::new(Spaces::new(
            identity.did.clone(),
            config.space_terms()?,
            Arc::clone(&peers),
            http.clone(),
            store.clone(),
            i64::try_from(config.limits.credentials_ttl_s).unwrap_or(300).saturating_mul(1000),
        ));
        let tools = Tools {
            did: identity.did.clone(),
            store: store.clone(),
            evidence: evidence.clone(),
            peers: Arc::clone(&peers),
            promises: Promises::new(store.clone(), Arc::clone(&peers)),
            spaces: Arc::clone(&spaces),
            events: Events::open(store.clone())?,
            max_open_per_peer: config.limits.max_open_per_peer,
            tasks: TaskTracker::new(),
            stopping,
        };
        let doorkeeper = Doorkeeper::new(identity.did.clone(), Arc::clone(&resolver), store.clone());
        let claims = Claims::start(&config, &identity, &tools, &doorkeeper);
        let agreements = Agreements::new(store.clone());
        let spaced = Spaced { names: spaces.names(), types: spaces.types() };
        let holdings = Holdings::new(store.clone()).telling(tools.events.clone()).in_spaces(spaced);
        holdings.adopt_offers().await.map_err(|problem| RunError::Recover(problem.detail))?;
        let root =
            dsp_server::callback_root(&config.public.url).map_err(|problem| RunError::Recover(problem.detail))?;
        let counterparties = Arc::new(Counterparties::new(
            Arc::clone(&identity),
            Arc::clone(&resolver),
            config.require_signed_agreements,
        ));
        let negotiations =
            Negotiations::new(tools.clone(), agreements.clone(), Arc::clone(&counterparties), root.clone(), &config);
        let access = AccessTokens::new(Arc::clone(&identity), store.clone());
        access.begin_key(clock::now())?;
        let transfers =
            Transfers::new(tools.clone(), agreements.clone(), counterparties, access, root.clone(), &config);
        let gate = Gatekeeper::new(
            Arc::clone(&identity),
            store.clone(),
            evidence.clone(),
            tools.events.clone(),
            agreements.clone(),
            Arc::clone(&transfers),
            Arc::clone(&spaces),
        );
        let engine = engine(dir, &config)?;
        let metrics = Metrics::new(Arc::clone(&ledger));
        let auditor = Auditor::new(dir, store.clone(), Arc::clone(&peers), Arc::clone(&resolver), witness.clone())
            .map_err(|problem| RunError::Recover(problem.detail))?;
        let auditor = Arc::new(auditor);
        let every = Duration::from_secs(config.audit.every_s.into());
        let follower = Arc::new(Follower::new(Arc::clone(&auditor), tools.events.clone(), every));
        let readers = Readers::new(config.ledger.read, config.regulators()?, doorkeeper.clone(), Arc::clone(&spaces));
        let readers = Arc::new(readers);
        let dsp = dsp_server::router(Arc::new(dsp_server::Dsp {
            doorkeeper: doorkeeper.clone(),
            spaces,
            peers: Arc::clone(&peers),
            negotiations: Arc::clone(&negotiations),
            transfers: Arc::clone(&transfers),
            catalogue: Catalogue::open(identity.did.clone(), holdings.clone(), root)
                .map_err(|problem| RunError::Recover(problem.detail))?,
            metrics: metrics.clone(),
        }));
        let spool = Spool::open(&dir.join("spool"), spool_limits(&config))?;
        let pull = Pull { gate: Arc::clone(&gate) as SharedGate, engine: Arc::clone(&engine), spool };
        let data = pull_router(pull.clone());
        let public = public::router(&identity, Arc::clone(&ledger), readers, metrics.clone())
            .merge(whole::carried(dsp, config.limits.max_requests))
            .merge(whole::carried(claims.public, config.limits.max_requests))
            .merge(data.layer(tower::limit::GlobalConcurrencyLimitLayer::new(config.limits.max_requests)));
        let anchoring = Anchoring::new(
            dir,
            &config.anchors,
            (Arc::clone(&ledger), tools.evidence.clone(), Arc::clone(&peers), store.clone(), identity.did.clone()),
        )?;
        let public = if config.ledger.take_anchors {
            let (ledger, peers) = (Arc::clone(&ledger), Arc::clone(&peers));
            let desk = AnchorDesk::new(doorkeeper.clone(), tools.evidence.clone(), ledger, peers);
            public.merge(whole::carried(anchor_router(desk), config.limits.max_requests))
        } else {
            public
        };
        let public = match &witness {
            Some(witness) => {
                public.merge(whole::carried(witness_router(Arc::clone(witness)), config.limits.max_requests))
            }
            None => public,
        };
        let public =
            if config.audit.serve_mirrors { public.merge(public::mirrors(Arc::clone(&auditor))) } else { public };
        let desk = Arc::new(management::exchange::Desk {
            negotiations: Arc::clone(&negotiations),
            transfers: Arc::clone(&transfers),
            agreements: agreements.clone(),
            finder: Finder::new(Arc::clone(&peers)),
            receipts: Receipts::new(identity.did.clone(), agreements, evidence, resolver, store.clone()),
            store,
            events: tools.events.clone(),
            stopping: tools.stopping.clone(),
        });
        let hooks =
            Hooks::start(&tools, http, Arc::clone(&identity)).map_err(|problem| RunError::Recover(problem.detail))?;
        let management = management::router(management::Parts {
            config: config.clone(),
            dir: dir.to_owned(),
            identity,
            desk,
            holdings,
            ledger: Arc::clone(&ledger),
            auditor,
            follower: Arc::clone(&follower),
            promises: tools.promises.clone(),
            anchoring: Arc::clone(&anchoring),
            keeper: Arc::clone(&keeper),
            witness,
            engine: Arc::clone(&engine),
            metrics,
            claims: claims.desk,
            api_keys: ApiKeys::new(dir, read(&dir.join(MANAGEMENT_KEY_FILE))?.trim()),
            hooks,
            stopping: tools.stopping.clone(),
        });
        let tls_pem = tls_pem(dir, &config)?;
        let tls = match &tls_pem {
            Some((certificate, key)) => Some(
                RustlsConfig::from_pem(certificate.clone(), key.clone())
                    .await
                    .map_err(|error| RunError::File { path: "tls".to_owned(), reason: error.to_string() })?,
            ),
            None => None,
        };
        let ended =
            gate.end_interrupted(&pull.spool).await.map_err(|refused| RunError::Recover(refused.to_string()))?;
        if 0 < ended {
            tracing::info!(ended, "uses that the last run left open ended");
        }
        negotiations.recover().await.map_err(|problem| RunError::Recover(problem.detail))?;
        transfers.recover().await.map_err(|problem| RunError::Recover(problem.detail))?;
        if let Some(issuer) = &claims.issuer {
            issuer.recover().map_err(|problem| RunError::Recover(problem.detail))?;
            let issuer = Arc::clone(issuer);
            tools.tasks.spawn(async move { issuer.keep_up().await });
        }
        let management = management.merge(token_router(claims.tokens));
        Ok(Self {
            config,
            tools,
            public,
            management,
            gate,
            engine,
            pull,
            doorkeeper,
            twin,
            cosigning,
            follower,
            anchoring,
            tls,
            tls_pem,
            keeper,
        })
    }

    async fn serve(self) -> Result<(), RunError> {
        let public = bind("listen.public", self.config.listen.public).await?;
        let management = bind("listen.management", self.config.listen.management).await?;
        let flight = bind("listen.flight", self.config.listen.flight).await?;
        let stop = self.tools.stopping.clone();
        tracing::info!(name = %self.config.name, did = %self.tools.did, public = %self.config.public.url, "ready");
        let public = serve_http(public, self.public, self.tls, stop.clone());
        let management = serve_http(management, self.management, None, stop.clone());
        let tls = self
            .tls_pem
            .map(|(certificate, key)| ServerTlsConfig::new().identity(TlsIdentity::from_pem(certificate, key)));
        let service = FlightSql::new(Arc::clone(&self.gate) as SharedGate, self.engine);
        let flight = serve_flight(service, flight, tls, stop.clone());
        let housekeeping = housekeeping(self.doorkeeper, self.pull, self.tools.events.clone(), stop.clone());
        let mut servers = JoinSet::new();
        servers.spawn(async move { server_ended("public", public.await) });
        servers.spawn(async move { server_ended("management", management.await) });
        servers.spawn(async move { server_ended("flight", flight.await.map_err(|error| error.to_string())) });
        let twin = self.twin.run(stop.clone());
        // After what an earlier run left was completed: what is cosigned then is all that was promised.
        let cosigning = self.cosigning.run(stop.clone());
        let (keeper, stopping) = (self.keeper, stop.clone());
        let keeping = async move { keeper.keep_up(stopping).await };
        let housekeeping = tokio::spawn(async move { tokio::join!(housekeeping, twin, cosigning, keeping) });
        self.tools.tasks.spawn(self.anchoring.run(stop.clone()));
        if self.config.has(Role::Regulator) {
            self.tools.tasks.spawn(self.follower.run(stop.clone()));
        }
        // The first server that ends, by itself or because a stop was asked for, ends the others.
        let mut result = first(servers.join_next().await);
        stop.cancel();
        let rest = async {
            while let Some(ended) = servers.join_next().await {
                let ended = first(Some(ended));
                if result.is_ok() {
                    result = ended;
                }
            }
        };
        let _ = tokio::time::timeout(GRACE, rest).await;
        housekeeping.abort();
        self.tools.tasks.close();
        let _ = tokio::time::timeout(GRACE, self.tools.tasks.wait()).await;
        tracing::info!("stopped");
        result
    }
}

/// The parts that speak the Decentralized Claims Protocol.
struct Claims {
    issuer: Option<Arc<Issuer>>,
    tokens: Arc<TokenDesk>,
    public: Router,
    desk: Arc<management::claims::Desk>,
}

impl Claims {
    fn start(config: &Config, identity: &Arc<Identity>, tools: &Tools, doorkeeper: &Doorkeeper) -> Self {
        let trusted = tools.spaces.issuers().cloned().collect();
        let (store, peers) = (tools.store.clone(), Arc::clone(&tools.peers));
        let wallet = Arc::new(Wallet::new(identity.did.clone(), store.clone(), Arc::clone(&peers), trusted));
        let tokens = Arc::new(TokenDesk::new(Arc::clone(identity), store.clone()));
        let public = credential_router(Arc::new(CredentialService {
            doorkeeper: doorkeeper.clone(),
            identity: Arc::clone(identity),
            wallet: Arc::clone(&wallet),
        }));
        let public_url = config.public.url.clone();
        let issuer = config.has(Role::Issuer).then(|| {
            Issuer::new(IssuerTools {
                identity: Arc::clone(identity),
                store,
                evidence: tools.evidence.clone(),
                peers,
                tasks: tools.tasks.clone(),
                stopping: tools.stopping.clone(),
                public_url: public_url.clone(),
            })
        });
        let public = match &issuer {
            Some(issuer) => {
                let (doorkeeper, issuer) = (doorkeeper.clone(), Arc::clone(issuer));
                public.merge(issuer_router(Arc::new(IssuerService { doorkeeper, issuer, public_url })))
            }
            None => public,
        };
        let desk = management::claims::Desk { wallet, tokens: Arc::clone(&tokens), issuer: issuer.clone() };
        Self { issuer, tokens, public, desk: Arc::new(desk) }
    }
}

fn engine(dir: &Path, config: &Config) -> Result<Arc<Engine>, RunError> {
    // Made here once: queries that start together would each try to make it.
    let spill_dir = dir.join("spill");
    std::fs::create_dir_all(&spill_dir)
        .map_err(|error| RunError::File { path: spill_dir.display().to_string(), reason: error.to_string() })?;
    let limits = QueryLimits {
        compute_time: Duration::from_secs(config.limits.query_timeout_s),
        memory_bytes: usize::try_from(config.limits.query_memory_mib << 20).unwrap_or(usize::MAX),
        spill_bytes: config.limits.spool_mib << 20,
        spill_dir: Some(spill_dir),
        ..QueryLimits::default()
    };
    let engine = Engine::start(limits)?;
    for bucket in &config.buckets {
        let keys = match (&bucket.access_key_id, &bucket.secret_access_key_file) {
            (Some(id), Some(file)) => Some((id.clone(), read(&dir.join(file))?.trim().to_owned())),
            (Some(_) | None, _) => None,
        };
        engine.register_bucket(&Bucket {
            name: bucket.name.clone(),
            endpoint: bucket.endpoint()?,
            region: bucket.region.clone(),
            keys,
        })?;
    }
    Ok(engine)
}

fn spool_limits(config: &Config) -> SpoolLimits {
    let max_total_bytes = config.limits.spool_mib << 20;
    SpoolLimits {
        max_segment_bytes: max_total_bytes / 2,
        max_total_bytes,
        lifetime_ms: i64::try_from(config.limits.spool_ttl_s.saturating_mul(1000)).unwrap_or(i64::MAX),
    }
}

fn extra_roots(dir: &Path, config: &Config) -> Result<Vec<Vec<u8>>, RunError> {
    let Some(path) = config.tls.as_ref().and_then(|tls| tls.extra_roots.as_ref()) else { return Ok(Vec::new()) };
    Ok(vec![read(&dir.join(path))?.into_bytes()])
}

/// A certificate chain and its key, in PEM.
type TlsPem = (Vec<u8>, Vec<u8>);

fn tls_pem(dir: &Path, config: &Config) -> Result<Option<TlsPem>, RunError> {
    let Some(tls) = &config.tls else { return Ok(None) };
    Ok(Some((read(&dir.join(&tls.certificate))?.into_bytes(), read(&dir.join(&tls.key))?.into_bytes())))
}

fn read(path: &Path) -> Result<String, RunError> {
    std::fs::read_to_string(path)
        .map_err(|error| RunError::File { path: path.display().to_string(), reason: error.to_string() })
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|source| RunError::Listen { key, address, source })
}

async fn serve_http(
    listener: TcpListener,
    router: Router,
    tls: Option<RustlsConfig>,
    stop: CancellationToken,
) -> Result<(), String> {
    let handle = Handle::new();
    let stopper = handle.clone();
    let watch = tokio::spawn(async move {
        stop.cancelled().await;
        stopper.graceful_shutdown(Some(GRACE));
    });
    let listener = listener.into_std().map_err(|error| error.to_string())?;
    let service = router.into_make_service();
    let served = match tls {
        Some(tls) => {
            axum_server::from_tcp_rustls(listener, tls)
                .map_err(|error| error.to_string())?
                .handle(handle)
                .serve(service)
                .await
        }
        None => axum_server::from_tcp(listener).map_err(|error| error.to_string())?.handle(handle).serve(service).await,
    };
    watch.abort();
    served.map_err(|error| error.to_string())
}

fn server_ended(server: &'static str, ended: Result<(), String>) -> Result<(), RunError> {
    ended.map_err(|reason| RunError::Server { server, reason })
}

fn first(ended: Option<Result<Result<(), RunError>, JoinError>>) -> Result<(), RunError> {
    match ended {
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(RunError::Server { server: "one", reason: error.to_string() }),
        None => Ok(()),
    }
}

async fn housekeeping(doorkeeper: Doorkeeper, pull: Pull, events: Events, stop: CancellationToken) {
    let mut interval = tokio::time::interval(HOUSEKEEPING);
    loop {
        tokio::select! {
            _ = interval.tick() => {
                if let Err(error) = doorkeeper.forget_expired(clock::now()).await {
                    tracing::warn!(%error, "could not forget expired token ids");
                }
                if let Err(error) = events.log().trim().await {
                    tracing::warn!(%error, "could not forget old events");
                }
                pull.sweep().await;
            }
            () = stop.cancelled() => return,
        }
    }
}
