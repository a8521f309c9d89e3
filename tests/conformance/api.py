"""The management API against its own OpenAPI document: a real node is started, the document is validated, and
schemathesis asks every operation what the document allows and what it does not. No answer may be a 5xx, have a status,
content type or shape that the document does not name, or come without a key.

Run with SHUYU_BIN and a Python that can make a virtual environment; what is missing is installed into one of its own
(SHUYU_CACHE). One line a check; the last is `api: N passed, N failed`, and the exit code is 1 when one failed.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree as ElementTree

HERE = pathlib.Path(__file__).resolve().parent
REQUIREMENTS = HERE / "api-requirements.txt"
WEATHER = HERE.parents[1] / "examples/data/seattle-weather.csv"
SHUYU = os.environ.get("SHUYU_BIN") or shutil.which("shuyu")
EXAMPLES = int(os.environ.get("SHUYU_API_EXAMPLES", "25"))
CHECKS = ",".join(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "unsupported_method",
        "ignored_auth",
    ]
)
# A stream of events has no end; it is looked at by hand.
STREAM = "/v3/events"

passed = failed = 0


def check(name, holds, seen=""):
    """Counts and tells one check."""
    global passed, failed
    passed, failed = passed + bool(holds), failed + (not holds)
    print(f"ok   {name}" if holds else f"FAIL {name}: {str(seen)[:2000]}", flush=True)


def with_tools():
    """Goes on in an environment that has the tools."""
    try:
        import openapi_spec_validator  # noqa: F401
        import schemathesis  # noqa: F401

        return
    except ImportError:
        pass
    cache = os.environ.get("SHUYU_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "shuyu"
    )
    venv = pathlib.Path(cache) / "venv-api"
    python = venv / "bin/python"
    if pathlib.Path(sys.prefix) == venv:
        raise SystemExit("schemathesis is installed and cannot be used")
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", str(REQUIREMENTS)], check=True)
    os.execv(str(python), [str(python), *sys.argv])


def free_port(ports=iter(range(11000 + os.getpid() % 900 * 20, 32000))):
    """A port outside the range from which the system takes ports for outgoing connections."""
    for port in ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise SystemExit("no free port")


def ask(root, key, method, path, body=None, timeout=20):
    """One request; status and JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{root}{path}", data=data, method=method)
    request.add_header("content-type", "application/json")
    if key:
        request.add_header("x-api-key", key)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    return status, json.loads(text) if text else None


def seed(root, key):
    """Something to look at: an asset, a policy, a definition and a data plane of others."""
    address = {"type": "File", "location": str(WEATHER), "format": "csv", "tableName": "weather"}
    policy = {"@type": "Set", "permission": [{"action": "use"}]}
    made = [
        ask(root, key, "POST", "/v3/assets", {"@id": "weather", "properties": {}, "dataAddress": address}),
        ask(root, key, "POST", "/v3/policydefinitions", {"@id": "open", "policy": policy}),
        ask(
            root,
            key,
            "POST",
            "/v3/contractdefinitions",
            {"@id": "offer", "accessPolicyId": "open", "contractPolicyId": "open", "assetsSelector": []},
        ),
    ]
    plane = {"dataplaneId": "plane", "endpoint": "http://localhost:1", "profiles": ["HttpData-PULL"]}
    made.append(ask(root, key, "PUT", "/v3/dataplanes", plane))
    served = {"@id": "served", "properties": {}, "dataAddress": {"type": "DataPlane", "dataplaneId": "plane"}}
    made.append(ask(root, key, "POST", "/v3/assets", served))
    check("what there is to look at is made", all(status == 200 for status, _ in made), made)


def look_at_the_stream(root, key):
    """The stream tells of what has happened."""
    request = urllib.request.Request(f"{root}{STREAM}?after=0", headers={"x-api-key": key})
    with urllib.request.urlopen(request, timeout=20) as answer:
        kind = answer.headers["content-type"]
        lines = [answer.readline().decode().strip() for _ in range(3)]
    event = next((json.loads(line[5:]) for line in lines if line.startswith("data:")), {})
    check("the stream is one of CloudEvents", kind == "text/event-stream" and event.get("specversion") == "1.0", lines)


