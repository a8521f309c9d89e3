"""Second opinions on a whole log: three programs that share no code with ours read it from a plain web server.

The served directory alone, behind `python -m http.server`, is a complete read API. Go's checksum database code, Tessera's fsck,
the Python package aics-tlog and our own command accept a log of more than 65,536 entries (three levels of tiles, full and
partial), and each of them rejects it with one byte of any kind of file flipped.
"""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

from common import FAULT, ROOT, SHUYU, Outcome, last_line, run, scratch, tools

SIZE = 70_300
# One of each kind of file that a log of that size has.
FILES = ["checkpoint", "tile/entries/000", "tile/entries/200", "tile/entries/274.p/156", "tile/0/123", "tile/0/274.p/156",
         "tile/1/000", "tile/1/001.p/18", "tile/2/000.p/1"]
AICS = """
import sys
from aics_tlog.checkpoint import verify_checkpoint
from aics_tlog.note import parse_note, parse_vkey
from aics_tlog.remote import HttpTileReader
from aics_tlog.verified import audit_tiles
url, vkey = sys.argv[1:]
reader = HttpTileReader([url])
head = verify_checkpoint(parse_note(reader.read_checkpoint()), parse_vkey(vkey))
if not head.ok:
    sys.exit(f"checkpoint: {head}")
report = audit_tiles(reader, head.size, head.root)
print(f"holds: {report}")
"""


def programs(directory):
    oracle, vkey = tools(directory)
    fsck = directory / "fsck"
    status, _, said = run(["go", "-C", ROOT / "tests/oracles/go-tessera", "build", "-o", fsck, "./fsck"], timeout=600)
    if status:
        sys.exit(f"go build failed: {said}")
    return {
        "Go sumdb": lambda served, url: [oracle, served, vkey],
        "Tessera fsck": lambda served, url: [fsck, url, vkey],
        "aics-tlog (Python)": lambda served, url: [sys.executable, "-c", AICS, url, vkey],
        "shuyu ledger verify": lambda served, url: [SHUYU, "ledger", "verify", url, "--vkey", vkey],
    }


def web_server(served):
    child = subprocess.Popen([sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", served],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    port = re.search(r"port (\d+)", child.stdout.readline()).group(1)
    return child, f"http://127.0.0.1:{port}/"


def main(whole):
    outcome = Outcome("opinions")
    with scratch() as directory:
        directory = Path(directory)
        judges = programs(directory)
        place = directory / "base"
        status, _, said = run([FAULT, "write", place, 0, SIZE, "--group", 8192])
        if status:
            sys.exit(f"cannot make a ledger: {said}")
        served = place / "tlog"
        server, url = web_server(served)
        try:
            for name, command in judges.items():
                status, out, said = run(command(served, url), timeout=300)
                outcome.add(f"{name} accepts", f"ended with {status}: {last_line(out + said)}" if status else None)
            for file in FILES if whole else ["checkpoint", "tile/entries/200", "tile/1/000"]:
                path = served / file
                good = path.read_bytes()
                path.write_bytes(flip(file, good))
                for name, command in judges.items():
                    status, out, said = run(command(served, url), timeout=300)
                    outcome.add(f"{name} rejects {file}", "accepted it" if status == 0 else None)
                path.write_bytes(good)
        finally:
            server.kill()
            server.wait()
        outcome.add("SM3 twin by hashlib", twin(directory))
    outcome.report()
    return outcome


def flip(file, good):
    # Of a checkpoint the root: what is behind the Ed25519 line is not theirs to judge.
    at = good.index(b"\n", good.index(b"\n") + 1) + 9 if file == "checkpoint" else len(good) // 2
    return good[:at] + bytes([good[at] ^ 1]) + good[at + 1:]


def twin(directory):
    """The root of the twin by Python's hashlib (OpenSSL) over its own entry bundles, and with one byte flipped."""
    place = directory / "twin"
    status, _, said = run([FAULT, "write", place, 0, 600, "--group", 300, "--twin"])
    if status:
        return said
    served = place / "tlog-sm3"
    head = (served / "checkpoint").read_bytes().split(b"\n")
    entries = []
    for name in ("000", "001", "002.p/88"):
        data = (served / "tile/entries" / name).read_bytes()
        while data:
            length = int.from_bytes(data[:2], "big")
            entries.append(data[2:2 + length])
            data = data[2 + length:]
    import base64
    signed = base64.b64decode(head[2])
    if len(entries) != 600 or sm3_root(entries) != signed:
        return "another root"
    entries[321] = bytes([entries[321][0] ^ 1]) + entries[321][1:]
    return "a flipped byte gives the same root" if sm3_root(entries) == signed else None


def sm3_root(entries):
    hashed = lambda *parts: hashlib.new("sm3", b"".join(parts)).digest()

    def root(leaves):
        if len(leaves) == 1:
            return leaves[0]
        k = 1 << (len(leaves) - 1).bit_length() - 1
        return hashed(b"\1", root(leaves[:k]), root(leaves[k:]))

    return root([hashed(b"\0", entry) for entry in entries])
