"""What every compatibility kit needs: its classpath from Maven, a run of its tests, a count of them, and a real node."""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
SHUYU = os.environ.get("SHUYU_BIN") or shutil.which("shuyu")
CACHE = pathlib.Path(os.environ.get("SHUYU_CACHE") or pathlib.Path.home() / ".cache/shuyu") / "conformance"
MAVEN_REPOSITORY = CACHE.parent / "maven"
# A run takes about two minutes; a kit that hangs longer than this is ended and counts as failed.
RUN_TIMEOUT_S = 900
MAVEN_TIMEOUT_S = 600


def say(*words):
    print("==", *words, file=sys.stderr, flush=True)


# --- the kit's classes -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Release:
    """A published kit: its version, what else its `pom.xml` must know, and how many tests it has."""

    kit: str
    settings: dict
    tests: int


class OutOfReach(Exception):
    """The kit cannot be had here."""


def classpath(pom, releases):
    """The first of `releases` that Maven can get: (release, classpath)."""
    if not (shutil.which("mvn") and shutil.which("javac")):  # a JRE alone cannot start `RunKit.java`
        raise OutOfReach("Maven or a JDK is not installed; `./x setup` installs both")
    reasons = []
    for release in releases:
        mark = hashlib.sha256(f"{release}{pom.read_text()}".encode()).hexdigest()[:16]
        known = CACHE / f"{pom.parent.name}-{release.kit}-{mark}.classpath"
        if known.is_file() and all(pathlib.Path(jar).is_file() for jar in known.read_text().split(os.pathsep)):
            return release, known.read_text()
        CACHE.mkdir(parents=True, exist_ok=True)
        versions = [f"-Dkit={release.kit}", *(f"-D{name}={value}" for name, value in release.settings.items())]
        command = ["mvn", "-q", "-B", "-Dstyle.color=never", f"-Dmaven.repo.local={MAVEN_REPOSITORY}", "-f", str(pom)]
        command += ["-Daether.connector.connectTimeout=10000"]
        part = known.with_suffix(f".{os.getpid()}")
        command += [*versions, "dependency:build-classpath", f"-Dmdep.outputFile={part}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=MAVEN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            reasons.append(f"{release.kit}: no answer in {MAVEN_TIMEOUT_S} s")
            continue
        if done.returncode == 0 and part.is_file():
            part.replace(known)
            return release, known.read_text()
        found = re.search(r"\[ERROR\] (.*)", done.stdout)
        reasons.append(f"{release.kit}: {found.group(1)[:300] if found else 'Maven failed'}")
        say(f"Maven cannot get release {release.kit} of the kit")
    raise OutOfReach("Maven cannot get the kit: " + "; ".join(reasons))


# --- a run -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Results:
    """What became of the kit's tests."""

    passed: int = 0
    failed: list = dataclasses.field(default_factory=list)  # (name, message)
    disabled: int = 0


def run(jars, package, properties, logs):
    """Runs every test of `package`."""
    settings, report = logs / "kit.properties", logs / "kit.report"
    escaped = {name: str(value).replace("\\", "\\\\") for name, value in properties.items()}
    settings.write_text("".join(f"{name}={value}\n" for name, value in escaped.items()))
    command = ["java", "-cp", jars, str(HERE / "RunKit.java"), str(settings), package, str(report)]
    with open(logs / "kit.log", "w") as log:
        kit = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            kit.wait(RUN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            say(f"the kit did not end in {RUN_TIMEOUT_S} s")
        finally:
            end(kit)
    results = Results()
    for line in report.read_text().splitlines() if report.is_file() else []:
        match line.split("\t"):
            case ["passed", count]:
                results.passed = int(count)
            case ["disabled", count]:
                results.disabled = int(count)
            case ["failed", name, message]:
                results.failed.append((name, message))
    return results


def tell(kind, release, results, logs):
    """Prints what failed and the closing line; whether all is well."""
    failed = list(results.failed)
    ran = results.passed + len(failed)
    if ran != release.tests:
        failed.append(("the kit as a whole", f"{ran} tests ran, version {release.kit} has {release.tests}"))
    if results.disabled:
        print(f"{results.disabled} tests are disabled by the kit itself")
    for name, message in failed:
        print(f"FAIL {name}: {message[:1500]}")
    if failed:
        print(f"logs of the kit, the node and the controller: {logs}")
    print(f"tck {kind}: {results.passed} passed, {len(failed)} failed", flush=True)
    return not failed


def skipped(kind, reason, count):
    """Prints that nothing ran, and why."""
    print(f"tck {kind}: skipped: {reason}")
    print(f"tck {kind}: 0 passed, 0 failed, {count} skipped", flush=True)


# --- a node ----------------------------------------------------------------------------------------------------------


def free_port(ports=iter(range(12000 + os.getpid() % 900 * 20, 32000))):
    """A port outside the range from which the system takes ports for outgoing connections."""
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise OSError("no free port")


def end(process):
    """Ends a process of ours and everything it started."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            process.kill()
            process.wait()


class Refused(Exception):
    """The management API answered with an error."""

    def __init__(self, status, text):
        super().__init__(f"{status}: {text}")
        self.status = status


class Node:
    """A real node process behind the public address `public_url`, driven over its management API."""

    def __init__(self, directory, did, public_url):
        self.directory, self.did, self.public_url = pathlib.Path(directory), did, public_url
        self.public, self.management, flight = free_port(), free_port(), free_port()
        sockets = {"--listen": self.public, "--management": self.management, "--flight": flight}
        addresses = [word for name, port in sockets.items() for word in (name, f"127.0.0.1:{port}")]
        roles = ["--role", "holder", "--role", "consumer"]
        self.shuyu("init", directory, "--name", "under test", "--did", did, *roles, "--insecure-loopback",
                   "--public-url", public_url, *addresses)
        self.key = (self.directory / "management.key").read_text().strip()
        self.process = None

    def start(self, log):
        with open(log, "w") as out:
            command = [SHUYU, "run", "--dir", str(self.directory)]
            self.process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        self.shuyu("--dir", self.directory, "status", "--wait", 60)

    def stop(self):
        if self.process:
            end(self.process)

    @staticmethod
    def shuyu(*arguments):
        done = subprocess.run([SHUYU, *map(str, arguments)], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"shuyu {' '.join(map(str, arguments))}: exit code {done.returncode}\n{done.stderr}")

    def request(self, path):
        url = f"http://127.0.0.1:{self.management}/v1/{path}"
        return urllib.request.Request(url, headers={"Authorization": f"Bearer {self.key}"})

    def get(self, path):
        return self._send(self.request(path))

    def post(self, path, body):
        request = self.request(path)
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
        return self._send(request)

    def wait(self, collection, id, states):
        """The process once it is in one of `states`, or an error after 30 seconds."""
        path = f"{collection}/{urllib.parse.quote(id, safe='')}"
        found = self.get(f"{path}?wait={states}&timeout_s=30")
        if found["state"] not in states.split(","):
            raise RuntimeError(f"{path} is {found['state']}, not {states}: {found.get('error')}")
        return found

    @staticmethod
    def _send(request):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise Refused(error.code, error.read().decode(errors="replace")) from None


class Logs:
    """A directory of logs that is kept when something went wrong."""

    def __init__(self, kind):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix=f"shuyu-tck-{kind}."))

    def drop(self):
        shutil.rmtree(self.path, ignore_errors=True)
