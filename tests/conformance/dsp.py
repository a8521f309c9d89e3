"""The compatibility kit of the Dataspace Protocol (org.eclipse.dataspacetck.dsp) against a real node process.

    dsp.py [--keep] [--classpath JARS]

The kit plays the other party. Between it and the node stands this controller, for three reasons:

- Identity. The kit sends no token, and calls itself by a plain word. The node believes nobody without a self-issued
  token and knows participants by DID; other connectors take the kit's test with identity switched off, here the door
  stays shut. So the node's public address is a gateway of this controller (like the one that ends TLS in production),
  which adds a token of the controller's own DID to every request. In both directions the kit's word stands for that
  DID and the DID for the word. Nothing else of a message is changed.
- Reach. For messages of the node as a consumer, the controller's DID document leads to a root of the controller, from
  where they go to the kit. What the kit names as `callbackAddress`, the node calls directly.
- Behaviour. The kit expects a certain behaviour for each dataset and agreement, as its test plan says. The node offers
  everything with `each-step`: whoever owns it says every word. The controller is that owner, told of every event by the
  node's event stream and acting through the management API, with no means that another owner would not have.

The agreements that the kit's transfers are about are negotiated beforehand, by this controller as a DSP peer.

--keep       leave the logs in their directory
--classpath  a kit built elsewhere instead of the one that Maven gets
"""

import argparse
import base64
import collections
import http.client
import http.server
import json
import signal
import sys
import threading
import time
import traceback
import urllib.parse
import urllib.request
import uuid

import kit
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

# In order of preference. Between them the kit's modules were moved and its libraries renewed; the tests are the same.
COMMON = "org.eclipse.dataspacetck"
RELEASES = [
    kit.Release("1.0.1", {"runtime.group": f"{COMMON}.common", "runtime": "1.0.0", "okhttp": "5.4.0"}, 65),
    kit.Release("1.0.0-RC6", {"runtime.group": f"{COMMON}.dsp", "runtime": "1.0.0-RC6", "okhttp": "5.3.0"}, 65),
]
PACKAGE = "org.eclipse.dataspacetck.dsp.verification"
LAUNCHER = "org.eclipse.dataspacetck.dsp.system.DspSystemLauncher"
# What the kit calls itself.
PARTICIPANT = "TCK_PARTICIPANT"
CONTEXT = "https://w3id.org/dspace/2025/1/context.jsonld"
WEATHER = kit.HERE.parents[1] / "examples/data/seattle-weather.csv"
# The kit takes a message only once the step before has returned on its side, which nothing tells us: a person at the
# management API would take longer. What comes too early is answered 404, and the node sends it again.
PACE_S = 0.2

