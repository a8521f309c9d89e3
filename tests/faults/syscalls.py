"""Item 1 of the fault tests: an error, or the end, at every file system call of a real program (Tessera's method).

strace counts the calls of each thread, so that `when=K` hits the K-th call of a kind in each thread that makes as many. After
each run the ledger is opened again and checked by itself and by the Go oracle. A failed fsync of the ledger's own files must
have ended the process, with a last line that says so.
"""

import re
import shutil
from pathlib import Path

from common import BASE, FAULT, HANGS, Outcome, base, cannot_trace, copy, heads, judge, last_line, many, run, sample, scratch, tools

CALL = re.compile(r"^(\d+)\s+([a-z0-9_]+)\(")
SYNCS = {"fsync", "fdatasync", "syncfs"}
# What is injected, and into which calls; None is all of them.
FAULTS = {
    "EIO": ("error=EIO", None),
    "KILL": ("signal=KILL", None),
    "ENOSPC": ("error=ENOSPC", {"write", "pwrite64", "openat", "mkdir", "rename", "fallocate", "ftruncate"}),
    "EINTR": ("error=EINTR", {"read", "write", "pwrite64", "pread64", "openat", "fsync", "fdatasync", "syncfs"}),
    # From that call on for good: a disk that has died.
    "DEAD": ("error=EIO", {"write", "fsync", "fdatasync", "openat", "rename", "read"}),
}


def sites(log, place):
    """(call, K) for every K at which the K-th such call of some thread names the ledger's directory."""
    counts, found = {}, {}
    for line in log.read_text(errors="replace").splitlines():
        match = CALL.match(line)
        if not match:
            continue
        thread_call = match.groups()
        counts[thread_call] = counts.get(thread_call, 0) + 1
        if str(place) in line:
            found.setdefault((thread_call[1], counts[thread_call]), line)
    found = {site: line for site, line in found.items() if site[0] != "execve"}
    return sorted(found)


def main(whole):
    outcome = Outcome("syscalls")
    if cannot_trace(outcome):
        return outcome
    with scratch() as directory:
        directory = Path(directory)
        using = tools(directory)
        for kind, options in (("new", ()), ("old", ())):
            start, base_acks = base(directory) if kind == "old" else (None, "")
            first = BASE if kind == "old" else 0
            log, place = directory / "trace", directory / "traced"
            if start:
                copy(start, place)
            run(["strace", "-f", "-y", "-o", log, FAULT, "write", place, first, first + 120, *options])
            jobs = [(fault, call, k) for fault, (_, calls) in FAULTS.items() for call, k in sites(log, place)
                    if calls is None or call in calls]
            shutil.rmtree(place)
            outcome.note(f"{len(jobs)} places on a ledger that is {kind}")

            def work(job):
                return attempt(directory, job, start, base_acks, first, using)

            # Every failed sync is tried in any case: it has a promise of its own.
            always = [job for job in jobs if job[0] == "EIO" and job[1] in SYNCS]
            chosen = jobs if whole else always[:: 1 if kind == "old" else 4] + sample(jobs, 60)
            for job, (error, was_hit) in many(work, sorted(set(chosen))):
                if was_hit:
                    outcome.add(f"{kind} {job}", error)
                else:
                    outcome.skip()
    outcome.report()
    return outcome


def attempt(directory, job, start, base_acks, first, using):
    fault, call, k = job
    place = directory / f"{fault}-{call}-{k}"
    log = place.with_suffix(".trace")
    if start:
        copy(start, place)
    when = f"{k}+" if fault == "DEAD" else str(k)
    inject = f"inject={call}:{FAULTS[fault][0]}:when={when}"
    # With --seccomp-bpf strace 6.1 is faster, and injects errors but no signals.
    quick = [] if fault == "KILL" else ["--seccomp-bpf"]
    command = ["strace", "-f", *quick, "-y", "-o", log, "-e", f"trace={call}", "-e", inject]
    # On a dead disk the ledger goes on trying; from anything else it must recover or end.
    limit = 3 if fault == "DEAD" else 60
    status, acks, said = run([*command, FAULT, "write", place, first, first + 120], timeout=limit)
    traced = log.read_text(errors="replace") if log.exists() else ""
    hits = [line for line in traced.splitlines() if "INJECTED" in line]
    was_hit = bool(hits) or fault == "KILL" and status in (-9, 137)
    error = None
    own = [line for line in hits if str(place) in line and f"{place}/index" not in line]
    if fault in ("EIO", "DEAD") and call in SYNCS and own and (status in (0, HANGS) or "fsync failed" not in last_line(said)):
        error = f"ended with {status}, last line `{last_line(said)}`"
    if status == HANGS and fault != "DEAD":
        error = "hangs"
    if "panicked" in said and "printing to stdout" not in said:
        error = f"panicked: {last_line(said)}"
    seen = heads(place) if place.exists() else []
    error = error or judge(place, base_acks + acks, seen, using)
    shutil.rmtree(place, ignore_errors=True)
    log.unlink(missing_ok=True)
    return error, was_hit
