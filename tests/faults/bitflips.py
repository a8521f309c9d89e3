"""Item 4 of the fault tests: one flipped bit in every file of a ledger, index included.

`ledger_fault flips` flips, opens, looks for every entry, appends one and verifies. Each bit is harmless, or found with the name
of the file. Without --whole about 200 bytes of the 170,000 are tried.
"""

import re
from pathlib import Path

from common import FAULT, Outcome, base, last_line, many, run, scratch

LINE = re.compile(r"^(\S+): (\d+) (Harmless|RefusedAtStart|FoundByVerify|NotFound)$", re.M)


def main(whole):
    outcome = Outcome("bitflips")
    with scratch() as directory:
        directory = Path(directory)
        place, _ = base(directory, count=270)
        step = 2 if whole else 1600
        fates = {}

        def work(phase):
            return run([FAULT, "flips", place, directory / f"flipped-{phase}", step, phase], timeout=24 * 3600)

        for phase, (status, out, said) in many(work, [0, 1 if whole else step // 2]):
            for part, count, fate in LINE.findall(out):
                fates[(part, fate)] = fates.get((part, fate), 0) + int(count)
                if fate != "NotFound":
                    outcome.passed += int(count)
            for line in out.splitlines():
                if " byte " in line:
                    outcome.add(line, "neither found by name nor harmless")
            if status and not LINE.search(out):
                outcome.add(f"phase {phase}", last_line(said))
        outcome.note(", ".join(f"{part} {count} {fate}" for (part, fate), count in sorted(fates.items())))
    outcome.report()
    return outcome
