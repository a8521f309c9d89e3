"""The compatibility kit of the Decentralized Claims Protocol (org.eclipse.dataspacetck.dcp) against real nodes.

    dcp.py [--keep] [--source DIR | --classpath JARS] [--only ROLE]...

Every role is tested on nodes of its own, made by `shuyu init` and set up with the command like any other:

- holder    the credential service. The owner has arranged with the kit's issuer that it delivers two types of
            credentials under a given id, and has given the kit a client of the token endpoint.
- issuer    the issuer service, with two definitions that anybody may have.
- verifier  every DSP request. The node belongs to a space that asks for a MembershipCredential of the kit's issuer; what
            the kit calls its trigger endpoint is the catalogue.

The nodes run with `insecure-loopback`, since the kit speaks plain http, and with a P-256 key, the only kind the kit
verifies. Nothing else is changed for the kit.

--keep       leave the logs in their directory
--source     a checkout of the kit, tag v1.0.2, to be compiled instead of the one that Maven gets
--classpath  a kit built elsewhere
--only       a role to be tested, instead of all

The version is 1.0.2 and no other, and where Maven cannot get it, a checkout will do: the release candidates before it
expect what the specification forbids (DID documents without verification relationships, a credential whose context is its
id, an error for a scope too many).
"""

import argparse
import atexit
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback

import kit

RELEASE = kit.Release("1.0.2", {"classes": "kit"}, 85)
# What a checkout of the kit is compiled against: the libraries of the last pre-release that Maven has.
LIBRARIES = kit.Release("1.0.0-RC6", {"classes": "libraries"}, 0)
PACKAGES = "org.eclipse.dataspacetck.dcp.verification"
LAUNCHER = "org.eclipse.dataspacetck.dcp.system.DcpSystemLauncher"
# The kit's packages, by role, and how many of their tests run; three more are disabled by the kit itself.
ROLES = {
    "holder": {"issuance.cs": 24, "presentation.cs": 16},
    "issuer": {"issuance.issuer": 25},
    "verifier": {"presentation.verifier": 20},
}
MEMBERSHIP, SENSITIVE = "MembershipCredential", "SensitiveDataCredential"
ARRANGED = "conformance-1"
COMPILE_TIMEOUT_S = 300


def compiled(source):
    """The classes of a checkout of the kit, compiled here, and the libraries it uses."""
    source = pathlib.Path(source).resolve()
    said = re.search(r"^version=(.*)$", (source / "gradle.properties").read_text(), re.M)
    if not said or said.group(1).strip() != RELEASE.kit:
        raise kit.OutOfReach(f"`{source}` is not version {RELEASE.kit} of the kit")
    _, libraries = kit.classpath(kit.HERE / "dcp/pom.xml", [LIBRARIES])
    jars = [jar for jar in libraries.split(os.pathsep) if not re.search(r"/dcp-(api|system|testcases)-", jar)]
    classes = pathlib.Path(tempfile.mkdtemp(prefix="shuyu-tck-dcp-kit."))
    atexit.register(shutil.rmtree, classes, ignore_errors=True)
    modules = [source / name / "src/main" for name in ("dcp-api", "dcp-system", "dcp-testcases")]
    files = [str(file) for module in modules for file in sorted(module.rglob("*.java"))]
    command = ["javac", "-nowarn", "-proc:none", "-d", str(classes), "-cp", os.pathsep.join(jars), *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S)
    if done.returncode != 0:
        raise kit.OutOfReach(f"`{source}` does not compile: {done.stderr[:300]}")
    for module in modules:
        if (module / "resources").is_dir():
            shutil.copytree(module / "resources", classes, dirs_exist_ok=True)
    return os.pathsep.join([str(classes), *jars])


