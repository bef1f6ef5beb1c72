"""Check what is in the repository: no binaries, nothing large, nothing that ties it to one place.

A clone must work wherever its registries are: their addresses belong to a machine's configuration,
so no committed file names one. Neither do folders of the machines this was written on belong here.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 1_000_000
# Written so that this file does not find itself.
HOSTS = re.compile(
    r"""
    (?: [a-z0-9-]+ \. )* (?: py[p]i | pythonho[s]ted | npm[j]s | cr[a]tes ) \. (?: org | io | com )
    | (?: pr[o]xy | s[u]m ) \. golang \. org
    | repo1? \. maven \. [a-z.]+
    | (?: d[e]b | s[e]curity | ftp ) \. debian \. org
    """,
    re.VERBOSE,
)
FOLDERS = re.compile(r"/w[o]rk/(?:main|shared|\.)|/opt/wh[e]els|/tmp/pl[a]n")


def committed() -> list[Path]:
    """Every file that git tracks and that is there."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


def complaints(path: Path) -> Iterator[str]:
    """What is wrong with one file."""
    name = path.relative_to(ROOT)
    data = path.read_bytes()
    if len(data) > LARGEST:
        yield f"{name}: {len(data):,} bytes; the limit is {LARGEST:,}"
    if b"\0" in data:
        yield f"{name}: a binary file"
        return
    for number, line in enumerate(data.decode(errors="replace").splitlines(), start=1):
        for pattern, what in ((HOSTS, "a registry's address"), (FOLDERS, "a machine's folder")):
            if found := pattern.search(line):
                yield f"{name}:{number}: {what}: {found[0]}"


def main() -> int:
    """Print every complaint; 1 when there is one."""
    found = [line for path in committed() for line in complaints(path)]
    print("\n".join(found) or "The tree is clean.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
