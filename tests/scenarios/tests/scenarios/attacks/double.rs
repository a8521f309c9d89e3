//! A hostile node: it has the keys, the ledger and the address of a real one, and says what a test wants.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use shuyu_base::{Did, Digest, HashKind, PublicKey, SecretKey, UnixMillis};
use shuyu_evidence::{Act, Statement};
use shuyu_scenarios::node::http;
use shuyu_scenarios::{Answer, Node, clock};
use shuyu_tlog::tile::{TiledTree, tile_bytes};
use shuyu_tlog::{
    Checkpoint, Hash, Note, NoteSigner, Promise, SignedCheckpoint, Tile, TilePath, Vkey, WitnessSigner, leaf_hash,
    read_bundle, tiles_of, write_bundle,
};

const KIND: HashKind = HashKind::Sha256;

type Pages = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// The node in another's hands; its server is stopped when dropped.
pub struct Double {
    pub did: Did,
    /// The entries of its log, to be changed at will.
    pub entries: Vec<Vec<u8>>,
    key: SecretKey,
    kid: String,
    log: NoteSigner,
    pages: Pages,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Double {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Now, in seconds.
pub fn now_s() -> u64 {
    u64::try_from(clock::now().unix_seconds()).expect("after 1970")
}

/// A key of the node's directory.
pub fn secret(dir: &Path, file: &str) -> SecretKey {
    let read = |file: &str| std::fs::read_to_string(dir.join("keys").join(file)).expect("init makes keys");
    SecretKey::from_encrypted_pem(&read(file), read("node.pass").trim_end().as_bytes()).expect("its passphrase")
}

/// The note with the cosignatures of these witnesses.
pub fn cosign(note: &[u8], by: &[WitnessSigner], time_s: u64) -> Vec<u8> {
    let note = Note::parse(note).expect("a note");
    let lines: Vec<_> = by.iter().map(|one| one.cosign(&note, time_s).expect("a checkpoint")).collect();
    note.with_signatures(lines).expect("room for them").to_string().into_bytes()
}

async fn fetch(node: &Node, path: &str) -> Vec<u8> {
    let answer = Answer::of(http().get(format!("{}{path}", node.public))).await;
    assert!(answer.is_ok(), "{path}: {}", answer.text);
    answer.text.into_bytes()
}

/// The entries that a node has published.
fn published(dir: &Path) -> Vec<Vec<u8>> {
    let tlog = dir.join("ledger/tlog");
    let note = Note::parse(&std::fs::read(tlog.join("checkpoint")).expect("a checkpoint")).expect("a note");
    let head: Checkpoint = note.text().parse().expect("of a checkpoint");
    let bundles = tiles_of(head.size).into_iter().filter(|path| path.tile() == Tile::Entries);
    let read = |path: TilePath| {
        let bytes = std::fs::read(tlog.join(path.to_string())).expect("a bundle");
        let entries = read_bundle(&bytes, path.width()).expect("as wide as its name says");
        entries.into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    bundles.flat_map(read).collect()
}

impl Double {
    /// Takes the place of a node, which dies.
    pub async fn of(node: &Node) -> Self {
        let document = fetch(node, "/.well-known/did.json").await;
        let vkey = fetch(node, "/ledger/vkey").await;
        node.kill();
        let name: Vkey = String::from_utf8_lossy(&vkey).trim().parse().expect("a key");
        let log = NoteSigner::new(name.name(), Arc::new(secret(&node.dir, "ledger.pem"))).expect("a name");
        let pages = Pages::default();
        let server = serve(&node.public, Arc::clone(&pages)).await;
        let double = Self {
            did: node.did.parse().expect("a DID"),
            entries: published(&node.dir),
            key: secret(&node.dir, "node.pem"),
            kid: format!("{}#key-1", node.did),
            log,
            pages,
            server,
        };
        double.put("/.well-known/did.json", document);
        double.put("/ledger/vkey", vkey);
        double.publish();
        double
    }

    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), bytes);
    }

