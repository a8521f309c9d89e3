#!/usr/bin/env python3
"""Fault tests of the evidence ledger. `run.py [--whole] [NAME...]` ends with `faults: N passed, N failed[, N skipped]`.

Without --whole each test takes an even sample of its cases: that is what `./x test` runs. `./x fault ledger` runs everything.
"""

import importlib
import sys
import time

NAMES = ["syscalls", "powercut", "short", "bitflips", "clock", "vectors", "opinions"]


def main():
    names = [arg for arg in sys.argv[1:] if not arg.startswith("-")] or NAMES
    whole = "--whole" in sys.argv
    passed = failed = skipped = 0
    for name in names:
        if name not in NAMES:
            sys.exit(f"no fault test `{name}`; there are {', '.join(NAMES)}")
        begun = time.monotonic()
        outcome = importlib.import_module(name).main(whole)
        print(f"{name}: took {time.monotonic() - begun:.0f} s", flush=True)
        passed, failed, skipped = passed + outcome.passed, failed + outcome.failed, skipped + outcome.skipped
    print(f"faults: {passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
