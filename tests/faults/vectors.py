"""Item 7 of the fault tests: public vectors of Merkle proofs, and proofs damaged by their recipe, judged twice.

The vectors are `testdata/` of github.com/transparency-dev/merkle, where `./x setup` could fetch it. The damaged proofs are made
here, and judged by that module's released code (Go module v0.0.2) and by ours; the two must say the same.
"""

import base64
import hashlib
import json
import random
from pathlib import Path

from common import CACHE, ROOT, TARGET, Outcome, run, scratch

OURS = TARGET / "debug/examples/merkle_verdict"
EMPTY = hashlib.sha256(b"").digest()


def leaf(data):
    return hashlib.sha256(b"\0" + data).digest()


def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def root(leaves):
    if len(leaves) < 2:
        return leaves[0] if leaves else EMPTY
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return node(root(leaves[:k]), root(leaves[k:]))


def inclusion(at, leaves):
    if len(leaves) < 2:
        return []
    k = 1 << (len(leaves) - 1).bit_length() - 1
    if at < k:
        return inclusion(at, leaves[:k]) + [root(leaves[k:])]
    return inclusion(at - k, leaves[k:]) + [root(leaves[:k])]


def consistency(old, leaves, whole=True):
    if old == len(leaves):
        return [] if whole else [root(leaves)]
    k = 1 << (len(leaves) - 1).bit_length() - 1
    if old <= k:
        return consistency(old, leaves[:k], whole) + [root(leaves[k:])]
    return consistency(old - k, leaves[k:], False) + [root(leaves[:k])]


def line(kind, a, b, first, second, path):
    word = lambda data: data.hex() or "-"
    return " ".join([kind, str(a), str(b), word(first), word(second), *map(word, path)])


def damaged(kind, a, b, first, second, path, dice):
    """The recipe of the public vectors: other numbers, other roots, garbage before and behind, lost and changed hashes."""
    yield line(kind, a, b, first, second, path)
    for c, d in ((a + 1, b), (a - 1, b), (a ^ 2, b), (a, b * 2), (a, b // 2), (a, b + 1), (b, a), (0, 0), (a, 2**63)):
        if 0 <= c and 0 <= d:
            yield line(kind, c, d, first, second, path)
    noise = dice.randbytes(32)
    for one, two in ((noise, second), (first, noise), (second, first), (first, b""), (EMPTY, second)):
        yield line(kind, a, b, one, two, path)
    for extra in (b"", noise, first, second):
        yield line(kind, a, b, first, second, [*path, extra])
        yield line(kind, a, b, first, second, [extra, *path])
    for at in range(len(path)):
        changed = bytes([path[at][0] ^ 16]) + path[at][1:]
        yield line(kind, a, b, first, second, path[:at] + [changed] + path[at + 1:])
        yield line(kind, a, b, first, second, path[:at] + path[at + 1:])
        yield line(kind, a, b, first, second, path[:at] + [path[at], path[at]] + path[at + 1:])
    yield line(kind, a, b, first, second, path[::-1])


def made(whole):
    dice = random.Random(7)
    for size in range(0, 130 if whole else 34):
        leaves = [leaf(str(n).encode()) for n in range(size)]
        top = root(leaves)
        for at in {0, 1, size // 2, size - 1, dice.randrange(size)} if size else ():
            if at < size:
                yield from damaged("inclusion", at, size, leaves[at], top, inclusion(at, leaves), dice)
        for old in {1, size // 2, size - 1, size, dice.randrange(size + 1)}:
            if 0 < old <= size:
                yield from damaged("consistency", old, size, root(leaves[:old]), top, consistency(old, leaves), dice)


def verdicts(program, lines):
    status, out, said = run([program], stdin="".join(f"{one}\n" for one in lines), timeout=600)
    found = out.split()
    return found if status == 0 and len(found) == len(lines) else [f"ended with {status}: {said[-200:]}"] * len(lines)


def expected(one):
    """What we must say. Some vectors accept roots that are no hashes, or any root for that of the empty tree; we never do."""
    text = lambda name: base64.b64decode(one.get(name) or "")
    is_loose = "root1" in one and (len(text("root1")) != 32 or len(text("root2")) != 32)
    is_empty = "root1" in one and 0 in (one.get("size2"), one.get("size")) and text("root2") != EMPTY
    return "no" if one["wantErr"] or is_loose or is_empty else "ok"


def published(directory):
    """(file, line, expected) of every public vector of the two kinds."""
    text = lambda value: base64.b64decode(value) if value else b""
    for file in sorted(directory.rglob("*.json")):
        one = json.loads(file.read_text())
        path = [text(hash) for hash in one.get("proof") or []]
        # Proofs of subtrees (a later draft) that begin at 0 are ordinary ones; the others are not ours to judge.
        if "leafHash" in one and not one.get("start"):
            at, size = one.get("leafIdx", one.get("leafIndex")), one.get("treeSize", one.get("end"))
            yield file, line("inclusion", at, size, text(one["leafHash"]), text(one["root"]), path), expected(one)
        elif "root1" in one and not one.get("start"):
            old, new = one.get("size1", one.get("end")), one.get("size2", one.get("size"))
            yield file, line("consistency", old, new, text(one["root1"]), text(one["root2"]), path), expected(one)


def main(whole):
    outcome = Outcome("vectors")
    with scratch() as directory:
        theirs = Path(directory) / "merkle"
        status, _, said = run(["go", "-C", ROOT / "tests/oracles/go-tessera", "build", "-o", theirs, "./merkle"], timeout=600)
        outcome.add("the Go verifier", said if status else None)
        # The released Go code takes any root for that of the empty tree (mended since, transparency-dev/merkle#236).
        lines = [one for one in made(whole) if not one.startswith("consistency 0 ")]
        for one, ours, other in zip(lines, verdicts(OURS, lines), verdicts(theirs, lines)):
            outcome.add(one, None if ours == other else f"ours says {ours}, Go says {other}")
        outcome.note(f"{len(lines)} proofs judged by both")
    public = list(published(CACHE / "data/merkle-testdata"))
    for (file, _, wanted), ours in zip(public, verdicts(OURS, [one for _, one, _ in public])):
        outcome.add(file, None if ours == wanted else f"ours says {ours}, the vector {wanted}")
    if public:
        outcome.note(f"{len(public)} public vectors")
    else:
        outcome.skip()
        outcome.note("no public vectors: `./x setup` could not fetch them")
    outcome.report()
    return outcome
