"""Measures one thing of one contender: sending, consuming, latency, cold start, memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import redis

from bench.throughput.contenders import Contender, PoolName

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 0.01
GIVE_UP_S = 120.0
#: The first tenth of a drain is the worker's warm-up.
WARM_UP = 0.1


class Failed(RuntimeError):
    """A measurement that did not come to its end."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A server to measure on. One thing at a time, each on an empty server."""

    client: redis.Redis
    folder: Path

    def send(self, contender: Contender, way: str, count: int) -> float:
        """Messages a second of one producer."""
        self._empty(contender)
        rate = self._produce(contender, way, count)
        waiting = contender.unfinished(self.client)
        if waiting != count:
            raise Failed(f"{contender.name} sent {count}, but {waiting} arrived")
        return rate

    def consume(self, contender: Contender, pool: PoolName, count: int) -> tuple[float, int]:
        """Messages a second of one worker with ``count`` waiting, and its memory after that."""
        self._empty(contender)
        self._produce(contender, "send_many" if contender.name == "celeriac" else "batch", count)
        with self._worker(contender, pool) as process:
            rate = self._drain(contender, count)
            finished = contender.finished(self.client)
            if finished != count:
                raise Failed(f"{contender.name} {pool}: {count} sent, {finished} finished")
            memory = resident(process.pid)
        return rate, memory

    def latency(self, contender: Contender, pool: PoolName, count: int, rate: int) -> list[float]:
        """Milliseconds from the call of apply_async to the start of the task, one worker idle."""
        self._empty(contender)
        marks = self._marks()
        with self._worker(contender, pool, marks):
            self._produce(contender, "paced", 20, rate)  # everybody is awake and connected
            _wait_for(lambda: len(_lines(marks)) == 20)
            self._produce(contender, "paced", count, rate)
            _wait_for(lambda: len(_lines(marks)) == 20 + count)
        pairs = [tuple(map(int, line.split())) for line in _lines(marks)[20:]]
        return [(ran - sent) / 1e6 for sent, ran in pairs]

    def cold_start(self, contender: Contender, pool: PoolName) -> float:
        """Milliseconds from starting a worker's process to its first finished task."""
        self._empty(contender)
        marks = self._marks()
        self._produce(contender, "paced", 1, 100)
        start = time.monotonic_ns()
        with self._worker(contender, pool, marks):
            _wait_for(lambda: len(_lines(marks)) == 1)
        return (int(_lines(marks)[0].split()[1]) - start) / 1e6

    # --- inside ---------------------------------------------------------------------------------

    def _empty(self, contender: Contender) -> None:
        self.client.flushall()
        contender.prepare(self.client)

    def _marks(self) -> Path:
        handle, name = tempfile.mkstemp(dir=self.folder)
        os.close(handle)
        return Path(name)

    def _environment(self, contender: Contender, marks: Path | None = None) -> dict[str, str]:
        return {**os.environ, "BENCH_BROKER": contender.url, "BENCH_MARKS": str(marks or "")}

    def _produce(self, contender: Contender, way: str, count: int, rate: int = 0) -> float:
        done = subprocess.run(
            [sys.executable, "-m", "bench.throughput.producer", way, str(count), str(rate)],
            cwd=ROOT,
            env=self._environment(contender),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Failed(f"{contender.name} could not send:\n{done.stderr}")
        return float(json.loads(done.stdout.splitlines()[-1])["rate"])

    @contextmanager
    def _worker(
        self, contender: Contender, pool: PoolName, marks: Path | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        log = self.folder / f"{contender.name}-{pool}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                contender.worker(pool),
                cwd=ROOT,
                env=self._environment(contender, marks),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield process
        except Failed as error:
            raise Failed(f"{error}\n{log.read_text()[-3000:]}") from error
        finally:
            _end(process)

    def _drain(self, contender: Contender, count: int) -> float:
        """Watch the number of unfinished messages fall; the rate from the warm-up to the end."""
        deadline = time.monotonic() + GIVE_UP_S
        begun: tuple[float, int] | None = None
        while time.monotonic() < deadline:
            left, now = contender.unfinished(self.client), time.perf_counter()
            if begun is None and left <= count * (1 - WARM_UP):
                begun = now, left
            if left == 0:
                if begun is None or begun[1] == 0:
                    raise Failed(f"{count} messages are too few to measure")
                return begun[1] / (now - begun[0])
            time.sleep(POLL_S)
        raise Failed(f"{contender.name}: {left} of {count} left after {GIVE_UP_S:.0f} s")


def resident(pid: int) -> int:
    """Bytes of memory of a process and its children; shared pages count once (PSS), where known."""
    total = 0
    for one in [pid, *_children(pid)]:
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            shown = subprocess.run(
                ["ps", "-o", "rss=", "-p", str(one)], capture_output=True, text=True, check=False
            )
            total += int(shown.stdout or 0) * 1024
            continue
        total += (
            next(int(it.split()[1]) for it in text.splitlines() if it.startswith("Pss:")) * 1024
        )
    return total


def _children(pid: int) -> list[int]:
    shown = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    )
    parents = {int(line.split()[0]): int(line.split()[1]) for line in shown.stdout.splitlines()}
    direct = [child for child, parent in parents.items() if parent == pid]
    return direct + [grandchild for child in direct for grandchild in _children(child)]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a worker and its children. Nothing is measured of it: stock prefork may take 30 s."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(3)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            raise Failed("the worker did not run what was sent")
        time.sleep(POLL_S)
