"""Runs every `sh` block of the guides as written, in an empty directory, and stops at the first that fails.

Usage: run.py [GUIDE...]; SHUYU_BIN names the command. Ends with `guides: N passed, N failed`, a guide each.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

REPO = pathlib.Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.M | re.S)


def run(guide: pathlib.Path) -> bool:
    blocks = BLOCK.findall(guide.read_text(encoding="utf-8"))
    work = pathlib.Path(tempfile.mkdtemp(prefix="shuyu-guide."))
    # One shell for all of them, so that variables last; each block is named before it runs.
    script = "set -eu\n" + "".join(
        f"echo '## block {number}' >&2\n{block}" for number, block in enumerate(blocks, 1)
    )
    (work / ".guide.sh").write_text(script, encoding="utf-8")
    command = pathlib.Path(os.environ.get("SHUYU_BIN", "shuyu")).resolve()
    bin_dir = work / ".bin"
    bin_dir.mkdir()
    (bin_dir / "shuyu").symlink_to(command)
    env = {**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}", "repo": str(REPO)}
    env.pop("SHUYU_DIR", None)
    with open(work / ".out", "wb") as out:
        shell = subprocess.Popen(
            ["bash", ".guide.sh"], cwd=work, env=env, stdout=out, stderr=out, start_new_session=True
        )
        try:
            code = shell.wait(timeout=600)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            # The nodes it started are of its session.
            try:
                os.killpg(shell.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    text = (work / ".out").read_text(encoding="utf-8", errors="replace")
    if code != 0:
        print(f"--- {guide.name}: exit code {code}\n" + "\n".join(text.splitlines()[-60:]))
        for log in sorted(work.glob("*.log")):
            print(f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:]))
    else:
        print(f"{guide.name}: {len(blocks)} blocks ran")
    shutil.rmtree(work, ignore_errors=True)
    return code == 0


def main() -> int:
    guides = [pathlib.Path(name) for name in sys.argv[1:]] or [
        guide for guide in sorted((REPO / "docs/guides").glob("*.md")) if "```sh" in guide.read_text(encoding="utf-8")
    ]
    results = [run(guide) for guide in guides]
    print(f"guides: {sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
