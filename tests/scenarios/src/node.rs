//! A node as a process: made by `shuyu init`, run by `shuyu run`, asked over its management API.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;

use crate::effects::KillPlan;

/// Longest time until a node answers, and until two nodes agree.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often a state is looked at while we wait for it.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks again and again until `look` gives something.
///
/// # Panics
/// After [`PATIENCE`], naming `what` did not come.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
    }
}

/// The command under test.
///
/// # Panics
/// When it is not built, saying how to build it.
pub fn shuyu() -> PathBuf {
    if let Some(path) = std::env::var_os("SHUYU_BIN") {
        return path.into();
    }
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.join("shuyu")));
    beside
        .filter(|path| path.is_file())
        .unwrap_or_else(|| panic!("no command `shuyu`: run `./x build`, or set SHUYU_BIN"))
}

/// An HTTP client without proxies and redirects.
pub fn http() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
        .expect("an HTTP client can be made")
}

/// What a request came to.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status; 0 when there was no answer at all.
    pub status: u16,
    /// The body as text.
    pub text: String,
    /// The body as JSON, null if it is none.
    pub body: Value,
}

impl Answer {
    /// Sends a request; no answer is an answer with status 0.
    pub async fn of(request: reqwest::RequestBuilder) -> Self {
        let no_answer = |error: reqwest::Error| Self { status: 0, text: format!("{error:?}"), body: Value::Null };
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return no_answer(error),
        };
        let status = response.status().as_u16();
        match response.text().await {
            Ok(text) => Self { status, body: serde_json::from_str(&text).unwrap_or(Value::Null), text },
            Err(error) => no_answer(error),
        }
    }

    /// Whether it is a success.
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body of a success.
    ///
    /// # Panics
    /// If it is none.
    #[track_caller]
    pub fn expect_ok(self) -> Value {
        assert!(self.is_ok(), "answered {}: {}", self.status, self.text);
        self.body
    }

    /// The body of exactly this status.
    ///
    /// # Panics
    /// If it is another.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body
    }
}

/// What a command came to.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; -1 after a signal.
    pub code: i32,
    /// stdout.
    pub out: String,
    /// stderr.
    pub err: String,
}