    /// The key of its statements: some Ed25519 key that signs no head.
    pub fn public_key(&self) -> PublicKey {
        self.key.public().clone()
    }

    pub fn size(&self) -> usize {
        self.entries.len()
    }

    /// An entry of its own at this time; its place.
    pub fn says(&mut self, at_s: u64, kind: &str, act: Act, event: Digest) -> usize {
        let statement = Statement {
            kind: kind.to_owned(),
            act,
            process: format!("urn:uuid:{}", uuid::Uuid::new_v4()),
            seq: 1,
            by: self.did.clone(),
            with: self.did.clone(),
            at: UnixMillis::from_unix_seconds(i64::try_from(at_s).expect("a time")),
            event,
            agreement: None,
            commit: BTreeMap::new(),
        };
        self.entries.push(shuyu_evidence::sign(&statement, &self.key, &self.kid).expect("within bounds"));
        self.entries.len() - 1
    }

    /// An ordinary entry.
    pub fn records(&mut self, at_s: u64) -> usize {
        let event = Digest::sha256(uuid::Uuid::new_v4().as_bytes());
        self.says(at_s, "offer.published", Act::Published, event)
    }

    fn tree(&self, size: usize) -> (Hash, BTreeMap<TilePath, Vec<u8>>) {
        let mut tree = TiledTree::new(KIND);
        let mut files = BTreeMap::new();
        for entry in &self.entries[..size] {
            tree.push(leaf_hash(KIND, entry), |path, hashes| drop(files.insert(path, tile_bytes(hashes))));
        }
        files.extend(tree.partial_tiles().map(|(path, hashes)| (path, tile_bytes(hashes))));
        (tree.tree().root(), files)
    }

    /// A signed head over its first entries.
    pub fn head(&self, size: usize) -> Vec<u8> {
        self.head_with(size, self.tree(size).0)
    }

    /// A signed head with any root.
    pub fn head_with(&self, size: usize, root: Hash) -> Vec<u8> {
        SignedCheckpoint::sign(&self.log, size as u64, root).expect("a name").bytes().to_vec()
    }

    /// A promise to take `entry` as its next one.
    pub fn promise(&self, entry: &[u8], deadline_s: u64) -> Vec<u8> {
        let index = self.entries.len() as u64;
        let signed = Promise::sign(&self.log, index, &[leaf_hash(KIND, entry)], deadline_s).expect("a promise");
        signed.proof(index).expect("of its entry").to_string().into_bytes()
    }

    /// Serves all its entries under a true head.
    pub fn publish(&self) {
        self.serves(&self.head(self.size()), &self.entries.clone());
    }

    /// Serves these entries under this head, with the tiles of what it has.
    pub fn serves(&self, head: &[u8], entries: &[Vec<u8>]) {
        for (path, bytes) in self.tree(self.size()).1 {
            self.put(&format!("/ledger/{path}"), bytes);
        }
        for path in tiles_of(entries.len() as u64).into_iter().filter(|path| path.tile() == Tile::Entries) {
            let from = usize::try_from(path.index()).expect("small") * 256;
            let part = &entries[from..from + usize::from(path.width())];
            let bytes = write_bundle(part.iter().map(Vec::as_slice)).expect("small entries");
            self.put(&format!("/ledger/{path}"), bytes);
        }
        self.put("/ledger/checkpoint", head.to_vec());
    }
}

/// A web server at the address that the node had.
async fn serve(public: &str, pages: Pages) -> tokio::task::JoinHandle<()> {
    let port = public.rsplit(':').next().expect("an address has a port");
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.expect("the node is gone");
    let router = Router::new().fallback(move |uri: Uri| {
        let page = pages.lock().unwrap_or_else(PoisonError::into_inner).get(uri.path()).cloned();
        std::future::ready(page.map_or_else(|| StatusCode::NOT_FOUND.into_response(), IntoResponse::into_response))
    });
    tokio::spawn(async move {
        let _ = axum::serve(listener, router).await;
    })
}
