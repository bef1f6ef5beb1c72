"""Fuzz the decoder of messages: python -m tests.fuzz --seconds 600

Prints what libFuzzer prints, at the end the number of executions. Exits with 0 when nothing was found; else
the input that was found lies in the folder given by --artifacts, and belongs into `tests/fuzz/inputs.py`.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

MISSING = "fuzzing needs atheris, which is there for Linux on x86-64 and Python up to 3.13"
_INSTRUMENTED = (
    "celeriac.broker.signing",
    "celeriac.broker.stats",
    "celeriac.cli.dead",
    "celeriac.client.envelope",
    "celeriac.worker.limits",
    "celeriac.worker.pools.prefork.scoreboard",
    "celeriac.worker.decoder",
    "celeriac.worker.unpacking",
    "kombu.serialization",
    "kombu.utils.json",
)


def main() -> None:
    """Fuzz until the time is over or something is found."""
    parser = argparse.ArgumentParser(description="Fuzz the decoder of messages.")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--artifacts", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--corpus", type=Path, help="Go on from what earlier runs left here.")
    parser.add_argument("--seed", type=int, default=0, help="0: any")
    options = parser.parse_args()
    try:
        import atheris
    except ImportError:
        sys.exit(MISSING)
    with atheris.instrument_imports(include=list(_INSTRUMENTED), enable_loader_override=False):
        from tests.fuzz import inputs, target
    logging.disable(logging.CRITICAL)
    sys.setrecursionlimit(1000)
    with tempfile.TemporaryDirectory() as folder:
        corpus, words = options.corpus or Path(folder) / "corpus", Path(folder) / "words"
        corpus.mkdir(exist_ok=True)
        for number, seed in enumerate([*inputs.SEEDS, *inputs.FOUND.values()]):
            (corpus / f"{number:03}").write_bytes(seed)
        words.write_text("\n".join(f'"{_escaped(word)}"' for word in inputs.WORDS))
        arguments = [sys.argv[0], f"-max_total_time={options.seconds}", f"-seed={options.seed}"]
        arguments += [f"-artifact_prefix={options.artifacts}/", f"-dict={words}", "-max_len=8192"]
        arguments += ["-rss_limit_mb=1024", "-timeout=20", "-print_final_stats=1", str(corpus)]
        atheris.Setup(arguments, target.decode)
        atheris.Fuzz()


def _escaped(word: str) -> str:
    return "".join(
        char if char.isalnum() else f"\\x{byte:02x}"
        for char, byte in zip(word, word.encode("latin-1"), strict=True)
    )


if __name__ == "__main__":
    main()
