"""The promises, over many seeds; and that breaking one does not go unnoticed.

python -m tests.simulation --seed 42 --trace         one schedule, with everything that happens
python -m tests.simulation --schedules 100000        many
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import redis

from tests.chaos.settings import LONG
from tests.simulation.many import Series, play, private_server
from tests.simulation.mutations import MUTATIONS, Mutation

SCHEDULES = 100_000 if LONG else 600
#: Further seeds for a mutation that its own seed does not show any more, since schedules have changed.
MORE = 3000 if LONG else 300
TRIED = [mutation for mutation in MUTATIONS if LONG or not mutation.rare]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    """A server for simulations only."""
    with private_server(tmp_path_factory.mktemp("simulated")) as client:
        yield client


@pytest.mark.slow
@pytest.mark.timeout(7200 if LONG else 300)
def test_every_promise_is_kept_whatever_happens(real: redis.Redis) -> None:
    series = Series()
    for seed in range(SCHEDULES):
        result = play(seed, real)
        series.add(result)
        assert not result.violation, (
            f"{result.violation}\nreplay it: python -m tests.simulation --seed {seed} --trace"
        )
    print(series.text())
    # It was no walk in the park: these are about a tenth of what is usual.
    assert series.faults > SCHEDULES
    assert series.runs > 2 * SCHEDULES
    assert series.redelivered > SCHEDULES / 10
    assert series.repeated > SCHEDULES / 100


def test_a_seed_is_the_same_story_every_time() -> None:
    stories = {
        subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seed", "14", "--trace"],
            env={"PYTHONHASHSEED": str(number)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for number in (1, 2)
    }
    (story,) = stories
    assert all(word in story for word in ("freezes", "forgets", "settle"))


@pytest.mark.parametrize("mutation", TRIED, ids=lambda mutation: mutation.bug.replace(" ", "-"))
def test_a_bug_does_not_go_unnoticed(real: redis.Redis, mutation: Mutation) -> None:
    assert not play(mutation.seed, real).violation
    with mutation.applied():
        for seed in (mutation.seed, *range(MORE)):
            if play(seed, real, changes=mutation.changes).violation:
                return
    pytest.fail(f"nothing has noticed that {mutation.bug}")
