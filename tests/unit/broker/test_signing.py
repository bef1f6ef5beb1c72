"""Signatures: what they cover, which keys verify, and what is said of keys that cannot be used."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.broker import signing
from celeriac.broker.signing import (
    BadSignature,
    SigningKeys,
    SigningKeysError,
    from_environment,
    read_keys,
    split,
    unsigned,
)


def secret(letter: str) -> str:
    """A key's secret, in base64."""
    return base64.b64encode(letter.encode() * 32).decode()


OLD, NEW = f"k1:{secret('a')}", f"k2:{secret('b')}"
MESSAGE: dict[str, Any] = {
    "place": "celeriac:{q}:",
    "id": "id-1",
    "task": "app.pay",
    "head": b'{"h":{"x":1}}',
    "body": b"[[],{},{}]",
}


def keys(*pairs: str, **options: Any) -> SigningKeys:
    """The keys of a process."""
    return SigningKeys(read_keys(",".join(pairs), source="test"), **options)


def signed(*pairs: str, **changes: Any) -> bytes:
    """The head of a message that was signed."""
    return keys(*pairs).sign(**{**MESSAGE, **changes})


def verify(head: bytes, *pairs: str, **changes: Any) -> bytes:
    return keys(*pairs).verify(**{**MESSAGE, "head": head, **changes})


@given(head=st.binary(max_size=200), body=st.binary(max_size=200))
def test_what_was_signed_is_verified_and_comes_back_as_it_was(head: bytes, body: bytes) -> None:
    written = signed(NEW, OLD, head=head, body=body)
    assert len(written) == len(head) + 50
    assert verify(written, OLD, NEW, body=body) == unsigned(written) == head


@pytest.mark.parametrize(
    "change",
    [
        {"place": "celeriac:{other}:"},
        {"place": "staging:{q}:"},
        {"id": "id-2"},
        {"task": "app.refund"},
        {"body": b"[[9],{},{}]"},
        {"id": "id-1a", "task": "pp.pay"},  # the same text, divided elsewhere
    ],
)
def test_any_other_word_breaks_the_signature(change: dict[str, Any]) -> None:
    with pytest.raises(BadSignature, match="changed, or signed for another queue"):
        verify(signed(NEW), NEW, **change)


def test_another_head_breaks_the_signature() -> None:
    line, _, _ = signed(NEW).partition(b"\n")
    with pytest.raises(BadSignature, match="changed"):
        verify(line + b'\n{"h":{"x":2}}', NEW)


@pytest.mark.parametrize("at", [10, 30, 49])
def test_another_digest_is_refused(at: int) -> None:
    head = bytearray(signed(NEW))
    head[at] ^= 1
    with pytest.raises(BadSignature):
        verify(bytes(head), NEW)


def test_the_newest_key_signs_and_every_key_verifies() -> None:
    assert split(signed(NEW, OLD))[0] == ("k2", split(signed(NEW))[0][1])  # type: ignore[index]
    assert verify(signed(OLD), NEW, OLD) == verify(signed(NEW), NEW, OLD) == MESSAGE["head"]
    with pytest.raises(BadSignature, match="signed by key 'k1', and this worker knows key 'k2'"):
        verify(signed(OLD), NEW)
    with pytest.raises(BadSignature, match="another secret of the same id"):
        verify(signed(OLD), f"k1:{secret('z')}")


@pytest.mark.parametrize(
    "head",
    [b"", b"{}", b"s1 k2", b"s1 k2 x", b"s1 \n", b"s1 k2 " + b"x" * 200 + b"\n", b"s1k2 x\n"],
)
def test_what_is_not_signed_is_refused_unless_it_need_not_be(head: bytes) -> None:
    with pytest.raises(BadSignature, match="not signed"):
        verify(head, NEW)
    lenient = keys(NEW, required=False)
    assert lenient.verify(**{**MESSAGE, "head": head}) == head
    with pytest.raises(BadSignature):
        lenient.verify(**{**MESSAGE, "head": signed(OLD)})


@pytest.mark.parametrize("key_id", [b"", b"\xff", b"k2 "])
def test_a_strange_key_id_is_refused(key_id: bytes) -> None:
    with pytest.raises(BadSignature):
        verify(b"s1 " + key_id + b" x\n{}", NEW)


