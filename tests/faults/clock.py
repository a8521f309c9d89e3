"""Item 5 of the fault tests: clocks that jump by a year, stand still, or sit on a leap second (Debian's libfaketime).

The log has no times of its own; the program must neither hang, nor lose, nor contradict itself. That no witness cosigns with an
earlier time than before, and what a promise says then, are tests of their own (`existed_by` and the witness scenarios).
"""

import shutil
from pathlib import Path

from common import FAULT, Outcome, base, heads, judge, last_line, run, scratch, tools

CLOCKS = ["+365d", "-365d", "2026-11-22 12:00:00", "2016-12-31 23:59:60", "1970-01-01 00:00:00", "+0 x1000", "+70y"]


def main(whole):
    outcome = Outcome("clock")
    if not shutil.which("faketime"):
        outcome.skip(len(CLOCKS))
        outcome.report()
        return outcome
    with scratch() as directory:
        using = tools(Path(directory))
        place, acks = base(directory, "--twin")
        env = {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        first = 250
        for clock in CLOCKS:
            before = heads(place)
            status, more, said = run(["faketime", "-f", clock, FAULT, "write", place, first, first + 40, "--twin"], env=env)
            first, acks = first + 40, acks + more
            error = f"ended with {status}: {last_line(said)}" if status else None
            # The older heads are held against what the log is now: it must only have grown.
            copied = Path(directory) / "judged"
            shutil.copytree(place, copied)
            outcome.add(clock, error or judge(copied, acks, before + heads(place), using, ["--twin"]))
            shutil.rmtree(copied)
    outcome.report()
    return outcome
