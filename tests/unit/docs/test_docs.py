"""The documents say what the code says: links lead somewhere, names exist, generated parts are fresh."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from celeriac.spec.conditions import ConditionType, Reason
from celeriac.spec.load import load_queues
from celeriac.spec.status import LimitedBy
from celeriac.worker.decoder import UNKNOWN_TASK
from scripts import render_docs

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SOURCE = "\n".join(
    path.read_text() for ext in ("lua", "py") for path in sorted((ROOT / "src").rglob(f"*.{ext}"))
)


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.exists(), f"{target} is not there"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", it.lower()).replace(" ", "-") for it in headings]
            assert anchor in anchors, f"{target}: no such heading"


def test_the_files_that_contributors_are_sent_to_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`((?:src|operator|tests|docs|charts|scripts)/[\w./-]+)`", text)
    assert len(named) > 40
    assert [name for name in named if not (ROOT / name).exists()] == []
    scripts = {path.name for path in (ROOT / "src/celeriac/broker/lua").iterdir()}
    assert set(re.findall(r"`(\w+\.lua)`", text)) <= scripts


def test_generated_parts_are_fresh() -> None:
    assert render_docs.stale() == [], "run `make docs`"


def test_a_stale_page_is_noticed() -> None:
    old = f"before\n{render_docs.BEGIN}\nold\n{render_docs.END}\nafter\n"
    new = render_docs.render(old, "new")
    assert new == old.replace("old", "new")
    assert render_docs.render(new, "new") == new


def test_every_limit_of_scaling_is_explained() -> None:
    for limit in get_args(LimitedBy):
        assert f"| `{limit}` |" in page("troubleshooting.md")


def test_conditions_and_reasons_are_those_of_the_code() -> None:
    table = page("troubleshooting.md").partition("| condition | reason |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1:3] for row in table.splitlines()[2:]]
    assert rows
    for condition, reasons in rows:
        assert condition.strip(" `") in set(ConditionType)
        assert {it.strip(" `") for it in reasons.split(",")} <= set(Reason)


def test_every_condition_and_every_reason_is_explained() -> None:
    tables = page("queue-spec.md").partition("### Conditions")[2]
    explained = set(re.findall(r"^\| `(\w+)` \| \S.+ \|$", tables, re.MULTILINE))
    assert explained == set(ConditionType) | set(Reason)


def test_every_metric_is_documented_and_nothing_else() -> None:
    golden = (ROOT / "tests/unit/control/golden_metrics.txt").read_text().splitlines()
    suffix = {"counter": "_total", "info": "_info"}
    exported = {name + suffix.get(kind, "") for name, kind, *_ in map(str.split, golden)}
    table = page("operations.md").partition("| metric | type | labels |")[2].partition("\n\n")[0]
    assert set(re.findall(r"mq_\w+", table)) == exported
    mentioned = set(re.findall(r"mq_\w+", "".join(path.read_text() for path in PAGES)))
    elsewhere = "".join(
        (ROOT / name).read_text()
        for name in ("src/celeriac/worker/http.py", "operator/celeriac_operator/metrics.py")
    )
    of_processes = {
        name + suffix
        for name in re.findall(r'"(mq_\w+)"', elsewhere)
        for suffix in ("", "_total", "_seconds")
    }
    assert mentioned <= exported | of_processes


def test_reasons_of_dead_letters_are_those_of_the_code() -> None:
    table = page("guarantees.md").partition("| reason of a dead letter |")[2].partition("\n\n")[0]
    documented = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    given = set(re.findall(r'DeadLetter\(reason="(\w+)"', SOURCE))
    given |= set(re.findall(r"make_dead\([^\n]*'(\w+)'\)", SOURCE))
    given |= set(re.findall(r'raise Undeliverable\(\s*"(\w+)"', SOURCE))
    assert "raise Undeliverable(\n                UNKNOWN_TASK" in SOURCE
    given.add(UNKNOWN_TASK)
    assert len(given) > 5
    assert documented == given


@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "docs/queue-spec.md"], ids=str)
def test_queues_in_the_documents_are_valid(path: Path, tmp_path: Path) -> None:
    examples = re.findall(r"```yaml\n(.+?)```", path.read_text(), re.DOTALL)
    queues = [text for text in examples if yaml.safe_load(text).get("kind") == "MessageQueue"]
    assert queues
    for text in queues:
        (tmp_path / "queues.yaml").write_text(text)
        assert load_queues(tmp_path / "queues.yaml")
