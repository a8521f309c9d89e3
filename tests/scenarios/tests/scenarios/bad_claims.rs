//! Callers that come with something wrong: each is refused with the status and the reason that it deserves, and one who
//! comes with nothing wrong is let in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use shuyu_base::{Did, UnixMillis};
use shuyu_credentials::status::{Bit, Purpose, StatusEntry, StatusKind, StatusList};
use shuyu_credentials::vp::{self, Draft as Presented};
use shuyu_credentials::{Profile, Relationship, gzip, jws, token, vc};
use shuyu_scenarios::pages::{Page, WebServer, key};
use shuyu_scenarios::rogue::{CONTEXT, dsp_root};
use shuyu_scenarios::{Answer, Node, Wish, clock};
use tempfile::TempDir;

const HOUR_MS: i64 = 3_600_000;
/// Further than clocks may be apart.
const APART_MS: i64 = 60_000;

/// Whoever is trusted by the space of the node; each but the first has something wrong.
const ISSUERS: [&str; 4] = ["issuer", "issuer-not-asserting", "issuer-of-another-id", "issuer-moved"];

/// A caller and all it comes with. Every field starts as a good caller has it.
struct Caller<'a> {
    web: &'a WebServer,
    name: String,
    /// Uses that its document gives its key.
    uses: Vec<Relationship>,
    /// Its document, if it is not as expected.
    document: Option<Page>,
    audience: Did,
    /// Who signs the presentation, and under which name.
    presenter: (String, String),
    presented_ms: i64,
    issuer: String,
    /// Who signs the credential, and under which name.
    signer: (String, String),
    subject: Did,
    from_ms: i64,
    until_ms: i64,
    status: Option<StatusEntry>,
    /// Changes what the credential says before it is signed.
    change: Box<dyn Fn(&mut Value)>,
    /// Changes the token after it was signed.
    token: Box<dyn Fn(String) -> String>,
    token_by: (String, String),
}

impl<'a> Caller<'a> {
    fn new(web: &'a WebServer, name: &str, node: &Node) -> Self {
        Self {
            web,
            name: name.to_owned(),
            uses: Relationship::ALL.to_vec(),
            document: None,
            audience: node.did.parse().expect("a DID"),
            presenter: (name.to_owned(), web.kid(name)),
            presented_ms: 0,
            issuer: "issuer".to_owned(),
            signer: ("issuer".to_owned(), web.kid("issuer")),
            subject: web.did(name),
            from_ms: -HOUR_MS,
            until_ms: HOUR_MS,
            status: None,
            change: Box::new(|_| {}),
            token: Box::new(|token| token),
            token_by: (name.to_owned(), web.kid(name)),
        }
    }

    fn issued_by(&mut self, issuer: &str) {
        self.issuer = issuer.to_owned();
        self.signer = (issuer.to_owned(), self.web.kid(issuer));
    }

    /// Points the status to a list of its own, at this index.
    fn listed(&mut self, index: u32) -> String {
        let path = format!("/{}/list", self.name);
        let list = self.web.url(&path).parse().expect("an address");
        self.status = Some(StatusEntry { kind: StatusKind::Bitstring, purpose: Purpose::Revocation, index, list });
        path
    }

    fn credential(&self) -> String {
        let now = clock::now();
        let types = ["MembershipCredential".parse().expect("a type")];
        let draft = vc::Draft {
            profile: Profile::Vc20,
            id: "urn:uuid:1",
            types: &types,
            issuer: &self.web.did(&self.issuer),
            subject: self.subject.as_str(),
            claims: Map::new(),
            valid_from: now.plus_millis(self.from_ms),
            valid_until: now.plus_millis(self.until_ms),
            status: self.status.as_slice(),
        };
        let plain = jws::peek(&vc::issue(&key(&self.issuer), &self.web.kid(&self.issuer), &draft)).expect("a JWT");
        let mut payload: Value = serde_json::from_slice(&plain.payload).expect("JSON");
        (self.change)(&mut payload);
        jws::sign(&key(&self.signer.0), &self.signer.1, "vc+jwt", payload.to_string().as_bytes())
    }

