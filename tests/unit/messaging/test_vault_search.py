"""Seals that hold, keys that rotate; search in every script."""

from __future__ import annotations

import json

import pytest

from celeriac_messaging.adapters.search import FtsSearch, as_query
from celeriac_messaging.adapters.vault import KeyVault
from celeriac_messaging.errors import ConfigurationError, KeyNotFound, SealBroken

OLD, NEW = {"old": b"o" * 32}, {"new": b"n" * 32}
TEXT = "Die Befunde sind da. 結果が出ました。🩺"


def test_what_is_sealed_opens_for_its_message_only() -> None:
    vault = KeyVault(OLD)
    sealed = vault.seal("riverside", "m-1", TEXT)
    assert vault.open("riverside", "m-1", sealed) == TEXT
    assert TEXT.encode() not in sealed
    for tenant, message_id in (("riverside", "m-2"), ("lakeside", "m-1"), ("riversidem", "-1")):
        with pytest.raises(SealBroken):
            vault.open(tenant, message_id, sealed)


def test_every_byte_of_a_seal_counts() -> None:
    vault = KeyVault(OLD)
    fields = json.loads(vault.seal("t", "m", "x"))
    for name in ("key", "text"):
        for position in range(0, len(fields[name]), 7):
            letter = "A" if fields[name][position] != "A" else "B"
            changed = fields[name][:position] + letter + fields[name][position + 1 :]
            with pytest.raises(SealBroken):
                vault.open("t", "m", json.dumps(fields | {name: changed}).encode())


@pytest.mark.parametrize("sealed", [b"", b"[]", b"{}", b'{"v":2}', b"\xff", b"null"])
def test_what_is_no_seal_is_refused(sealed: bytes) -> None:
    with pytest.raises(SealBroken):
        KeyVault(OLD).open("t", "m", sealed)


def test_rotation_moves_the_key_and_leaves_the_text() -> None:
    sealed = KeyVault(OLD).seal("t", "m", TEXT)
    both = KeyVault(NEW | OLD)
    assert both.current == "new"
    moved = both.rewrap("t", "m", sealed, "new")
    assert both.key_of(moved) == "new"
    assert json.loads(moved)["text"] == json.loads(sealed)["text"]
    assert KeyVault(NEW).open("t", "m", moved) == TEXT
    with pytest.raises(KeyNotFound, match="'old'"):
        KeyVault(NEW).open("t", "m", sealed)
    with pytest.raises(SealBroken):
        both.rewrap("t", "another", sealed, "new")


def test_no_two_seals_share_key_or_nonce() -> None:
    drawn: list[bytes] = []

    def random(count: int) -> bytes:
        drawn.append(len(drawn).to_bytes(count, "big"))
        return drawn[-1]

    vault = KeyVault(OLD, random=random)
    assert vault.seal("t", "m", "x") != vault.seal("t", "m", "x")
    assert [len(one) for one in drawn] == [32, 12, 12] * 2


def test_without_keys_the_setting_is_named() -> None:
    with pytest.raises(ConfigurationError, match="MESSAGING_KEYS"):
        KeyVault({}).seal("t", "m", "x")


TEXTS = {
    "uk": "Ваш запис на вівторок підтверджено",
    "zh": "您的包裹已经送到前台，请凭取件码领取。",
    "ja": "明日の会議は三時に変更になりました",
    "hi": "आपकी किताब पुस्तकालय में तैयार है",
    "ar": "وصلت شحنتك إلى مكتب البريد",
    "de": "Die Führung beginnt um zehn, bitte Gürtel und Schlüssel ablegen",
    "pt": "A reunião foi adiada para amanhã de manhã",
    "th": "พัสดุของคุณมาถึงแล้ว",
}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("вівторок", "uk"),
        ("包裹", "zh"),
        ("送到前台", "zh"),
        ("会議", "ja"),
        ("किताब", "hi"),
        ("पुस्तकालय तैयार", "hi"),
        ("شحنتك", "ar"),
        ("fuhrung", "de"),
        ("SCHLÜSSEL", "de"),
        ("reuniao amanha", "pt"),
        ("พัสดุ", "th"),
    ],
)
def test_search_finds_words_of_every_script(search: FtsSearch, query: str, found: str) -> None:
    for language, text in TEXTS.items():
        search.put("t", language, revision=0, text=text)
    assert [hit.message_id for hit in search.find("t", query)] == [found]


@pytest.mark.parametrize(
    "query", ["前台送到", "किता", "", "   ", '"', "🙂", "AND", "*", "NEAR(", "a:b"]
)
def test_search_survives_what_people_type(search: FtsSearch, query: str) -> None:
    for language, text in TEXTS.items():
        search.put("t", language, revision=0, text=text)
    assert search.find("t", query) == []


def test_operators_are_taken_as_words(search: FtsSearch) -> None:
    search.put("t", "m", revision=0, text='this AND that "or" not')
    assert len(search.find("t", 'AND "or" NOT')) == 1
    assert as_query('a"b') == '"a""b"'


def test_tenants_do_not_see_each_other(search: FtsSearch) -> None:
    search.put("a", "m", revision=0, text="shared words")
    search.put("b", "m", revision=0, text="shared words too")
    assert len(search.find("a", "shared")) == 1
    assert search.find("c", "shared") == []
    assert search.find("a", "too") == []


def test_the_highest_revision_wins_in_any_order(search: FtsSearch) -> None:
    assert search.put("t", "m", revision=2, text="second")
    assert not search.put("t", "m", revision=1, text="first")
    assert search.put("t", "m", revision=2, text="second")
    assert [len(search.find("t", word)) for word in ("first", "second")] == [0, 1]
    assert search.remove("t", "m", revision=3)
    assert not search.put("t", "m", revision=2, text="second")
    assert search.find("t", "second") == []
    assert search.put("t", "m", revision=4, text="fourth")
    assert search.remove("t", "m")
    assert not search.put("t", "m", revision=9, text="ninth")
