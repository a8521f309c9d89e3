"""What the fault tests share: the program under test, the checkers, and how outcomes are counted."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = Path(os.environ.get("SHUYU_CACHE", Path.home() / ".cache/shuyu"))
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", CACHE / "target"))
FAULT = TARGET / "debug/examples/ledger_fault"
SHUYU = Path(os.environ.get("SHUYU_BIN", TARGET / "debug/shuyu"))
# Entries that every damaged ledger starts with, and up to which it is written; entry 256 completes a tile.
BASE, END = 250, 370


class Outcome:
    """Counts and the first few failures of one test."""

    def __init__(self, name):
        self.name, self.passed, self.failed, self.skipped, self.notes = name, 0, 0, 0, []

    def add(self, what, error):
        if error is None:
            self.passed += 1
        else:
            self.failed += 1
            if self.failed <= 20:
                print(f"FAILED {self.name}: {what}: {error}", flush=True)

    def skip(self, count=1):
        self.skipped += count

    def note(self, text):
        self.notes.append(text)

    def report(self):
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        notes = "".join(f"; {note}" for note in self.notes)
        print(f"{self.name}: {self.passed} passed, {self.failed} failed{skipped}{notes}", flush=True)


def cannot_trace(outcome):
    """Where strace is missing or may not trace, as in some containers, the test is counted as skipped."""
    if shutil.which("strace") and run(["strace", "-f", "-o", os.devnull, "true"])[0] == 0:
        return False
    outcome.note("strace may not trace here")
    outcome.skip()
    outcome.report()
    return True


HANGS = 124


def run(command, stdin="", env=None, timeout=120):
    """Runs to the end, or for `timeout` seconds (then the status is HANGS); returns (status, stdout, stderr)."""
    child = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, errors="replace", env=dict(os.environ, **(env or {})),
                             start_new_session=True)
    try:
        out, said = child.communicate(stdin, timeout=timeout)
        return child.returncode, out, said
    except subprocess.TimeoutExpired:
        # The whole group: what strace traces would go on without it.
        os.killpg(child.pid, signal.SIGKILL)
        out, said = child.communicate()
        return HANGS, out, said


def last_line(text):
    return (text.strip().splitlines() or [""])[-1][:400]


def scratch():
    return tempfile.TemporaryDirectory(prefix="shuyu-fault-", dir=os.environ.get("SHUYU_FAULT_DIR"))


def tools(directory):
    """Builds the Go oracle once; returns what `judge` needs."""
    oracle = Path(directory) / "go-tlog"
    status, _, said = run(["go", "-C", ROOT / "tests/oracles/go-tlog", "build", "-o", oracle, "."], timeout=600)
    if status:
        sys.exit(f"go build failed: {said}")
    return oracle, run([FAULT, "vkey"])[1].strip()


def base(directory, *options, count=BASE):
    """A ledger of `count` entries in DIRECTORY/base; returns it and the acknowledgements."""
    place = Path(directory) / "base"
    status, acks, said = run([FAULT, "write", place, 0, count, *options])
    if status:
        sys.exit(f"cannot make a ledger: {said}")
    return place, acks


def heads(place):
    """The signed heads that are in a ledger directory, as (size, bytes); the largest last."""
    found = []
    for name in ("high-water", "tlog/checkpoint"):
        path = Path(place) / name
        if path.exists():
            data = path.read_bytes()
            found.append((int(data.split(b"\n")[1]), data))
    return sorted(found)


def judge(place, acks, seen, using, options=()):
    """After a restart: every acknowledged entry is there, every file holds, nothing signed before is contradicted.

    `seen` are heads that were signed before. Returns what is wrong, or None."""
    oracle, vkey = using
    status, _, said = run([FAULT, "check", place, *options], stdin=acks)
    if status:
        return f"check ended with {status}: {last_line(said)}"
    for size, data in seen:
        older = Path(place).with_suffix(f".older-{size}")
        older.write_bytes(data)
        status, out, said = run([oracle, Path(place) / "tlog", vkey, older])
        older.unlink()
        if status:
            return f"the Go oracle ended with {status}: {last_line(out + said)}"
    return None


def many(work, jobs):
    """Runs `work` for every job, two at a time; yields (job, result) in their order."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield from zip(jobs, pool.map(work, jobs))


def sample(everything, wanted):
    """About `wanted` of them, evenly spread; None takes all."""
    everything = list(everything)
    if wanted is None or len(everything) <= wanted:
        return everything
    step = len(everything) / wanted
    return [everything[int(at * step)] for at in range(wanted)]


def copy(source, target):
    shutil.copytree(source, target)
    return target
