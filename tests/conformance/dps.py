"""The compatibility kit of Data Plane Signaling (org.eclipse.dataspacetck.dps) against a real node process.

    dps.py [--keep] [--classpath JARS]

The kit is in turn the control plane that leads the node's data plane, and the data plane that the node's control plane
leads. As a control plane it speaks with the node directly. As a data plane it also plays the participant at the other end
of the transfer, and there this controller stands between, as in `dsp.py` and for the same reasons; and it mends the
kit's messages of the Dataspace Protocol, whose `@context` is a text and whose process identifiers are made up anew each
time. What the kit says and hears of signaling is not changed, but for the API key that its calls to the node lack.

Not run, and counted as skipped: pushing, the renewal of tokens by an OAuth grant, answers of a data plane that come later
(202) and its own word that a flow has run to its end. The node's data plane is pulled from, answers at once, and
renews tokens for whoever proves the consumer's DID.

--keep       leave the logs in their directory
--classpath  a kit built elsewhere instead of the one that Maven gets
"""

import argparse
import json
import signal
import subprocess
import sys
import traceback
import urllib.parse
import urllib.request
import uuid

import dsp
import kit

RELEASE = kit.Release("1.2.0", {}, 38)
PACKAGES = "org.eclipse.dataspacetck.dps.verification"
LAUNCHER = "org.eclipse.dataspacetck.dps.system.DpsSystemLauncher"
# What the node's data plane does not do: 12 tests of pushing and 5 of OAuth renewal, in packages of their own, and these.
NOT_OURS = ("DP_P_PULL:04-01", "DP_C_PULL:03-01", "DP_C_PULL:04-01")
NOT_RUN = 17
PULL = "HttpData-PULL"
PROVIDER_TESTS = ("01_01", "01_02", "02_01", "02_02", "03_01")
PULL_TESTS = {"P": ("01_01", "01_02", "02_01", "02_02", "04_01"),
              "C": ("01_01", "01_02", "02_01", "02_02", "03_01", "04_01")}