    /// Comes to the node and asks for its catalogue.
    async fn comes(&self, node: &Node) -> Answer {
        let now = clock::now();
        match &self.document {
            Some(page) => self.web.put(&format!("/{}/did.json", self.name), page.clone()),
            None => self.web.put_document(&self.name, &self.uses),
        }
        let own = self.web.did(&self.name);
        let presented = Presented {
            profile: Profile::Vc20,
            holder: &own,
            audience: &self.audience,
            jti: "1",
            now: now.plus_millis(self.presented_ms),
            lifetime_ms: 120_000,
        };
        let vp = vp::present(&key(&self.presenter.0), &self.presenter.1, &presented, &[&self.credential()]);
        let answer = json!({
            "@context": ["https://w3id.org/dspace-dcp/v1.0/dcp.jsonld"], "type": "PresentationResponseMessage",
            "presentation": [vp],
        });
        self.web.put_body(&format!("/{}/cs/presentations/query", self.name), answer.to_string());
        let audience: Did = node.did.parse().expect("a DID");
        let draft = token::Draft {
            issuer: &own,
            audience: &audience,
            jti: &self.name,
            now,
            lifetime_ms: 120_000,
            extra: [("token".to_owned(), "a".into())].into_iter().collect(),
        };
        let good = token::issue(&key(&self.name), &self.web.kid(&self.name), &draft).expect("a token");
        let payload = jws::peek(&good).expect("a JWT").payload;
        let signed = jws::sign(&key(&self.token_by.0), &self.token_by.1, "JWT", &payload);
        let message = json!({ "@context": [CONTEXT], "@type": "CatalogRequestMessage", "filter": [] });
        let request = shuyu_scenarios::node::http().post(format!("{}/catalog/request", dsp_root(node)));
        Answer::of(request.bearer_auth((self.token)(signed)).json(&message)).await
    }
}

/// A web, and a node that trusts some of its participants.
async fn world() -> (TempDir, WebServer, Node) {
    let dir = TempDir::new().expect("a directory can be made");
    let web = WebServer::start().await;
    let node = Node::init(Wish { dir: dir.path().join("holder"), role: "holder", plan: None }).await;
    let path = node.dir.join("shuyu.toml");
    let config = std::fs::read_to_string(&path).expect("a node has a configuration");
    let issuers: Vec<String> = ISSUERS.iter().map(|name| format!("'{}'", web.did(name))).collect();
    let space = format!(
        "{config}\n[[spaces]]\nname = 'City'\n[[spaces.require]]\ntype = 'MembershipCredential'\nissuers = [{}]\n",
        issuers.join(", ")
    );
    std::fs::write(&path, space).expect("the configuration can be written");
    node.spawn();
    node.ready().await;
    web.put_document("issuer", &Relationship::ALL);
    web.put_document("issuer-not-asserting", &[Relationship::Authentication, Relationship::CapabilityInvocation]);
    let other = web.document("issuer", &Relationship::ALL).to_json().to_string();
    web.put_body("/issuer-of-another-id/did.json", other);
    web.put("/issuer-moved/did.json", Page::Moved(web.url("/issuer/did.json")));
    web.put_document("thief", &Relationship::ALL);
    (dir, web, node)
}

fn list_of(
    web: &WebServer,
    issuer: &str,
    path: &str,
    until_ms: i64,
    change: impl Fn(&mut Map<String, Value>),
) -> String {
    let mut list = StatusList::new(StatusKind::Bitstring, Purpose::Revocation, 0);
    list.set(9, Bit::Set).expect("the list is long enough");
    let mut claims = list.to_json();
    change(&mut claims);
    let types = ["BitstringStatusListCredential".parse().expect("a type")];
    let (url, now): (String, UnixMillis) = (web.url(path), clock::now());
    let draft = vc::Draft {
        profile: Profile::Vc20,
        id: &url,
        types: &types,
        issuer: &web.did(issuer),
        subject: &format!("{url}#list"),
        claims,
        valid_from: now.plus_millis(-HOUR_MS),
        valid_until: now.plus_millis(until_ms),
        status: &[],
    };
    vc::issue(&key(issuer), &web.kid(issuer), &draft)
}

/// The same token with another header.
fn with_header(token: &str, change: impl Fn(&mut Value)) -> String {
    let (header, rest) = token.split_once('.').expect("a JWT has parts");
    let bytes = URL_SAFE_NO_PAD.decode(header).expect("base64url");
    let mut header: Value = serde_json::from_slice(&bytes).expect("JSON");
    change(&mut header);
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}

