"""Importing celeriac costs nothing, and is enough."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(code: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_nothing_heavy_is_imported() -> None:
    loaded = run(
        "import sys; before = set(sys.modules); import celeriac;"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    ).split()

    assert not {"kombu", "celery", "redis", "pydantic", "asyncio"} & set(loaded)


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports",
    [
        "import celeriac; import kombu; from celery import Celery",
        "import kombu.transport; import celeriac; from celery import Celery",
        "from celery import Celery; import celeriac",
        "from celery import Celery; Celery(set_as_current=False); import celeriac",
    ],
)
def test_the_order_of_imports_does_not_matter(imports: str) -> None:
    printed = run(
        f"{imports}\n"
        "from kombu import Connection\n"
        "for scheme in ('celeriac', 'celeriacs'):\n"
        "    print(Connection(f'{scheme}://h').transport_cls, end=' ')\n"
        "print(Connection('celeriac+sentinel://h?master=m').transport.broker.kind, end=' ')\n"
        "app = Celery(broker='celeriac://h')\n"
        "print(type(app.amqp).__module__, type(app.connection().transport).__module__)\n"
    )

    assert printed.split() == [
        *("celeriac", "celeriacs", "sentinel", "celeriac.transport.amqp"),
        "celeriac.transport.channel",
    ]


def test_an_amqp_class_of_ones_own_is_kept() -> None:
    assert (
        run(
            "import celeriac\nfrom celery import Celery\nfrom celery.app.amqp import AMQP\n"
            "class Mine(AMQP): pass\n"
            "print(type(Celery(amqp=Mine).amqp).__name__)"
        )
        == "Mine"
    )


def test_classes_of_ones_own_for_tasks_are_kept() -> None:
    assert run(
        "import celeriac\nfrom celery import Celery, Task\nclass Mine(Task): pass\n"
        "print(Celery(task_cls=Mine).Task.__mro__[1].__name__, Celery().Task.__mro__[1].__module__)"
    ).split() == ["Mine", "celeriac.transport.task"]


def test_modules_look_as_if_nobody_had_been_there() -> None:
    assert (
        run(
            "import celeriac, inspect, kombu.transport, celery.app.base\n"
            "print(*{type(m.__loader__).__name__ + type(m.__spec__.loader).__name__\n"
            "        for m in (kombu.transport, celery.app.base)})\n"
            "assert 'TRANSPORT_ALIASES' in inspect.getsource(kombu.transport)\n"
        )
        == "SourceFileLoaderSourceFileLoader"
    )


def test_public_names() -> None:
    import celeriac

    assert {name for name in celeriac.__all__ if getattr(celeriac, name) is None} == set()
    assert set(celeriac.__all__) <= set(dir(celeriac))
    assert celeriac.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = celeriac.nothing


def test_the_public_names_are_a_contract() -> None:
    import celeriac

    assert celeriac.__all__ == [
        *("BrokerError", "BrokerRefuses", "BrokerURLError", "BrokerUnreachable", "BulkInterrupted"),
        *("BulkReceipt", "CeleriacError", "Client", "Histogram", "Job", "MessageRefused"),
        *("NotReplicated", "Progress", "QueueStats", "Receipt", "Replication", "SigningKeysError"),
        *("WorkerSeen", "__version__", "report_progress"),
    ]


@pytest.mark.slow
def test_one_root_is_under_every_exception_of_ours() -> None:
    homeless = run(
        "import celeriac, celeriac_operator, importlib, pkgutil\n"
        "for package in (celeriac, celeriac_operator):\n"
        "    for found in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        if found.name.endswith('__main__'): continue\n"
        "        for it in list(vars(importlib.import_module(found.name)).values()):\n"
        "            if isinstance(it, type) and issubclass(it, Exception):\n"
        "                known = issubclass(it, celeriac.CeleriacError)\n"
        "                if it.__module__ == found.name and not known: print(it)\n"
    )

    assert homeless == ""