class Controller(dsp.Controller):
    """Gateway, peer and owner of the node under test, between it and the kit."""

    def __init__(self, logs):
        super().__init__(logs)
        self.kit_facing = kit.free_port()
        file = self.node.directory / "shuyu.toml"
        file.write_text(file.read_text().replace("signaling = false", "signaling = true"))
        # Of the processes that the kit is party to: our process id -> the other one.
        self.pids, self.kit_answers = {}, {}

    def start(self):
        super().start()
        self.servers.append(dsp.serve(self.kit_facing, self.from_kit, self.log))
        self.control, self.dataplane = self.api_key("cp", "control"), self.api_key("kit", "dataplane")

    def api_key(self, name, role):
        command = [kit.SHUYU, "--dir", str(self.node.directory), "api-key", "add", name, "--role", role]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def v3(self, method, path, body):
        url = f"http://127.0.0.1:{self.node.management}/v3/{path}"
        headers = {"X-Api-Key": self.node.key, "Content-Type": "application/json"}
        request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    # - what must be there before the kit starts -

    def publish(self):
        self.node.post("policies", {"id": "use", "policy": dsp.policy()})
        kits = {"dataplaneId": "kit", "endpoint": f"http://localhost:{self.kit_port}", "profiles": [PULL]}
        self.v3("PUT", "dataplanes", kits)
        served = {"@id": "ATP", "properties": {}, "dataAddress": {"type": "DataPlane", "dataplaneId": "kit"}}
        self.v3("POST", "assets", served)
        asset = {"id": "own", "title": "own", "table": "own", "location": str(dsp.WEATHER), "format": "csv"}
        self.node.post("assets", asset)
        self.node.post("offers", {"id": "CD123:ATP:456", "asset": "ATP", "policy": "use"})
        self.v3("POST", "contractagreements", {
            "@id": "urn:agreement:own", "assetId": "own", "consumerId": self.identity.did, "policy": dsp.policy(),
            "controlPlane": "cp",
        })

    def agreement_as_consumer(self):
        """We ask the node, which answers by rule."""
        ours = f"urn:uuid:{uuid.uuid4()}"
        self.expect(ours)
        offer = {"@id": "CD123:ATP:456", "@type": "Offer", "target": "ATP", "permission": dsp.PERMISSION}
        request = dsp.message("ContractRequestMessage", consumerPid=ours, offer=offer, callbackAddress=self.peer_root)
        theirs = self.tell_node("negotiations/request", request)["providerPid"]
        agreement = self.said(ours, "ContractAgreementMessage")["agreement"]["@id"]
        self.node.wait("negotiations", theirs, "AGREED")
        path = f"negotiations/{urllib.parse.quote(theirs, safe='')}/agreement/verification"
        verified = dsp.message("ContractAgreementVerificationMessage", providerPid=theirs, consumerPid=ours)
        self.tell_node(path, verified)
        self.node.wait("negotiations", theirs, "FINALIZED")
        return agreement

    # - the kit's messages to the node -

    def from_kit(self, method, path, body):
        if path.startswith("/signaling/"):
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.dataplane}"}
            status, kind, answer = dsp.send(self.node.management, method, path, body, headers)
            self.note("kit to node", method, path, body, status, answer)
            return status, kind, answer
        if path == "/hooks/dataflows/trigger":
            wish = json.loads(body)
            begun = self.v3("POST", "transferprocesses", {
                "contractId": wish["agreementId"], "transferType": PULL, "dataplaneId": "kit",
                "counterPartyId": self.identity.did,
            })
            return dsp.as_json(200, {"id": begun["@id"]})
        path = path.removeprefix("/dsp")
        if method == "GET":
            return self.with_token(method, f"/dsp/2025-1{path}", b"")
        said = json.loads(body)
        said["@context"], said["@id"] = [dsp.CONTEXT], f"urn:uuid:{uuid.uuid4()}"
        if path == "/transfers/request":
            said["callbackAddress"] = self.peer_root
            status, kind, answer = self.with_token("POST", f"/dsp/2025-1{path}", json.dumps(said).encode())
            self.pids[json.loads(answer)["providerPid"]] = said["consumerPid"]
            return status, kind, answer
        _, _, own, word = path.split("/")
        own = urllib.parse.unquote(own)
        row = self.node.get(f"transfers/{urllib.parse.quote(own, safe='')}")
        # The kit does not wait until the node has said that the transfer has started, or that it has heard the last word.
        if word in ("completion", "suspension"):
            self.node.wait("transfers", own, "STARTED")
        names = ("providerPid", "consumerPid") if row["role"] == "provider" else ("consumerPid", "providerPid")
        said[names[0]], said[names[1]] = own, self.pids[own]
        return self.with_token("POST", f"/dsp/2025-1{path}", json.dumps(said).encode())

    # - the node's messages to the kit -

    def to_peer(self, method, path, body):
        if path.startswith("/dsp/transfers/"):
            said = json.loads(body)
            if path != "/dsp/transfers/request":
                return 200, None, b""  # to the kit as a consumer, which reads nothing of it
            said["callbackAddress"] = f"http://localhost:{self.kit_facing}/dsp"
            headers = {"Content-Type": "application/json"}
            sent = json.dumps(said).encode()
            status, kind, answer = dsp.send(self.kit_port, "POST", "/transfers/request", sent, headers)
            self.note("to kit", method, path, sent, status, answer)
            provider = json.loads(answer)["providerPid"]
            self.pids[said["consumerPid"]] = provider
            pids = {"providerPid": provider, "consumerPid": said["consumerPid"]}
            return dsp.as_json(201, dsp.message("TransferProcess", **pids, state="REQUESTED"))
        return super().to_peer(method, path, body)

    # - the kit -

    def properties(self, provided, consumed):
        facing = f"http://localhost:{self.kit_facing}"
        prefix = "dataspacetck"
        settings = {
            f"{prefix}.launcher": LAUNCHER,
            f"{prefix}.debug": "true",
            f"{prefix}.ansi": "false",
            f"{prefix}.host": "127.0.0.1",
            f"{prefix}.port": self.kit_port,
            f"{prefix}.callback.address": f"http://localhost:{self.kit_port}",
            f"{prefix}.dps.controlplane.webhook.url": f"{facing}/hooks",
            f"{prefix}.dps.controlplane.protocol.url": f"{facing}/dsp",
            f"{prefix}.dps.controlplane.signaling.url": f"{facing}/signaling",
            f"{prefix}.dps.dataplane.url": f"http://127.0.0.1:{self.node.management}/signaling",
            f"{prefix}.dps.dataplane.authorization": f"Bearer {self.control}",
            f"{prefix}.dps.dataplane.provider.id": self.node.did,
            f"{prefix}.dps.dataplane.counterparty.id": self.identity.did,
            f"{prefix}.dps.default.wait": "15",
        }
        for test in PROVIDER_TESTS:
            settings[f"CP_P_{test}_AGREEMENTID"] = provided
            settings[f"CP_C_{test}_AGREEMENTID"] = consumed
        for side, tests in PULL_TESTS.items():
            for test in tests:
                settings[f"DP_{side}_PULL_{test}_AGREEMENTID"] = "urn:agreement:own"
                settings[f"DP_{side}_PULL_{test}_DATASETID"] = "own"
                settings[f"DP_{side}_PULL_{test}_PROFILE"] = PULL
        return settings


