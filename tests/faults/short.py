"""Item 1, what strace cannot inject: short writes and reads, interrupted calls, and disks that fill up at every size."""

import os
import shutil
from pathlib import Path

from common import BASE, FAULT, ROOT, Outcome, base, copy, heads, judge, last_line, run, sample, scratch, tools


def main(whole):
    outcome = Outcome("short")
    with scratch() as directory:
        directory = Path(directory)
        using = tools(directory)
        start, base_acks = base(directory)
        shim = directory / "short.so"
        status, _, said = run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, ROOT / "tests/faults/short.c", "-ldl"])
        if status:
            outcome.add("the shim", last_line(said))
        for options in ((), ("--twin",)):
            place = copy(start, directory / f"halved{len(options)}")
            env = {"LD_PRELOAD": str(shim)}
            status, acks, said = run([FAULT, "write", place, BASE, BASE + 120, *options], env=env)
            error = f"ended with {status}: {last_line(said)}" if status else None
            outcome.add(f"halved and interrupted {options}", error or judge(place, base_acks + acks, heads(place), using, options))
        full(outcome, directory, start, base_acks, using, whole)
    outcome.report()
    return outcome


def full(outcome, directory, start, base_acks, using, whole):
    """A file system of every size between too small for the first entry and large enough for all."""
    if os.geteuid() != 0:
        return outcome.skip()
    used = sum(path.stat().st_size // 4096 + 1 for path in start.rglob("*") if path.is_file()) * 4 + 60
    for size_kb in sample(range(used, used + 600, 8), None if whole else 12):
        disk = directory / f"disk-{size_kb}"
        disk.mkdir()
        if run(["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", disk])[0]:
            return outcome.skip()
        try:
            try:
                place = copy(start, disk / "ledger")
            except (OSError, shutil.Error):
                continue
            status, acks, said = run([FAULT, "write", place, BASE, BASE + 120], timeout=5)
            error = f"panicked: {last_line(said)}" if "panicked" in said else None
            run(["mount", "-o", "remount,size=64m", disk])
            outcome.add(f"{size_kb} kB", error or judge(place, base_acks + acks, heads(place), using))
        finally:
            run(["umount", "--lazy", disk])
    return None
