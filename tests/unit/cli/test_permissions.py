"""The list of commands that doctor checks must be the list that is used."""

from __future__ import annotations

import re
from importlib.resources import files

from celeriac.cli.permissions import COMMANDS, FAMILIES, acl_rule


def test_every_command_of_the_scripts_is_checked() -> None:
    folder = files("celeriac.broker") / "lua"
    called = {
        call
        for script in folder.iterdir()
        if script.name.endswith(".lua")
        for call in re.findall(r"redis\.p?call\('([A-Z]+)'", script.read_text())
    }
    assert len(called) > 20
    assert called - {name.split()[0] for name in COMMANDS} == set()


def test_every_subcommand_of_the_scripts_is_checked() -> None:
    folder = files("celeriac.broker") / "lua"
    called = {
        f"{family} {word}"
        for script in folder.iterdir()
        if script.name.endswith(".lua")
        for family, word in re.findall(r"redis\.p?call\('([A-Z]+)', '([A-Z]+)'", script.read_text())
        if family in FAMILIES
    }
    assert called - set(COMMANDS) == set()


def test_the_rule_covers_the_prefix_and_nothing_else() -> None:
    rule = acl_rule("shop").split()
    assert rule[:2] == ["~shop:*", "&shop:*"]
    assert "+xinfo|groups" in rule
    assert not [word for word in rule[2:] if not word.startswith("+") or "@" in word]