type Change = fn(&mut Caller<'_>);

async fn check(cases: &[(&str, u16, &str, Change)]) {
    let (_dir, web, node) = world().await;
    let good = Caller::new(&web, "good", &node).comes(&node).await;
    assert_eq!(good.status, 200, "{}", good.text);
    for (name, status, said, change) in cases {
        let mut caller = Caller::new(&web, name, &node);
        change(&mut caller);
        let answer = caller.comes(&node).await;
        assert_eq!(answer.status, *status, "{name}: {}", answer.text);
        assert_eq!(answer.body["@type"], "CatalogError", "{name}: {}", answer.text);
        let reason = answer.body["reason"][0].as_str().unwrap_or_default();
        assert!(reason.contains(said), "{name}: {reason}");
    }
    let good = Caller::new(&web, "good-again", &node).comes(&node).await;
    assert_eq!(good.status, 200, "{}", good.text);
}

/// Tokens: who is calling (DCP 1.0, section 4.3.3).
#[tokio::test]
async fn callers_that_cannot_prove_who_they_are() {
    check(&[
        ("alg-none", 401, "algorithm", |caller| {
            caller.token = Box::new(|token| with_header(&token, |header| header["alg"] = "none".into()));
        }),
        ("alg-hmac", 401, "algorithm", |caller| {
            caller.token = Box::new(|token| with_header(&token, |header| header["alg"] = "HS256".into()));
        }),
        ("alg-of-another-key", 401, "names algorithm", |caller| {
            caller.token = Box::new(|token| with_header(&token, |header| header["alg"] = "ES256".into()));
        }),
        ("embedded-key", 401, "`jwk` is not accepted", |caller| {
            caller.token = Box::new(|token| with_header(&token, |header| header["jwk"] = json!({ "kty": "OKP" })));
        }),
        ("wrong-relationship", 401, "does not hold `capabilityInvocation`", |caller| {
            caller.uses = vec![Relationship::Authentication, Relationship::AssertionMethod];
        }),
        ("kid-of-another", 401, "`kid` does not name the issuer", |caller| {
            caller.token_by = ("thief".to_owned(), caller.web.kid("thief"));
        }),
        ("key-of-another", 401, "signature does not hold", |caller| "thief".clone_into(&mut caller.token_by.0)),
        ("document-of-another", 401, "is not acceptable", |caller| {
            let other = caller.web.document("thief", &Relationship::ALL).to_json().to_string();
            caller.document = Some(Page::Body(other.into_bytes()));
        }),
        ("large-document", 401, "could not be fetched", |caller| {
            let mut document = caller.web.document("large-document", &Relationship::ALL).to_json().to_string();
            document.push_str(&" ".repeat(10 << 20));
            caller.document = Some(Page::Body(document.into_bytes()));
        }),
        ("moved-document", 401, "could not be fetched", |caller| {
            caller.document = Some(Page::Moved("https://elsewhere.example/did.json".to_owned()));
        }),
    ])
    .await;
}

/// Presentations (section 5.4.3): whoever calls presents, to this node, now.
#[tokio::test]
async fn presentations_of_others_elsewhere_and_at_other_times() {
    check(&[
        ("replayed-at-a-second-node", 403, "presentation is for another audience", |caller| {
            caller.audience = "did:web:first.example".parse().expect("a DID");
        }),
        ("presented-by-another", 403, "presentation is not an acceptable jws", |caller| {
            caller.presenter = ("thief".to_owned(), caller.web.kid("thief"));
        }),
        ("presented-too-long-ago", 403, "presentation expired", |caller| caller.presented_ms = -HOUR_MS),
        ("presented-tomorrow", 403, "presentation is not valid before", |caller| caller.presented_ms = HOUR_MS),
        ("not-authenticating", 403, "does not hold `authentication`", |caller| {
            caller.uses = vec![Relationship::AssertionMethod, Relationship::CapabilityInvocation];
        }),
    ])
    .await;
}

/// Credentials: about the holder, of a trusted issuer, under its own key, valid now.
#[tokio::test]
async fn credentials_that_do_not_count() {
    check(&[
        ("of-another-subject", 403, "is about `did:web:", |caller| caller.subject = caller.web.did("thief")),
        ("expired", 403, "credential expired", |caller| caller.until_ms = -APART_MS),
        ("not-yet-valid", 403, "credential is not valid before", |caller| caller.from_ms = APART_MS),
        ("of-an-untrusted-issuer", 403, "no valid `MembershipCredential` of a trusted issuer", |caller| {
            caller.issued_by("thief");
        }),
        ("under-another-key", 403, "not an acceptable jws", |caller| {
            caller.signer = ("thief".to_owned(), caller.web.kid("thief"));
        }),
        ("issuer-key-not-asserting", 403, "does not hold `assertionMethod`", |caller| {
            caller.issued_by("issuer-not-asserting");
        }),
        ("by-an-issuer-of-another-id", 403, "cannot be had", |caller| caller.issued_by("issuer-of-another-id")),
        ("by-an-issuer-that-moved", 403, "cannot be had", |caller| caller.issued_by("issuer-moved")),
        ("schema-broken", 403, "does not follow its schema", |caller| {
            schema(caller, json!({ "required": ["role"] }).to_string());
        }),
        ("schema-of-too-many-parts", 403, "does not follow its schema", |caller| {
            schema(caller, json!({ "allOf": vec![json!({}); 5000] }).to_string());
        }),
        ("schema-too-deep", 403, "does not follow its schema", |caller| schema(caller, "[".repeat(60_000))),
        ("schema-elsewhere", 403, "does not follow its schema", |caller| {
            schema(caller, json!({ "$ref": "http://169.254.169.254/schema" }).to_string());
        }),
        ("schema-large", 403, "cannot be had", |caller| schema(caller, " ".repeat(10 << 20))),
    ])
    .await;
}

/// Serves this as the schema of the caller's credential.
fn schema(caller: &mut Caller<'_>, text: String) {
    let path = format!("/{}/schema", caller.name);
    caller.web.put_body(&path, text);
    let url = caller.web.url(&path);
    caller.change = Box::new(move |payload| payload["credentialSchema"] = json!({ "id": url, "type": "JsonSchema" }));
}

/// Status lists: whole, of the issuer, valid now, and from nowhere that we would not go.
#[tokio::test]
async fn status_that_cannot_be_believed() {
    check(&[
        ("revoked", 403, "has status `revocation`", |caller| {
            let path = caller.listed(9);
            let list = list_of(caller.web, "issuer", &path, HOUR_MS, |_| {});
            caller.web.put_body(&path, list);
        }),
        ("outside-the-list", 403, "cannot be known", |caller| {
            let path = caller.listed(1 << 30);
            let list = list_of(caller.web, "issuer", &path, HOUR_MS, |_| {});
            caller.web.put_body(&path, list);
        }),
        ("list-bomb", 403, "cannot be known", |caller| {
            let path = caller.listed(8);
            let bomb = format!("u{}", URL_SAFE_NO_PAD.encode(gzip::gzip(&vec![0; 64 << 20])));
            let list = list_of(caller.web, "issuer", &path, HOUR_MS, |list| {
                drop(list.insert("encodedList".to_owned(), bomb.clone().into()));
            });
            caller.web.put_body(&path, list);
        }),
        ("list-of-another", 403, "is not acceptable", |caller| {
            let path = caller.listed(8);
            let list = list_of(caller.web, "thief", &path, HOUR_MS, |_| {});
            caller.web.put_body(&path, list);
        }),
        ("list-of-another-trusted-issuer", 403, "is not acceptable", |caller| {
            let path = caller.listed(8);
            let list = list_of(caller.web, "issuer-not-asserting", &path, HOUR_MS, |_| {});
            caller.web.put_body(&path, list);
        }),
        ("list-outdated", 403, "it is not valid now", |caller| {
            let path = caller.listed(8);
            let list = list_of(caller.web, "issuer", &path, -APART_MS, |_| {});
            caller.web.put_body(&path, list);
        }),
        ("list-unsigned", 403, "is not acceptable", |caller| {
            let path = caller.listed(8);
            caller.web.put_body(&path, json!({ "credentialSubject": {} }).to_string());
        }),
        ("list-large", 403, "cannot be had", |caller| {
            let path = caller.listed(8);
            caller.web.put_body(&path, "x".repeat(10 << 20));
        }),
        ("list-moved", 403, "cannot be had", |caller| {
            let path = caller.listed(8);
            caller.web.put(&path, Page::Moved("https://elsewhere.example/list".to_owned()));
        }),
        ("list-inside", 403, "cannot be had", |caller| {
            caller.listed(8);
            let inside = "http://169.254.169.254/list".parse().expect("an address");
            caller.status = caller.status.take().map(|entry| StatusEntry { list: inside, ..entry });
        }),
    ])
    .await;
}
