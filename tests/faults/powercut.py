"""Item 2 of the fault tests: a power cut at any moment, by a model of the disk.

One run is recorded with every byte it writes. From the record the disk is built as a power cut could have left it after any
call: `lost` has what was synced and no more, `torn` has for each unsynced sector and each unsynced name the old or the new, and
`liar` is a disk that acknowledged the last sync of the entries and did not do it. After the cut the ledger is opened: what was
acknowledged is there, and what was signed is not contradicted. On the lying disk it may also refuse, but never sign less.

The index is left as it was before the run, or away: RocksDB has tests of its own.
"""

import random
import re
import shutil
from pathlib import Path

from common import BASE, FAULT, Outcome, base, cannot_trace, copy, judge, last_line, many, run, sample, scratch, tools

LINE = re.compile(r"^(\d+)\s+(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)$", re.S)
TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"|<((?:\\x[0-9a-f]{2})+)>')
RESULT = re.compile(r"=\s+(-?\d+)\S*(?:\s.*)?$")
CALLS = "write,pwrite64,ftruncate,fsync,fdatasync,syncfs,rename,mkdir,unlink,rmdir,openat,lseek,fallocate"
SECTOR = 512


class File:
    def __init__(self, data=b""):
        self.data, self.synced, self.before = bytearray(data), bytes(data), bytes(data)

    def sync(self):
        self.before, self.synced = self.synced, bytes(self.data)


class Disk:
    """What is in the cache and what is on the disk, below one directory."""

    def __init__(self, root, start):
        self.root = root
        self.names, self.durable, self.dirs, self.durable_dirs = {}, {}, {""}, {""}
        self.offsets, self.acks = {}, ""
        for path in sorted(start.rglob("*")) if start else []:
            name = str(path.relative_to(start))
            if name.startswith("index"):
                continue
            if path.is_dir():
                self.dirs.add(name)
            else:
                self.names[name] = File(path.read_bytes())
        self.durable, self.durable_dirs = dict(self.names), set(self.dirs)

    def own(self, path):
        """The name below the root, or None for what is not the ledger's."""
        if path == self.root:
            return ""
        name = path[len(self.root) + 1:] if path.startswith(self.root + "/") else None
        return None if name is None or name.startswith("index") else name

    def sync_dir(self, name):
        inside = lambda one: one.rpartition("/")[0] == name
        self.durable = {k: v for k, v in self.durable.items() if not inside(k)}
        self.durable.update({k: v for k, v in self.names.items() if inside(k)})
        self.durable_dirs |= {one for one in self.dirs if inside(one)}

    def apply(self, call, texts, rest, fd):
        """One call that succeeded; returns whether it changed anything."""
        if call in ("write", "pwrite64") and fd == "1":
            self.acks += texts[-1].decode()
            return True
        name = self.own(texts[0].decode()) if texts else None
        if call == "openat":
            opened = self.own(texts[-1].decode())
            if opened is None or opened in self.dirs:
                return False
            self.offsets[RESULT.search(rest).group(1)] = 0
            if "O_CREAT" in rest and opened not in self.names:
                self.names[opened] = File()
                return True
            if "O_TRUNC" in rest:
                self.names[opened].data = bytearray()
            return "O_TRUNC" in rest
        if name is None:
            return False
        if call == "lseek":
            self.offsets[fd] = int(RESULT.search(rest).group(1))
        elif call == "write":
            file, at = self.names[name], self.offsets.get(fd, 0)
            file.data[at:at + len(texts[1])] = texts[1]
            self.offsets[fd] = at + len(texts[1])
        elif call == "ftruncate":
            size = int(re.search(r", (\d+)\)", rest).group(1))
            del self.names[name].data[size:]
        elif call in ("fsync", "fdatasync"):
            if name in self.dirs:
                self.sync_dir(name)
            else:
                self.names[name].sync()
        elif call == "syncfs":
            for file in self.names.values():
                file.sync()
            self.durable, self.durable_dirs = dict(self.names), set(self.dirs)
        elif call == "rename":
            self.names[self.own(texts[1].decode())] = self.names.pop(name)
        elif call in ("mkdir", "rmdir"):
            (self.dirs.add if call == "mkdir" else self.dirs.discard)(name)
        elif call == "unlink":
            self.names.pop(name, None)
        else:
            raise ValueError(f"unexpected call {call}")
        return call != "lseek"

    def cut(self, how, seed):
        """What a power cut leaves, as {name: bytes}."""
        dice = random.Random(seed)
        names, left = dict(self.durable), {}
        if how == "torn":
            for name in sorted(set(self.names) | set(self.durable)):
                if self.names.get(name) is not self.durable.get(name) and dice.random() < 0.5:
                    if name in self.names:
                        names[name] = self.names[name]
                    else:
                        names.pop(name)
        for name, file in names.items():
            left[name] = file.synced
            if how == "torn":
                left[name] = torn(file.synced, bytes(file.data), dice)
            if how == "liar" and name.startswith("segments/"):
                left[name] = file.before
        return left

    def head(self):
        """The checkpoint that anybody could have fetched."""
        shown = self.names.get("tlog/checkpoint")
        return bytes(shown.data) if shown and shown.data.count(b"\n") > 3 else None


