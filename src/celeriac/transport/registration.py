"""Makes kombu and Celery know the broker schemes, without importing either.

kombu's table of transports and Celery's default message sender are touched right after somebody else has
imported them (or now, when that has happened already): importing both here would cost every command line
and every plain client a tenth of a second.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from celeriac.client.notation import notation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec

    Action = Callable[[ModuleType], None]

SCHEMES = ("celeriac", "celeriacs", "celeriac+sentinel", "celeriac+cluster")
_TRANSPORT = "celeriac.transport.channel:Transport"
_AMQP = "celeriac.transport.amqp:AMQP"
_STOCK_AMQP = "celery.app.amqp:AMQP"
_TASK = "celeriac.transport.task:Task"
_STOCK_TASK = "celery.app.task:Task"


def register() -> None:
    """Teach kombu the schemes, and Celery apps created from now on the fast way to publish."""
    notation.default, notation.loads = _kombus_default, _kombus_loads
    wanted = {"kombu.transport": _add_transports, "celery.app.base": _set_publishing}
    for name in list(wanted):
        if name in sys.modules:
            wanted.pop(name)(sys.modules[name])
    if wanted:
        sys.meta_path.insert(0, _AfterImport(wanted))


def _kombus_default(value: Any) -> Any:
    from kombu.utils.json import JSONEncoder

    return JSONEncoder().default(value)


def _kombus_loads(text: bytes) -> Any:
    from kombu.utils.json import loads

    return loads(text)


def _add_transports(kombu_transport: ModuleType) -> None:
    for scheme in SCHEMES:
        kombu_transport.TRANSPORT_ALIASES[scheme] = _TRANSPORT


def _set_publishing(celery_app_base: ModuleType) -> None:
    # An app with classes of its own keeps them, and publishes through kombu's ordinary way.
    if celery_app_base.Celery.amqp_cls == _STOCK_AMQP:
        celery_app_base.Celery.amqp_cls = _AMQP
    if celery_app_base.Celery.task_cls == _STOCK_TASK:
        celery_app_base.Celery.task_cls = _TASK


class _AfterImport:
    """Runs an action after a module's first import."""

    def __init__(self, actions: dict[str, Action]) -> None:
        self._actions = actions

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        action = self._actions.pop(fullname, None)
        if action is None:
            return None
        spec = find_spec(fullname)  # the other finders' answer, as we no longer know the name
        if spec is not None and spec.loader is not None:
            spec.loader = _Acting(spec.loader, action)  # type: ignore[assignment]
        return spec


class _Acting:
    """Another loader, and an action once it is done."""

    def __init__(self, loader: Loader, action: Action) -> None:
        self._loader = loader
        self._action = action

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # From here on the module is as if we had never been there.
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._action(module)