# What the kit expects of a provider, by test: the state we wait for and what we say then.
OFFERS = [("REQUESTED", "offer")]
AS_PROVIDER = {
    "0101": OFFERS,
    "0102": [*OFFERS, ("REQUESTED", "refuse")],
    "0103": [*OFFERS, ("ACCEPTED", "approve"), ("VERIFIED", "approve")],
    "0104": [("REQUESTED", "approve"), ("VERIFIED", "approve")],
    "0201": [("REQUESTED", "refuse")],
    "0202": [],
    "0203": [("REQUESTED", "approve")],
    "0204": OFFERS,
    "0205": [*OFFERS, ("OFFERED", "refuse")],
    "0206": [*OFFERS, ("ACCEPTED", "refuse")],
    "0207": [("REQUESTED", "approve"), ("VERIFIED", "refuse")],
    "0301": [("REQUESTED", "approve"), ("VERIFIED", "approve")],
    "0302": OFFERS,
    "0303": OFFERS,
    "0304": OFFERS,
}
# What it expects of a consumer after the request.
AS_CONSUMER = {
    "0101": [("OFFERED", "approve"), ("AGREED", "approve")],
    "0102": [("OFFERED", "offer")],
    "0103": [("OFFERED", "refuse")],
    "0104": [("AGREED", "approve")],
    "0201": [],
    "0202": [("REQUESTED", "refuse")],
    "0203": [("AGREED", "refuse")],
    "0204": [],
    "0205": [("OFFERED", "approve")],
    "0206": [("AGREED", "approve")],
    "0301": [],
    "0302": [],
    "0303": [],
    "0304": [("OFFERED", "approve")],
    "0305": [("OFFERED", "approve")],
    "0306": [("OFFERED", "approve")],
}
STARTS = [("REQUESTED", "start")]
TRANSFERS_AS_PROVIDER = {
    "0101": [*STARTS, ("STARTED", "terminate")],
    "0102": [*STARTS, ("STARTED", "complete")],
    "0103": [*STARTS, ("STARTED", "suspend"), ("SUSPENDED", "terminate")],
    "0104": [*STARTS, ("STARTED", "suspend"), ("SUSPENDED", "resume"), ("STARTED", "complete")],
    "0105": [("REQUESTED", "terminate")],
    **{test: STARTS for test in ("0201", "0202", "0203", "0204", "0303", "0304", "0305", "0306")},
    **{test: [] for test in ("0205", "0301", "0302")},
}
TRANSFERS_AS_CONSUMER = {
    **{test: [] for test in ("0101", "0102", "0103", "0104", "0105")},
    "0201": [("STARTED", "terminate")],
    "0202": [("STARTED", "complete")],
    "0203": [("STARTED", "suspend"), ("SUSPENDED", "terminate")],
    "0204": [("STARTED", "suspend"), ("SUSPENDED", "resume"), ("STARTED", "complete")],
    "0205": [("REQUESTED", "terminate")],
    **{test: [] for test in ("0301", "0302", "0303", "0304", "0305", "0306")},
}
PERMISSION = [{"action": "use"}]


def policy():
    return {
        "@context": "http://www.w3.org/ns/odrl.jsonld",
        "@id": f"urn:uuid:{uuid.uuid4()}",
        "@type": "Set",
        "permission": PERMISSION,
    }


def message(kind, **members):
    return {"@context": [CONTEXT], "@id": f"urn:uuid:{uuid.uuid4()}", "@type": kind, **members}


# --- identity --------------------------------------------------------------------------------------------------------


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Identity:
    """The controller's DID, its document and its tokens."""

    def __init__(self, port):
        self.did = f"did:web:localhost%3A{port}"
        self.key = Ed25519PrivateKey.generate()
        public = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        method = f"{self.did}#key-1"
        root = f"http://localhost:{port}"
        self.document = {
            "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/suites/jws-2020/v1"],
            "id": self.did,
            "verificationMethod": [{
                "id": method,
                "type": "JsonWebKey2020",
                "controller": self.did,
                "publicKeyJwk": {"kty": "OKP", "crv": "Ed25519", "x": base64url(public)},
            }],
            "authentication": [method],
            "assertionMethod": [method],
            "capabilityInvocation": [method],
            "service": [{
                "id": f"{self.did}#dsp",
                "type": "DataService",
                "serviceEndpoint": f"{root}/.well-known/dspace-version",
            }],
        }

    def token(self, audience):
        """A self-issued token (Decentralized Claims Protocol 1.0, section 4.3); good once."""
        now = int(time.time())
        header = {"alg": "EdDSA", "typ": "JWT", "kid": f"{self.did}#key-1"}
        times = {"iat": now, "nbf": now, "exp": now + 120}
        claims = {"iss": self.did, "sub": self.did, "aud": audience, "jti": str(uuid.uuid4()), **times}
        signed = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
        return f"{signed}.{base64url(self.key.sign(signed.encode()))}"


def renamed(body, old, new):
    """A JSON body in which every text that is exactly `old` is `new`."""

    def walk(value):
        if isinstance(value, dict):
            return {name: walk(member) for name, member in value.items()}
        if isinstance(value, list):
            return [walk(item) for item in value]
        return new if value == old else value

    if old.encode() not in body:
        return body
    return json.dumps(walk(json.loads(body))).encode()