class Node(kit.Node):
    """A node of one role, and how the kit is told about it."""

    def __init__(self, role, logs):
        self.directory = logs / "node"
        self.public, self.management, flight, self.kit_port = (kit.free_port() for _ in range(4))
        self.did, self.kit_did = f"did:web:localhost%3A{self.public}", f"did:web:localhost%3A{self.kit_port}"
        self.public_url, self.log, self.process = f"http://localhost:{self.public}", logs / "node.log", None
        sockets = {"--listen": self.public, "--management": self.management, "--flight": flight}
        addresses = [word for name, port in sockets.items() for word in (name, f"127.0.0.1:{port}")]
        self.shuyu("init", self.directory, "--name", role, "--did", self.did, "--role",
                   "issuer" if role == "issuer" else "holder", "--suite", "p256", "--insecure-loopback", *addresses)
        self.key = (self.directory / "management.key").read_text().strip()

    def owner(self, *arguments):
        self.shuyu("--dir", self.directory, *arguments)

    def as_holder(self):
        self.start(self.log)
        self.owner("credential", "request", "--issuer", f"{self.kit_did}:issuer", "--type", MEMBERSHIP, "--type",
                   SENSITIVE, "--arranged", ARRANGED)
        return {
            "did.holder": self.did,
            "credentials.correlation.id": ARRANGED,
            "sts.url": f"http://localhost:{self.management}/sts",
            "sts.client.id": "kit",
            "sts.client.secret": self.post("token-clients", {"id": "kit"})["secret"],
        }

    def as_issuer(self):
        self.start(self.log)
        self.owner("issuer", "define", "membership", "--type", MEMBERSHIP, "--approve", "auto")
        self.owner("issuer", "define", "sensitive", "--type", SENSITIVE, "--approve", "auto")
        return {"did.issuer": self.did}

    def as_verifier(self):
        with open(self.directory / "shuyu.toml", "a") as config:
            issuer = json.dumps(f"{self.kit_did}:issuer")
            config.write(f'\n[space]\nname = "kit"\n\n[[space.require]]\ntype = "{MEMBERSHIP}"\nissuers = [{issuer}]\n')
        self.start(self.log)
        return {
            "did.verifier": self.did,
            "vpp.trigger.endpoint": f"{self.public_url}/dsp/2025-1/catalog/request",
        }

    def settings(self, role):
        own = {"holder": self.as_holder, "issuer": self.as_issuer, "verifier": self.as_verifier}[role]()
        common = {
            "launcher": LAUNCHER,
            "debug": "true",
            "ansi": "false",
            "host": "127.0.0.1",
            "port": self.kit_port,
            "callback.address": f"http://localhost:{self.kit_port}",
        }
        return {f"dataspacetck.{name}": value for name, value in {**common, **own}.items()}


def test(role, package, tests, jars, logs):
    """Runs one package of the kit. The kit makes new keys with every run, under the DIDs it had before: each package has a
    new node and new ports, so that nothing of the last run is remembered."""
    logs = logs / package
    logs.mkdir()
    node = None
    try:
        node = Node(role, logs)
        results = kit.run(jars, f"{PACKAGES}.{package}", node.settings(role), logs)
    except Exception:
        traceback.print_exc()
        results = kit.Results()
    finally:
        if node:
            node.stop()
    kit.say(f"{package}: {results.passed} passed, {len(results.failed)} failed")
    if results.passed + len(results.failed) != tests:
        results.failed.append(("as a whole", f"{results.passed + len(results.failed)} tests ran, there are {tests}"))
    results.failed = [(f"{package}: {name}", message) for name, message in results.failed]
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keep", action="store_true", help="leave the logs in their directory")
    classes = parser.add_mutually_exclusive_group()
    classes.add_argument("--source", help=f"a checkout of the kit, tag v{RELEASE.kit}, to be compiled")
    classes.add_argument("--classpath", help="a kit built elsewhere")
    parser.add_argument("--only", action="append", choices=ROLES, help="a role to be tested, instead of all")
    options = parser.parse_args()
    if not kit.SHUYU:
        raise SystemExit("error: no command `shuyu`\nhint: run ./x build, or set SHUYU_BIN")
    packages = [(role, *package) for role in options.only or ROLES for package in ROLES[role].items()]
    release = kit.Release(RELEASE.kit, RELEASE.settings, sum(tests for _, _, tests in packages))
    try:
        if options.source:
            jars = compiled(options.source)
        else:
            jars = options.classpath or kit.classpath(kit.HERE / "dcp/pom.xml", [RELEASE])[1]
    except kit.OutOfReach as reason:
        kit.skipped("dcp", reason, release.tests)
        return 1
    # So that nothing is left running when we are told to stop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    logs = kit.Logs("dcp")
    total = kit.Results()
    for role, package, tests in packages:
        results = test(role, package, tests, jars, logs.path)
        total.passed += results.passed
        total.failed += results.failed
        total.disabled += results.disabled
    is_well = kit.tell("dcp", release, total, logs.path)
    if is_well and not options.keep:
        logs.drop()
    elif is_well:
        kit.say(f"logs: {logs.path}")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