def fuzz(root, key, dir):
    """Every operation, as the document has it and as it has it not."""
    report = dir / "junit.xml"
    command = [str(pathlib.Path(sys.executable).parent / "schemathesis"), "run", f"{root}/v3/openapi.json"]
    command += ["--header", f"X-Api-Key: {key}", "--checks", CHECKS, "--max-examples", str(EXAMPLES)]
    command += ["--phases", "examples,coverage,fuzzing,stateful", "--seed", "1", "--request-timeout", "30", "--no-shrink"]
    command += ["--exclude-path", STREAM, "--warnings", "off", "--continue-on-failure"]
    command += ["--suppress-health-check", "all", "--report", "junit", "--report-junit-path", str(report)]
    ran = subprocess.run(command, cwd=dir, capture_output=True, text=True, timeout=1200, check=False)
    said = ran.stdout + ran.stderr
    if not report.exists():
        check("schemathesis ran", False, said)
        return
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    for case in cases:
        bad = [f"{part.get('message')} {part.text or ''}" for part in case if part.tag in ("failure", "error")]
        check(case.get("name"), not bad, "\n".join(bad))
    check("schemathesis asked every operation", 35 <= len(cases), len(cases))
    if ran.returncode not in (0, 1):
        check("schemathesis came to an end", False, said)
    if failed and os.environ.get("SHUYU_API_VERBOSE"):
        print(said)


def validate(document):
    """The document is OpenAPI 3.1."""
    from openapi_spec_validator import OpenAPIV31SpecValidator

    errors = [f"{'/'.join(map(str, error.path))}: {error.message}" for error in
              OpenAPIV31SpecValidator(document).iter_errors()]
    check("the document is valid OpenAPI 3.1", document.get("openapi", "").startswith("3.1") and not errors, errors)


def main():
    if not SHUYU:
        raise SystemExit("SHUYU_BIN is not set and `shuyu` is not on the path")
    with_tools()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        dir = scratch / "node"
        public, management, flight = free_port(), free_port(), free_port()
        init = [SHUYU, "init", str(dir), "--name", "api", "--did", f"did:web:localhost%3A{public}", "--role", "holder"]
        init += ["--listen", f"127.0.0.1:{public}", "--management", f"127.0.0.1:{management}"]
        init += ["--flight", f"127.0.0.1:{flight}", "--insecure-loopback"]
        subprocess.run(init, check=True, stdout=subprocess.DEVNULL)
        config = dir / "shuyu.toml"
        config.write_text(config.read_text().replace("signaling = false", "signaling = true"))
        log = open(scratch / "node.log", "wb")
        node = subprocess.Popen([SHUYU, "run", "--dir", str(dir)], stdout=log, stderr=log)
        try:
            root = f"http://127.0.0.1:{management}"
            deadline = time.monotonic() + 60
            while True:
                try:
                    status, document = ask(root, None, "GET", "/v3/openapi.json")
                    break
                except (urllib.error.URLError, ConnectionError):
                    if node.poll() is not None or deadline < time.monotonic():
                        raise SystemExit((scratch / "node.log").read_text(errors="replace")) from None
                    time.sleep(0.05)
            check("the document is there without a key", status == 200, status)
            validate(document)
            add = [SHUYU, "--dir", str(dir), "api-key", "add", "schemathesis", "--role", "operator"]
            key = subprocess.run(add, check=True, capture_output=True, text=True).stdout.strip()
            seed(root, key)
            look_at_the_stream(root, key)
            fuzz(root, key, scratch)
            status, _ = ask(root, key, "GET", "/v3/assets/weather")
            check("the node still answers", status in (200, 404) and node.poll() is None, status)
        finally:
            node.send_signal(signal.SIGTERM)
            try:
                node.wait(timeout=30)
            except subprocess.TimeoutExpired:
                node.kill()
            log.close()
    print(f"api: {passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