def tell(results, logs):
    """Prints what failed and the closing line; whether all is well."""
    failed = [found for found in results.failed if not found[0].startswith(NOT_OURS)]
    apart = len(results.failed) - len(failed)
    ran = results.passed + len(results.failed)
    if ran != RELEASE.tests - NOT_RUN:
        failed.append(("the kit as a whole", f"{ran} tests ran, {RELEASE.tests - NOT_RUN} were to"))
    for name, message in failed:
        print(f"FAIL {name}: {message[:1500]}")
    if failed:
        print(f"logs of the kit, the node and the controller: {logs}")
    print(f"tck dps: {results.passed} passed, {len(failed)} failed, {apart + NOT_RUN} skipped", flush=True)
    return not failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keep", action="store_true", help="leave the logs in their directory")
    parser.add_argument("--classpath", help="a kit built elsewhere instead of the one that Maven gets")
    options = parser.parse_args()
    if not kit.SHUYU:
        raise SystemExit("error: no command `shuyu`\nhint: run ./x build, or set SHUYU_BIN")
    try:
        jars = options.classpath or kit.classpath(kit.HERE / "dps/pom.xml", [RELEASE])[1]
    except kit.OutOfReach as reason:
        kit.skipped("dps", reason, RELEASE.tests)
        return 1
    # So that nothing is left running when we are told to stop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    logs = kit.Logs("dps")
    controller, results = None, kit.Results()
    try:
        controller = Controller(logs.path)
        controller.start()
        controller.publish()
        provided, consumed = controller.agreement_as_consumer(), controller.agreement_as_provider("ATPC")
        settings = controller.properties(provided, consumed)
        for package in ("controlplane", "dataplane.pull"):
            part = kit.run(jars, f"{PACKAGES}.{package}", settings, logs.path)
            (logs.path / "kit.log").rename(logs.path / f"kit.{package}.log")
            results.passed += part.passed
            results.failed += part.failed
    except Exception:
        traceback.print_exc()
    except (SystemExit, KeyboardInterrupt):
        logs.drop()
        raise
    finally:
        if controller:
            controller.stop()
    for fault in controller.faults if controller else []:
        kit.say(f"controller: {fault}")
    is_well = tell(results, logs.path)
    if is_well and not options.keep:
        logs.drop()
    elif is_well:
        kit.say(f"logs: {logs.path}")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