/// Runs `shuyu` with these arguments.
pub async fn run(arguments: &[&str]) -> Ran {
    let output = tokio::process::Command::new(shuyu())
        .args(arguments)
        .env_remove("SHUYU_DIR")
        .stdin(Stdio::null())
        .output()
        .await
        .expect("shuyu can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

/// A node to be made.
pub struct Wish<'a> {
    /// Its directory, not there yet.
    pub dir: PathBuf,
    /// `holder`, `consumer` or `regulator`.
    pub role: &'a str,
    /// For nodes that shall be killed at an effect.
    pub plan: Option<Arc<KillPlan>>,
}

/// Certificate files of nodes at `localhost`, in PEM.
pub struct Certificates {
    /// The certificate and what leads to its root.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The root that peers must trust.
    pub root: PathBuf,
}

/// A node; killed when dropped, and its log is shown if the test failed.
pub struct Node {
    /// Its directory.
    pub dir: PathBuf,
    /// Its DID.
    pub did: String,
    /// Root of the public socket.
    pub public: String,
    /// Root of the management API.
    pub management: String,
    key: String,
    http: reqwest::Client,
    plan: Option<Arc<KillPlan>>,
    child: Mutex<Option<Child>>,
}

impl Node {
    /// Makes and starts a node on free ports and waits until it is ready.
    pub async fn start(wish: Wish<'_>) -> Self {
        let node = Self::init(wish).await;
        node.spawn();
        node.ready().await;
        node
    }

    /// Makes a node directory.
    pub async fn init(wish: Wish<'_>) -> Self {
        Self::init_as(wish, None).await
    }

    /// Makes a node directory; with certificates for TLS on every public socket, and as strict as in production but for
    /// the loopback network, where peers may be.
    pub async fn init_as(wish: Wish<'_>, tls: Option<&Certificates>) -> Self {
        let [public, management, flight] = [free_port(), free_port(), free_port()];
        let did = format!("did:web:localhost%3A{public}");
        let address = |port: u16| format!("127.0.0.1:{port}");
        let dir = wish.dir.display().to_string();
        let files = tls.map(|tls| [&tls.chain, &tls.key, &tls.root].map(|path| path.display().to_string()));
        let security = match &files {
            None => vec!["--insecure-loopback"],
            Some([chain, key, root]) => {
                vec!["--tls-certificate", chain, "--tls-key", key, "--tls-extra-roots", root]
            }
        };
        let arguments = [
            "init",
            &dir,
            "--name",
            wish.role,
            "--did",
            &did,
            "--role",
            wish.role,
            "--listen",
            &address(public),
            "--management",
            &address(management),
            "--flight",
            &address(flight),
        ];
        let ran = run(&[&arguments[..], &security].concat()).await;
        assert_eq!(ran.code, 0, "shuyu init: {}", ran.err);
        if tls.is_some() {
            let file = wish.dir.join("shuyu.toml");
            let made = std::fs::read_to_string(&file).expect("init makes a configuration");
            std::fs::write(&file, format!("allow-networks = [\"127.0.0.0/8\"]\n{made}")).expect("it can be changed");
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        let key = std::fs::read_to_string(wish.dir.join("management.key")).expect("init makes a key").trim().to_owned();
        Self {
            dir: wish.dir,
            did,
            public: format!("{scheme}://localhost:{public}"),
            management: format!("http://127.0.0.1:{management}"),
            key,
            http: http(),
            plan: wish.plan,
            child: Mutex::new(None),
        }
    }

    /// Makes and starts a node that takes and tells data flows.
    pub async fn start_signaling(wish: Wish<'_>) -> Self {
        let file = wish.dir.join("shuyu.toml");
        let node = Self::init(wish).await;
        let made = std::fs::read_to_string(&file).expect("init makes a configuration");
        let off = "signaling = false";
        assert!(made.contains(off), "it is off unless it is wanted: {made}");
        std::fs::write(&file, made.replace(off, "signaling = true")).expect("it can be changed");
        node.spawn();
        node.ready().await;
        node
    }

    /// Starts the process without waiting for it.
    pub fn spawn(&self) {
        let log = File::options().create(true).append(true).open(self.log_path()).expect("log can be written");
        let mut command = Command::new(shuyu());
        command.arg("run").arg("--dir").arg(&self.dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        if let Some(plan) = &self.plan {
            command.envs(plan.environment());
        }
        *self.child() = Some(command.spawn().expect("shuyu can be started"));
    }

    /// Waits until the node answers.
    pub async fn ready(&self) {
        eventually(&format!("{} is ready", self.dir.display()), || async {
            assert!(!self.is_down(), "the node ended:\n{}", self.log());
            self.get("status").await.is_ok().then_some(())
        })
        .await;
    }

    /// kill -9, and waits until the process is gone.
    pub fn kill(&self) {
        if let Some(mut child) = self.child().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// kill -9 and start again.
    pub async fn restart(&self) {
        self.kill();
        self.spawn();
        self.ready().await;
    }

    /// Whether the process has ended by itself or by a plan.
    pub fn is_down(&self) -> bool {
        self.child().as_mut().is_none_or(|child| child.try_wait().is_ok_and(|status| status.is_some()))
    }

    /// `GET /v1/{path}`.
    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None).await
    }

    /// `POST /v1/{path}`.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask(Method::POST, path, Some(body)).await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let mut request = self.http.request(method, format!("{}/v1/{path}", self.management)).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(body);
        }
        Answer::of(request).await
    }

    /// Runs `shuyu --dir DIR …`.
    pub async fn cli(&self, arguments: &[&str]) -> Ran {
        let dir = self.dir.display().to_string();
        run(&[&["--dir", &dir], arguments].concat()).await
    }

    /// Runs `shuyu --dir DIR …`, which must succeed; its stdout.
    #[track_caller]
    pub fn cli_ok<'a>(&'a self, arguments: &'a [&'a str]) -> impl Future<Output = String> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let ran = self.cli(arguments).await;
            assert_eq!(ran.code, 0, "{caller}: shuyu {arguments:?}: {}", ran.err);
            ran.out
        }
    }

    /// All items of a listing that fits one page.
    pub async fn items(&self, path: &str) -> Vec<Value> {
        let answer = self.get(&format!("{path}?limit=1000")).await;
        answer.body["items"].as_array().cloned().unwrap_or_default()
    }

    /// Every statement in the node's ledger, in order.
    pub async fn statements(&self) -> Vec<Value> {
        let mut statements = Vec::new();
        loop {
            let page = self.get(&format!("ledger/entries?from={}&limit=1000", statements.len())).await.expect_ok();
            let items = page["items"].as_array().expect("a listing").clone();
            let is_last = items.is_empty() || page["next"].is_null();
            statements.extend(items.into_iter().map(|item| item["statement"].clone()));
            if is_last {
                return statements;
            }
        }
    }

    /// The process id, while there is a process.
    pub fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// What the node logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        let name = self.dir.file_name().expect("a directory has a name").to_string_lossy().into_owned();
        self.dir.parent().unwrap_or(Path::new(".")).join(format!("{name}.log"))
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the last lines of {}", self.log_path().display());
            lines.iter().skip(lines.len().saturating_sub(15)).for_each(|line| eprintln!("{line}"));
        }
    }
}

/// A free port below the range from which the system takes ports for outgoing connections, so that a node can be
/// restarted on it; each is given once a process.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 900).unwrap_or(0) * 20;
    loop {
        let port = 11_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