# --- HTTP ------------------------------------------------------------------------------------------------------------


def send(port, method, path, body, headers):
    """One request to this machine: (status, content type, body)."""
    connection = http.client.HTTPConnection("localhost", port, timeout=30)
    try:
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read()
    finally:
        connection.close()


def serve(port, answer, log):
    """Serves `answer(method, path, body) -> (status, content type, body)` in threads of its own."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_any(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                status, kind, content = answer(self.command, self.path, body)
            except Exception:  # for example: the kit breaks a connection off when it dislikes a message
                status, kind, content = 502, "text/plain", traceback.format_exc().encode()
                print(self.command, self.path, content.decode(), file=log, flush=True)
            self.send_response(status)
            if kind:
                self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = handle_any

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def as_json(status, value):
    return status, "application/json", json.dumps(value).encode()


# --- the controller --------------------------------------------------------------------------------------------------


class Controller:
    """Gateway, peer and owner of the node under test."""

    def __init__(self, logs):
        self.logs = logs
        self.gateway_port, self.peer_port, self.kit_port = kit.free_port(), kit.free_port(), kit.free_port()
        self.identity = Identity(self.peer_port)
        self.gateway_url = f"http://localhost:{self.gateway_port}"
        self.peer_root = f"http://localhost:{self.peer_port}/dsp"
        self.node = kit.Node(logs / "node", f"did:web:localhost%3A{self.gateway_port}", self.gateway_url)
        self.protocol_url = f"{self.gateway_url}/dsp/2025-1"
        self.log = open(logs / "messages.log", "w")
        self.servers = []
        self.log_lock = threading.Lock()
        # The processes of our own negotiations before the kit starts: agreement by our process id.
        self.own, self.own_changed = {}, threading.Condition()
        # Agreement id -> what to do in a transfer under it.
        self.transfer_scripts = {}
        self.states, self.states_changed = collections.defaultdict(list), threading.Condition()
        self.busy = 0
        self.faults = []

    def start(self):
        self.servers = [
            serve(self.gateway_port, self.to_node, self.log),
            serve(self.peer_port, self.to_peer, self.log),
        ]
        self.node.start(self.logs / "node.log")
        self.listen()

    def stop(self):
        self.node.stop()
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def note(self, way, method, path, body, status, answer):
        with self.log_lock:
            at = time.strftime("%H:%M:%S") + f".{int(time.time() * 1000) % 1000:03}"
            texts = [part.decode(errors="replace") for part in (body, answer)]
            print(at, way, method, path, texts[0], "->", status, texts[1], file=self.log, flush=True)

    # - gateway: everything that comes to the node's public address -

    def to_node(self, method, path, body):
        body = renamed(body, PARTICIPANT, self.identity.did)
        status, kind, answer = self.with_token(method, path, body)
        answer = renamed(answer, self.identity.did, PARTICIPANT) if not path.startswith("/.well-known/") else answer
        return status, kind, answer

    def with_token(self, method, path, body):
        for attempt in range(20):
            headers = {"Content-Type": "application/json"} if body else {}
            if not path.startswith("/.well-known/"):
                headers["Authorization"] = f"Bearer {self.identity.token(self.node.did)}"
            status, kind, answer = send(self.node.public, method, path, body, headers)
            self.note("to node", method, path, body, status, answer)
            if status != 503 or b"shuyu:busy" not in answer:
                break
            # "Our own message is under way": the sender of a message has to try again.
            self.busy += 1
            time.sleep(0.05)
        return status, kind, answer

    def tell_node(self, path, body):
        """A message of our own to the node."""
        status, _, answer = self.with_token("POST", f"/dsp/2025-1/{path}", json.dumps(body).encode())
        if not 200 <= status < 300:
            raise RuntimeError(f"{path}: {status} {answer.decode(errors='replace')}")
        return json.loads(answer) if answer else None

    # - peer: where our DID document leads, and the kit's two hooks -

    def to_peer(self, method, path, body):
        if path == "/.well-known/did.json":
            return as_json(200, self.identity.document)
        if path == "/.well-known/dspace-version":
            return as_json(200, {"protocolVersions": [{"version": "2025-1", "path": "/dsp", "binding": "HTTPS"}]})
        if path == "/hooks/negotiations":
            return as_json(200, self.begin_negotiation(json.loads(body)))
        if path == "/hooks/transfers":
            return as_json(200, self.begin_transfer(json.loads(body)))
        if not path.startswith("/dsp/"):
            return as_json(404, {})
        own = self.own_message(path.removeprefix("/dsp/"), body)
        if own is not None:
            return own
        path = path.removeprefix("/dsp")
        body = renamed(body, self.identity.did, PARTICIPANT)
        headers = {"Content-Type": "application/json"} if body else {}
        status, kind, answer = send(self.kit_port, method, path, body, headers)
        self.note("to kit", method, path, body, status, answer)
        return status, kind, renamed(answer, PARTICIPANT, self.identity.did)

    def begin_negotiation(self, wish):
        """`connectorAddress` is not needed: our DID leads to it."""
        started = self.node.post("negotiations", {
            "provider": self.identity.did,
            "dataset": wish["datasetId"],
            "offer": wish["offerId"],
            "policy": policy(),
            "accept": "each-step",
        })
        return {"id": started["id"]}

    def begin_transfer(self, wish):
        started = self.node.post("transfers", {"agreement": wish["agreementId"], "format": wish["format"]})
        return {"id": started["id"]}

    # - owner: what is said, and when -

    def listen(self):
        """Follows the node's event stream."""
        stream = urllib.request.urlopen(self.node.request("events"))

        def follow():
            kind = None
            try:
                for line in stream:
                    name, _, value = line.decode().rstrip("\n").partition(":")
                    if name == "event":
                        kind = value.strip()
                    elif name == "data":
                        self.happened(kind, json.loads(value))
            except (OSError, ValueError):
                pass  # the node has stopped

        threading.Thread(target=follow, daemon=True).start()

    def happened(self, kind, event):
        if kind == "missed":
            self.faults.append(f"{event} events of the node were missed")
            return
        if kind not in ("negotiation", "transfer"):
            return
        with self.states_changed:
            is_new = event["id"] not in self.states
            seen = self.states[event["id"]]
            if event["state"] and seen[-1:] != [event["state"]]:
                seen.append(event["state"])
            self.states_changed.notify_all()
        if is_new:
            threading.Thread(target=self.play, args=(kind, event["id"]), daemon=True).start()

    def play(self, kind, id):
        """Says what the script of this process says, each word in the state it belongs to."""
        path = f"{kind}s/{urllib.parse.quote(id, safe='')}"
        position = 0
        try:
            for state, word in self.script_of(kind, self.node.get(path)):
                position = self.reached(id, state, position)
                if position is None:
                    return
                time.sleep(PACE_S)
                body = {"policy": policy()} if word == "offer" else {}
                self.node.post(f"{path}/{'counter' if word == 'offer' else word}", body)
        except Exception as fault:
            self.faults.append(f"{path}: {fault}")

    def script_of(self, kind, process):
        if kind == "transfer":
            return self.transfer_scripts.get(process["agreement"], [])
        dataset = process["dataset"]
        if process["role"] == "provider" and dataset.startswith("ACN"):
            return AS_PROVIDER[dataset.removeprefix("ACN")]
        if process["role"] == "consumer" and dataset.startswith("ACNC"):
            return AS_CONSUMER[dataset.removeprefix("ACNC")]
        return []

    def reached(self, id, state, position):
        """The place after the next time the process is in `state`; None if it never comes there."""
        with self.states_changed:
            found = lambda: state in self.states[id][position:]
            if not self.states_changed.wait_for(found, timeout=60):
                return None
            return self.states[id].index(state, position) + 1

    # - what must be there before the kit starts -

    def publish(self):
        """Datasets and offers under the kit's names."""
        self.node.post("policies", {"id": "use", "policy": policy()})
        names = [f"ACN{test}" for test in AS_PROVIDER] + ["CAT0101", "CAT0102", "ATP"]
        for name in names:
            asset = {"id": name, "title": name, "table": name.lower(), "location": str(WEATHER), "format": "csv"}
            self.node.post("assets", asset)
            offer = {"id": f"CD123:{name}:456", "asset": name, "policy": "use", "approve": "each-step"}
            self.node.post("offers", offer)

    def negotiate(self):
        """The agreements of the transfers, negotiated for real: agreement id by the kit's name of it."""
        agreements = {}
        for test, script in TRANSFERS_AS_PROVIDER.items():
            agreements[f"TP_{test[:2]}_{test[2:]}"] = id = self.agreement_as_consumer()
            self.transfer_scripts[id] = script
        for test, script in TRANSFERS_AS_CONSUMER.items():
            agreements[f"TP_C_{test[:2]}_{test[2:]}"] = id = self.agreement_as_provider(f"ATPC{test}")
            self.transfer_scripts[id] = script
        return agreements

    def agreement_as_consumer(self):
        """We ask the node; its owner says each word of its side."""
        ours = f"urn:uuid:{uuid.uuid4()}"
        self.expect(ours)
        offer = {"@id": "CD123:ATP:456", "@type": "Offer", "target": "ATP", "permission": PERMISSION}
        request = message("ContractRequestMessage", consumerPid=ours, offer=offer, callbackAddress=self.peer_root)
        theirs = self.tell_node("negotiations/request", request)["providerPid"]
        path = f"negotiations/{urllib.parse.quote(theirs, safe='')}"
        self.node.post(f"{path}/approve", {})
        agreement = self.said(ours, "ContractAgreementMessage")["agreement"]["@id"]
        self.node.wait("negotiations", theirs, "AGREED")
        pids = {"providerPid": theirs, "consumerPid": ours}
        self.tell_node(f"{path}/agreement/verification", message("ContractAgreementVerificationMessage", **pids))
        self.node.post(f"{path}/approve", {})
        self.node.wait("negotiations", theirs, "FINALIZED")
        return agreement

    def agreement_as_provider(self, dataset):
        """The node asks us."""
        wish = {"provider": self.identity.did, "dataset": dataset, "offer": f"own {dataset}", "policy": policy()}
        theirs = self.node.post("negotiations", wish)["id"]
        ours = self.node.wait("negotiations", theirs, "REQUESTED")["provider_pid"]
        agreement = f"urn:uuid:{uuid.uuid4()}"
        pids = {"providerPid": ours, "consumerPid": theirs}
        terms = {
            "@id": agreement,
            "@type": "Agreement",
            "target": dataset,
            "assigner": self.identity.did,
            "assignee": self.node.did,
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "permission": PERMISSION,
        }
        path = f"negotiations/{urllib.parse.quote(theirs, safe='')}"
        self.tell_node(f"{path}/agreement", message("ContractAgreementMessage", **pids, agreement=terms))
        self.node.wait("negotiations", theirs, "VERIFIED")
        finalized = message("ContractNegotiationEventMessage", **pids, eventType="FINALIZED")
        self.tell_node(f"{path}/events", finalized)
        self.node.wait("negotiations", theirs, "FINALIZED")
        return agreement

    def expect(self, pid):
        with self.own_changed:
            self.own[pid] = {}

    def said(self, pid, kind):
        """What the node said in a negotiation of our own."""
        with self.own_changed:
            if not self.own_changed.wait_for(lambda: kind in self.own[pid], timeout=30):
                raise RuntimeError(f"the node did not send its {kind}")
            return self.own[pid][kind]

    def own_message(self, path, body):
        """The answer to a message of a negotiation of our own; None if it is one of the kit's."""
        if not body:
            return None
        said = json.loads(body)
        offer = said.get("offer", {}).get("@id", "")
        with self.own_changed:
            if path == "negotiations/request" and offer.startswith("own "):
                ours = f"urn:uuid:{uuid.uuid4()}"
                self.own[ours] = {}
                pids = {"providerPid": ours, "consumerPid": said["consumerPid"]}
                return as_json(201, message("ContractNegotiation", **pids, state="REQUESTED"))
            ours = urllib.parse.unquote(path.split("/")[1])
            if ours not in self.own:
                return None
            self.own[ours][said["@type"]] = said
            self.own_changed.notify_all()
        return 200, None, b""

    # - the kit -

    def properties(self, agreements):
        prefix = "dataspacetck"
        settings = {
            f"{prefix}.launcher": LAUNCHER,
            f"{prefix}.debug": "true",
            f"{prefix}.ansi": "false",
            f"{prefix}.host": "127.0.0.1",
            f"{prefix}.port": self.kit_port,
            f"{prefix}.callback.address": f"http://localhost:{self.kit_port}",
            f"{prefix}.dsp.local.connector": "false",
            f"{prefix}.dsp.connector.agent.id": self.node.did,
            f"{prefix}.dsp.connector.http.url": self.protocol_url,
            f"{prefix}.dsp.connector.http.base.url": self.gateway_url,
            f"{prefix}.dsp.connector.negotiation.initiate.url": f"http://localhost:{self.peer_port}/hooks/negotiations",
            f"{prefix}.dsp.connector.transfer.initiate.url": f"http://localhost:{self.peer_port}/hooks/transfers",
            f"{prefix}.dsp.default.wait": "15",
        }
        for test in ("0101", "0102", "0103"):  # the last one is not there, and must not be
            settings[f"CAT_{test[:2]}_{test[2:]}_DATASETID"] = f"CAT{test}"
        for test in AS_PROVIDER:
            settings[f"CN_{test[:2]}_{test[2:]}_DATASETID"] = f"ACN{test}"
            settings[f"CN_{test[:2]}_{test[2:]}_OFFERID"] = f"CD123:ACN{test}:456"
        for test in AS_CONSUMER:
            settings[f"CN_C_{test[:2]}_{test[2:]}_DATASETID"] = f"ACNC{test}"
        for name, agreement in agreements.items():
            settings[f"{name}_AGREEMENTID"] = agreement
            settings[f"{name}_FORMAT"] = "HttpData-PULL"
        return settings


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keep", action="store_true", help="leave the logs in their directory")
    parser.add_argument("--classpath", help="a kit built elsewhere instead of the one that Maven gets")
    options = parser.parse_args()
    if not kit.SHUYU:
        raise SystemExit("error: no command `shuyu`\nhint: run ./x build, or set SHUYU_BIN")
    try:
        release, jars = kit.classpath(kit.HERE / "dsp/pom.xml", RELEASES) if not options.classpath else (
            RELEASES[0], options.classpath)
    except kit.OutOfReach as reason:
        kit.skipped("dsp", reason, RELEASES[0].tests)
        return 1
    # So that nothing is left running when we are told to stop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    logs = kit.Logs("dsp")
    began = time.monotonic()
    controller = None
    try:
        controller = Controller(logs.path)
        controller.start()
        controller.publish()
        agreements = controller.negotiate()
        ready = time.monotonic()
        kit.say(f"the node is ready after {ready - began:.1f} s with {len(agreements)} agreements; kit {release.kit}")
        results = kit.run(jars, PACKAGE, controller.properties(agreements), logs.path)
        kit.say(f"the kit took {time.monotonic() - ready:.1f} s; {controller.busy} messages crossed and were sent again")
    except Exception:
        traceback.print_exc()
        results = kit.Results()
    except (SystemExit, KeyboardInterrupt):
        logs.drop()
        raise
    finally:
        if controller:
            controller.stop()
    for fault in controller.faults if controller else []:
        kit.say(f"controller: {fault}")
    is_well = kit.tell("dsp", release, results, logs.path)
    if is_well and not options.keep:
        logs.drop()
    elif is_well:
        kit.say(f"logs: {logs.path}")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