def torn(old, new, dice):
    parts = []
    for at in range(0, max(len(old), len(new)), SECTOR):
        parts.append((new if dice.random() < 0.5 else old)[at:at + SECTOR])
        if not parts[-1]:
            # Behind the end of the file: a hole where something follows, nothing where nothing does.
            parts[-1] = bytes(min(SECTOR, max(len(old), len(new)) - at)) if dice.random() < 0.5 else b""
            if not parts[-1]:
                break
    return b"".join(parts)


def events(log):
    """(call, texts, rest, fd) of every call that succeeded, in the order in which they ended."""
    begun = {}
    for line in log.read_text(errors="replace").splitlines():
        match = LINE.match(line)
        if not match:
            continue
        thread, resumed, call, rest = match.groups()
        if line.endswith("<unfinished ...>"):
            begun[thread] = rest
            continue
        if resumed:
            call, rest = resumed, begun.pop(thread, "") + rest
        result = RESULT.search(rest)
        if not result or int(result.group(1)) < 0:
            continue
        texts = [bytes.fromhex((a or b).replace("\\x", "")) for a, b in TEXT.findall(rest.rpartition(" = ")[0])]
        yield call, texts, rest, re.match(r"\d*", rest).group(0)


def main(whole):
    outcome = Outcome("powercut")
    if cannot_trace(outcome):
        return outcome
    with scratch() as directory:
        directory = Path(directory)
        using = tools(directory)
        start, base_acks = base(directory)
        log, place = directory / "trace", directory / "traced"
        copy(start, place)
        command = ["strace", "-f", "-y", "-xx", "-s", 1 << 20, "-o", log, "-e", f"trace={CALLS}", "-P", "/"]
        status, _, said = run([*command[:-2], FAULT, "write", place, BASE, BASE + 120])
        if status:
            outcome.add("the recorded run", last_line(said))
        shutil.rmtree(place)
        everything = list(events(log))
        moments, disk = [], Disk(str(place), start)
        for at, event in enumerate(everything):
            if disk.apply(*event):
                moments.append(at)
        outcome.note(f"{len(moments)} moments")
        if disk.acks.count("ack") != 120:
            outcome.add("the record", f"has {disk.acks.count('ack')} acknowledgements")
        jobs = [(at, how) for at in moments for how in ("lost", "torn", "liar")]
        rounds = range(8) if whole else range(1)
        jobs = sample([(at, how, seed) for seed in rounds for at, how in jobs if seed == 0 or how == "torn"],
                      None if whole else 150)

        def work(job):
            return attempt(directory, str(place), start, base_acks, everything, job, using)

        for job, error in many(work, jobs):
            outcome.add(str(job), error)
    outcome.report()
    return outcome


def attempt(directory, root, start, base_acks, everything, job, using):
    at, how, seed = job
    disk = Disk(root, start)
    for event in everything[:at + 1]:
        disk.apply(*event)
    place = directory / f"cut-{at}-{how}-{seed}"
    for name in disk.durable_dirs:
        (place / name).mkdir(parents=True, exist_ok=True)
    for name, data in disk.cut(how, f"{at}/{seed}").items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    if at % 2:
        copy(start / "index", place / "index")
    head = disk.head()
    seen = [(int(head.split(b"\n")[1]), head)] if head else []
    error = judge(place, base_acks + disk.acks, seen, using)
    # A disk that lies takes entries with it; the ledger must say so before it signs, or miss nothing that was signed.
    if how == "liar" and error and "check ended with 2" in error and "was signed" in error:
        error = None
    elif how == "liar" and error and "is outside the log" in error:
        # Acknowledged and lost, but no checkpoint covered it: nobody can know here.
        error = None
    shutil.rmtree(place, ignore_errors=True)
    return error