# --- where keys come from -------------------------------------------------------------------------------


def test_no_keys_no_signatures() -> None:
    assert from_environment({}) is None


def test_keys_of_the_environment() -> None:
    found = from_environment({"CELERIAC_SIGNING_KEYS": f"{NEW},{OLD}"})
    assert found is not None
    assert (found.ids, found.required) == (("k2", "k1"), True)
    loose = from_environment({"CELERIAC_SIGNING_KEYS": NEW, "CELERIAC_SIGNING_REQUIRED": "0"})
    assert loose is not None
    assert not loose.required


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"CELERIAC_SIGNING_KEYS": " "}, "no keys"),
        ({"CELERIAC_SIGNING_KEYS": secret("a")}, "entry 1 has no proper id"),
        ({"CELERIAC_SIGNING_KEYS": f"{OLD},a b:{secret('b')}"}, "entry 2 has no proper id"),
        ({"CELERIAC_SIGNING_KEYS": f"{OLD},{OLD}"}, "'k1' is there twice"),
        ({"CELERIAC_SIGNING_KEYS": "k1:c2hvcnQ="}, "5 bytes, and 32 are the least"),
        ({"CELERIAC_SIGNING_KEYS": "k1:not base64!"}, "'k1' is not base64"),
        ({"CELERIAC_SIGNING_KEYS": OLD, "CELERIAC_SIGNING_KEYS_FILE": "/k"}, "both set"),
        ({"CELERIAC_SIGNING_KEYS_FILE": "/not/there"}, "/not/there cannot be read"),
        ({"CELERIAC_SIGNING_KEYS": OLD, "CELERIAC_SIGNING_REQUIRED": "yes"}, "must be 1"),
    ],
)
def test_keys_that_cannot_be_used_say_why_and_tell_no_secret(
    environment: dict[str, str], text: str
) -> None:
    with pytest.raises(SigningKeysError, match=re.escape(text)) as caught:
        from_environment(environment)
    assert secret("a") not in str(caught.value)


def test_secrets_are_not_printed() -> None:
    assert secret("b") not in repr(read_keys(NEW, source="x"))
    assert b"bbbb" not in repr(read_keys(NEW, source="x")).encode()


class Clock:
    """A clock that goes on when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def replaced(file: Path, text: str) -> None:
    """Exchange a file as a mounted Secret is exchanged."""
    beside = file.with_suffix(".new")
    beside.write_text(text)
    beside.replace(file)


def test_a_file_of_keys_is_read_again_without_a_restart(tmp_path: Path) -> None:
    file, clock = tmp_path / "keys", Clock()
    file.write_text(f"{OLD}\n")
    found = SigningKeys(read_keys(file.read_text(), source="f"), file=file, clock=clock)
    replaced(file, f"{NEW}\n{OLD}\n")
    assert split(found.sign(**MESSAGE))[0][0] == "k1"  # type: ignore[index]
    clock.now = 11
    assert split(found.sign(**MESSAGE))[0][0] == "k2"  # type: ignore[index]


def test_an_unknown_key_is_looked_up_at_once(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(OLD)
    found = from_environment({signing.FILE_VARIABLE: str(file)})
    assert found is not None
    replaced(file, f"{OLD}\n{NEW}")
    assert found.verify(**{**MESSAGE, "head": signed(NEW)}) == MESSAGE["head"]


@pytest.mark.parametrize("broken", ["", "k9:short", None])
def test_a_file_that_breaks_changes_nothing(tmp_path: Path, broken: str | None) -> None:
    file, clock = tmp_path / "keys", Clock()
    file.write_text(OLD)
    found = SigningKeys(read_keys(file.read_text(), source="f"), file=file, clock=clock)
    if broken is None:
        file.unlink()
    else:
        replaced(file, broken)
    clock.now = 11
    assert found.verify(**{**MESSAGE, "head": signed(OLD)}) == MESSAGE["head"]
    with pytest.raises(BadSignature):
        found.verify(**{**MESSAGE, "head": signed(NEW)})
    replaced(file, NEW)
    assert found.verify(**{**MESSAGE, "head": signed(NEW)}) == MESSAGE["head"]
