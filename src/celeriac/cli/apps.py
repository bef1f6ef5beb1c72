"""Finds a Celery app by name, and explains what is wrong when it cannot be found."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from celeriac.cli.errors import BadInput

if TYPE_CHECKING:
    from types import ModuleType

    from celery import Celery

ATTRIBUTES = ("app", "celery")


def load_app(name: str) -> Celery:
    """Import ``module:attribute`` (or ``module``, whose app is found) with this folder on the path.

    Raise BadInput that says what is wrong and what would be right.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not all(part.isidentifier() for part in module_name.split(".")):
        raise BadInput(
            f"-A {name}: not a module name",
            hint=f"Write {_as_module(module_name)} or module:attribute.",
        )
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = _import(module_name, name)
    return _by_name(module, attribute, name) if attribute else _only(module, name)


def _import(module_name: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name == missing or module_name.startswith(missing + "."):
            raise BadInput(
                f"-A {name}: there is no module {missing!r}",
                hint=f"Looked in {Path.cwd()} and in the packages of {sys.executable}.\n"
                "Run this in the folder that holds the module, or install its package.",
            ) from error
        raise _broken(name, error) from error
    except Exception as error:
        raise _broken(name, error) from error


def _broken(name: str, error: BaseException) -> BadInput:
    """The module exists, but raised: show its own last line, and no frame of ours."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and frame.filename != __file__
    ]
    where = [f"  {frame.filename}:{frame.lineno}: {frame.line}" for frame in frames[-3:]]
    if isinstance(error, SyntaxError) and error.filename:
        where = [f"  {error.filename}:{error.lineno}: {(error.text or '').strip()}"]
    return BadInput(
        f"-A {name}: importing it raised {type(error).__name__}: {error}", hint="\n".join(where)
    )


def _by_name(module: ModuleType, attribute: str, name: str) -> Celery:
    from celery import Celery

    value = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise BadInput(
                f"-A {name}: {module.__name__} has no {attribute!r}", hint=_offer(module)
            )
        value = getattr(value, part)
    if not isinstance(value, Celery):
        raise BadInput(
            f"-A {name}: {attribute!r} is a {type(value).__name__}, not a Celery app",
            hint=_offer(module),
        )
    return value


def _only(module: ModuleType, name: str) -> Celery:
    apps = _apps(module)
    for attribute in ATTRIBUTES:
        if attribute in apps:
            return apps[attribute]
    if len({id(app) for app in apps.values()}) != 1:
        raise BadInput(f"-A {name}: which app of {module.__name__}?", hint=_offer(module))
    return next(iter(apps.values()))


def _apps(module: ModuleType) -> dict[str, Celery]:
    from celery import Celery

    return {name: value for name, value in vars(module).items() if isinstance(value, Celery)}


def _offer(module: ModuleType) -> str:
    apps = _apps(module)
    if apps:
        return f"It has: {', '.join(f'{module.__name__}:{name}' for name in sorted(apps))}."
    return "It holds no Celery app; one is made with: app = Celery('name')"


def _as_module(name: str) -> str:
    """Guess what was meant by a path such as ``src/app.py``."""
    path = Path(name)
    guess = ".".join(path.with_suffix("").parts) if path.suffix == ".py" else name.replace("/", ".")
    return guess if all(part.isidentifier() for part in guess.split(".")) else "package.module"
