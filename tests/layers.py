"""Which tests look at which layer, and how a layer is looked at in under a minute.

    make check                  the layers
    make check LAYER=worker     the layer's unit tests, then its contract files, on the embedded server
    make unit                   the core: all unit tests, and the queue's scripts

This is the one place that knows. A queue's moves are Lua, which only a server runs: an interpreter of it in
this process would need a twin of Redis to talk to, which docs/adr/0010 has reasons against. The real server
is there in 0.05 s, so `make unit` runs the broker's contract too. In tests/unit nothing needs a server.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: The queue's scripts, move by move.
SCRIPTS = "tests/contract/broker"
#: What `make unit` runs.
CORE = ("tests/unit", SCRIPTS)
#: More processes than this cost more in imports than they save.
PROCESSES = ("-n", "auto", "--maxprocesses", "4", "--dist", "worksteal")
#: Most contract tests wait for a lease or a process, not for a processor.
WAITING = ("-n", "4", "--dist", "loadfile")

#: All unit tests; of the contract, Threads and what is Asyncio's alone. All pools take minutes: `make test`.
ONE_POOL = "unit or threads or test_asyncio.py or not (solo or prefork or asyncio)"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer's unit tests, and the files of contracts that it has to keep."""

    unit: tuple[str, ...]
    contract: tuple[str, ...] = ()
    among: str = ""
    """Which of them, where all take longer than a minute: an expression for pytest's -k."""


LAYERS = {
    "spec": Layer(("tests/unit/spec", "tests/unit/docs")),
    "broker": Layer(
        ("tests/unit/broker",),
        (
            SCRIPTS,
            "tests/contract/test_broker_errors.py",
            "tests/contract/test_connection.py",
            "tests/contract/test_declare.py",
            "tests/contract/test_embedded.py",
            "tests/contract/test_bulk_stats.py",
            "tests/contract/test_replication.py",
        ),
    ),
    "client": Layer(("tests/unit/client",), ("tests/contract/test_client.py",)),
    "transport": Layer(
        ("tests/unit/transport",),
        ("tests/contract/test_fast_path.py", "tests/contract/test_transport.py"),
    ),
    "worker": Layer(
        ("tests/unit/worker",),
        (
            "tests/contract/celery",
            "tests/contract/test_claim_ahead.py",
            "tests/contract/test_claim_when_woken.py",
            "tests/contract/test_consumer.py",
            "tests/contract/test_remote_control.py",
        ),
        among=ONE_POOL,
    ),
    "control": Layer(("tests/unit/control",), ("tests/contract/test_control.py",)),
    "backend": Layer(("tests/unit/backend",), ("tests/contract/test_backends.py",)),
    "operator": Layer(("tests/unit/operator",), ("tests/contract/test_broker_link.py",)),
    "messaging": Layer(
        ("tests/unit/messaging",),
        ("tests/contract/messaging", "tests/e2e/test_messaging_worker.py"),
    ),
    "cli": Layer(("tests/unit/cli",), ("tests/e2e/test_cli.py",)),
    "chaos": Layer(("tests/unit/chaos",), ("tests/simulation",)),
}


#: What `make unit` and `make check` leave out: what is slow, and what is for another server.
EMBEDDED = "not redis-server and not valkey-server"
QUICK = ("-m", "not slow", "-k", EMBEDDED)


def compile_once() -> None:
    """Let Python keep what it compiles, or each of many processes does it by itself: seconds, for tests."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def main(arguments: Sequence[str]) -> int:
    """Run the core's tests or a layer's, with what pytest is told besides; without either list the layers."""
    name, more = (arguments[0], arguments[1:]) if arguments else ("", ())
    compile_once()
    if name == "unit":
        return int(pytest.main([*PROCESSES, *QUICK, *CORE, *more]))
    if name in LAYERS:
        layer = LAYERS[name]
        among = ("-k", f"{EMBEDDED} and ({layer.among})") if layer.among else ()
        return int(pytest.main([*WAITING, *QUICK, *among, *layer.unit, *layer.contract, *more]))
    for layer_name, layer in LAYERS.items():
        print(f"{layer_name:<10} {' '.join((*layer.unit, *layer.contract))}")
    print("\nmake check LAYER=… runs one of them.")
    return int(bool(name))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
