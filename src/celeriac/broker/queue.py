"""The queue on Redis streams: publish, claim, renew, settle, reclaim, promote, redrive.

    publish -> ready -> claim -> leased -> settle -> done | delayed | dead | discarded
                 ^                  |                    |          |
                 |  release/reclaim |       promote      |  redrive |
                 +------------------+--------------------+----------+

Every arrow is one Lua script (``lua/``), which also moves the queue's counters, so no crash between two
commands can lose or double a message, or miscount one. A queue knows bytes: neither kombu nor Celery.
"""

from __future__ import annotations

import json
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal, NoReturn

import redis
from redis.exceptions import MovedError, OutOfMemoryError, RedisError, ResponseError

from celeriac.broker import damage
from celeriac.broker import stats as statistics
from celeriac.broker.cluster import ClusterClient, servers
from celeriac.broker.keys import DEFAULT_PREFIX, QueueKeys, index_key
from celeriac.broker.message import (
    PRIORITIES,
    Claim,
    DeadMessage,
    DeadPage,
    Done,
    Lease,
    NewMessage,
    QueueStats,
    Receipt,
    Settlement,
    is_entry,
)
from celeriac.broker.record import record_fields
from celeriac.broker.refusal import (
    OF_A_CLUSTER,
    BrokerError,
    NewerLayout,
    errors_of_ours,
    explained,
    ours,
)
from celeriac.broker.replication import Replication
from celeriac.broker.scripts import Argument, script
from celeriac.broker.signing import SigningKeys
from celeriac.broker.wire import (
    LETTER,
    PUBLISH_CHUNK_BYTES,
    chunks,
    claimed,
    parts,
    publish_args,
    receipts_of,
    settle_args,
)
from celeriac.spec.errors import CeleriacError
from celeriac.spec.policies import QueuePolicy
from celeriac.spec.stored import read_stored

logger = logging.getLogger(__name__)

DEFAULT_LEASE_MS = 15_000
_PAGE = 500
_SHORTEST_WAIT_S = 0.01
#: Dead letters that one search may look at without a pause for other clients, and for one answer.
_SEARCHED_AT_ONCE = 1_000
_SEARCHED_A_PAGE = 10_000
_CANCEL_MEMORY_MS = 86_400_000


class QueueNotDeclared(CeleriacError, LookupError):
    """The queue has no record on the broker: nobody declared it yet."""


class RecordDamaged(CeleriacError, LookupError):
    """The queue's record is not what Celeriac writes."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the record {key} cannot be read: declare the queue again, or delete it")


class Queue:
    """One queue on one broker.

    The client must return bytes (``decode_responses=False``). Whatever goes wrong with the broker is a
    BrokerError; a publish that ended in BrokerUnreachable may have happened.
    """

    def __init__(
        self,
        client: redis.Redis,
        name: str,
        *,
        prefix: str = DEFAULT_PREFIX,
        lease_ms: int = DEFAULT_LEASE_MS,
        signing: SigningKeys | None = None,
        replication: Replication | None = None,
    ) -> None:
        """With ``signing``, what is published is signed; `celeriac.broker.signing` says how.

        With ``replication``, publishing waits for replicas, and receipts say how many have the message.
        """
        self.client = client
        self.name = name
        self.prefix = prefix
        self.lease_ms = lease_ms
        self.keys = QueueKeys.of(name, prefix=prefix)
        self.signing = signing
        self.replication = replication
        #: Whether answers may be read later: not where the queue may be on its way to another node.
        self.asks_ahead = not isinstance(client, ClusterClient)
        self._indexed = False

    def _run(self, name: str, *args: Argument) -> Any:
        return self._reply(lambda: script(name).run(self.client, self.keys.all, args))

    def _send(
        self, name: str, *args: Argument, after: Sequence[Argument | float] = ()
    ) -> Callable[[], Any]:
        """Send a script on its way; what is returned waits for the answer."""
        try:
            return script(name).send(self.client, self.keys.all, args, after=after)
        except RedisError as error:
            raise ours(error) from error

    def _reply(self, wait: Callable[[], Any]) -> Any:
        """Wait for an answer, and raise an error that it holds as one of ours."""
        try:
            return wait()
        except ResponseError as error:
            raise self._meaning(error) from error
        except RedisError as error:
            raise ours(error) from error

    def _meaning(self, error: ResponseError) -> CeleriacError:
        """Say what an error that the server answered means for this queue."""
        text = str(error)
        if text.startswith("NOTDECLARED") or "NOGROUP" in text:
            return QueueNotDeclared(self.name)
        if isinstance(error, MovedError):
            return ours(ResponseError(OF_A_CLUSTER))
        if "WRONGTYPE" in text:
            with errors_of_ours():
                return ours(ResponseError(damage.described(self.client, self.keys, text)))
        told = explained(error)
        return told if isinstance(told, NewerLayout) else ours(error)

    # --- the record -----------------------------------------------------------------------------

    def has_record(self) -> bool:
        """Whether somebody has declared the queue."""
        return bool(self._reply(lambda: self.client.hexists(self.keys.record, "policy")))

    def declare(self, policy: QueuePolicy, *, only_if_absent: bool = False) -> int:
        """Write the queue's record and return its version, which grows only when something changed.

        With ``only_if_absent`` a policy that is there stays, whoever declared it and however lately.
        """
        flat: list[Argument] = ["1" if only_if_absent else "0"]
        for field, value in record_fields(policy).items():
            flat += (field, value)
        version = int(self._run("declare", *flat))
        with suppress(OutOfMemoryError):  # on a full server, pausing and new limits matter more
            self._index()
        return version

    def record(self) -> tuple[int, QueuePolicy]:
        """Read the record's version and policy. Raises QueueNotDeclared, or RecordDamaged.

        A newer operator may have written it: what is not known here is ignored, and logged.
        """
        with errors_of_ours():
            version, policy = self.client.hmget(self.keys.record, ["version", "policy"])
        if version is None or policy is None:
            raise QueueNotDeclared(self.name)
        try:
            found, ignored = read_stored(QueuePolicy, json.loads(policy))
            number = int(version)
        except ValueError as error:
            raise RecordDamaged(self.keys.record) from error
        for path in ignored:
            name = ".".join(map(str, path))
            logger.warning("%s: this version does not know %s, and ignores it", self.name, name)
        return number, found

    def pause(self) -> None:
        """Stop handing out messages, whatever the spec says, until :meth:`resume`."""
        self._run("hold", "1")

    def resume(self) -> None:
        """Undo :meth:`pause`; a queue whose spec says paused stays paused."""
        self._run("hold", "0")

    def _index(self) -> None:
        if not self._indexed:
            with errors_of_ours():
                self.client.sadd(index_key(self.prefix), self.name)
            self._indexed = True

    # --- producers ------------------------------------------------------------------------------

    def publish(self, messages: Sequence[NewMessage]) -> list[Receipt]:
        """Accept messages, and say for each what became of it.

        Each message is whole or absent. Long lists go in chunks; when one fails, because the connection
        breaks or the server is out of memory, the exception's ``receipts`` holds what was answered
        before. Raises BrokerRefuses (with nothing written), BrokerUnreachable, and BrokerError.
        """
        receipts: list[Receipt] = []
        try:
            self._index()
            if len(messages) == 1 and self._publish_one(messages[0]):
                return [Receipt(messages[0].id, "accepted")]
            for chunk in chunks(messages):
                receipts += self._publish_chunk(chunk)
        except BrokerError as error:
            _refuse(error, receipts)
        return receipts

    def ask_publish(self, messages: Sequence[NewMessage]) -> Callable[[], list[Receipt]]:
        """Send as :meth:`publish` does and return at once: call what is returned, once, for the receipts.

        The server works meanwhile. What does not fit into one call of the script, comes first, or goes
        where nothing can be asked ahead, is published before this returns. Both raise as
        :meth:`publish` does.
        """
        ahead = self._indexed and self.asks_ahead and self.replication is None
        if not ahead or len(messages) == 1 or len([*chunks(messages)]) != 1:
            published = self.publish(messages)
            return lambda: published
        args = publish_args(self.keys.base, messages, self._signed)
        answer = self._send("publish", *args)

        def receipts() -> list[Receipt]:
            try:
                return receipts_of(messages, self._reply(answer))
            except BrokerError as error:
                _refuse(error, [])

        return receipts

    def _publish_one(self, message: NewMessage) -> bool:
        """Publish a plain message by the short script; False when it has to go by the general one."""
        if message.delay_ms or message.ttl_ms or message.dedup_key or self.replication:
            return False
        if message.size > PUBLISH_CHUNK_BYTES:
            return False  # whether it may be so large is asked before it is sent
        head, letter = self._signed(message), LETTER[message.priority]
        return bool(self._run("publish_one", letter, message.id, message.task, head, message.body))

    def _publish_chunk(self, chunk: Sequence[NewMessage]) -> list[Receipt]:
        size = chunk[0].size
        if size > PUBLISH_CHUNK_BYTES and (reason := self._too_large(size)):
            return [Receipt(chunk[0].id, "refused", reason)]  # it would have been alone on its way
        args = publish_args(self.keys.base, chunk, self._signed)
        replication = self.replication
        if replication is None:
            return receipts_of(chunk, self._run("publish", *args))
        publish = script("publish")
        notes, reached = self._reply(
            lambda: replication.run(publish, self.client, self.keys.all, args)
        )
        return receipts_of(chunk, notes, replicas=reached, wanted=replication.replicas)

    def _too_large(self, size: int) -> str:
        """Why a large message is refused before it is sent; the script asks the same of all others."""
        raw = self._reply(lambda: self.client.hget(self.keys.record, "maxMessageBytes"))
        most = int(raw) if raw is not None and raw.isdigit() else 0
        if not 0 < most < size:
            return ""
        return f"message of {size} bytes is over limits.maxMessageBytes {most}"

    def sign(self, id: str, task: str, head: bytes, body: bytes) -> bytes:
        """Return the head of a message of this queue as it is sent: signed, when there are keys."""
        if self.signing is None:
            return head
        return self.signing.sign(self.keys.base, id, task, head, body)

    def _signed(self, message: NewMessage) -> bytes:
        return self.sign(message.id, message.task, message.head, message.body)

    def cancel(self, message_id: str) -> Literal["cancelled", "requested"]:
        """Cancel a waiting message.

        A delayed message is gone at once (``cancelled``). A ready one is discarded when a worker would
        get it (``requested``); one that runs already, or is finished, is not affected.
        """
        answer = self._run("cancel", message_id, _CANCEL_MEMORY_MS)
        return "cancelled" if answer == b"cancelled" else "requested"

    # --- workers --------------------------------------------------------------------------------

    def claim(self, consumer: str, *, count: int, held: int = 0) -> Claim:
        """Lease up to ``count`` ready messages to ``consumer``, which holds ``held`` others.

        Due delayed messages are promoted first; expired and cancelled ones are discarded on the way.
        An isolated message comes alone, and only when nothing is held. Raises QueueNotDeclared.
        """
        return claimed(self._run("claim", consumer, count, held))

    def ask_claim(self, consumer: str, *, count: int, held: int = 0) -> Callable[[], Claim]:
        """Ask as :meth:`claim` does and return at once: call what is returned, once, for the answer.

        The server works meanwhile. Messages are on lease from the moment that it hands them out.
        """
        answer = self._send("claim", consumer, count, held)
        return lambda: claimed(self._reply(answer))

    def wait(self, timeout_s: float) -> bool:
        """Sleep until somebody publishes, at most ``timeout_s`` seconds (0.01 at least)."""
        with errors_of_ours():
            woken = self.client.blpop([self.keys.wake], max(_SHORTEST_WAIT_S, timeout_s))
        return woken is not None

    def claim_when_woken(
        self, consumer: str, *, count: int, held: int = 0, timeout_s: float
    ) -> Claim:
        """Sleep as :meth:`wait` does, then claim as :meth:`claim` does, in one round trip.

        The server does both, so a message that comes is on lease although its consumer may be gone.
        """
        if not self.asks_ahead:
            self.wait(timeout_s)
            return self.claim(consumer, count=count, held=held)
        wait = ("BLPOP", self.keys.wake, max(_SHORTEST_WAIT_S, timeout_s))
        return claimed(self._reply(self._send("claim", consumer, count, held, after=wait)))

    def renew(self, consumer: str, leases: Iterable[Lease]) -> set[Lease]:
        """Keep leases alive for another lease time; return those that are no longer held."""
        pairs: list[Argument] = []
        for lease in leases:
            pairs += (lease[0], lease[1:])
        return {lease.decode() for lease in self._run("renew", consumer, *pairs)}

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Apply outcomes. False stands where the lease was lost, so nothing was changed there."""
        answers = [True] * len(settlements)
        done: dict[str, list[int]] = defaultdict(list)
        other: list[int] = []
        for index, settlement in enumerate(settlements):
            if isinstance(settlement.outcome, Done):
                done[settlement.message.lease[0]].append(index)
            else:
                other.append(index)
        for letter, indexes in done.items():
            for part in parts(indexes, 1000):
                ids = [settlements[index].message.lease[1:] for index in part]
                runs = [settlements[index].run_ms or 0 for index in part]
                for lost in self._run("done", letter, len(part), *ids, *runs):
                    answers[part[lost]] = False
        for part in parts(other, 100):
            args: list[Argument] = [len(part)]
            for index in part:
                args += settle_args(settlements[index])
            for lost in self._run("settle", *args):
                answers[part[lost]] = False
        return answers

    def release(
        self,
        consumer: str,
        leases: Iterable[Lease],
        *,
        charged: bool = False,
        reason: str = "released",
    ) -> int:
        """Make leased messages ready again; only ``charged`` ones count a lost delivery."""
        args: list[Argument] = [consumer, "1" if charged else "0", reason]
        for lease in leases:
            args += (lease[0], lease[1:])
        return int(self._run("release", *args)[0]) if len(args) > 3 else 0

    def charge(
        self, consumer: str, lease: Lease, *, reason: str = "worker_lost"
    ) -> Literal["ready", "dead", "lost"]:
        """Take back the message that a consumer died of, and say what became of it.

        It is ``ready`` again, or ``dead`` of the delivery limit; ``lost`` when the lease was no longer held.
        """
        back, dead = self._run("release", consumer, "1", reason, lease[0], lease[1:])
        return "lost" if not back else "dead" if dead else "ready"

    def take_back_unheard(self, consumer: str, heard: Mapping[str, str]) -> int:
        """Make ready again, free of charge, what a claim handed out in an answer that got lost.

        ``heard`` names, by stream letter, the newest entry that arrived; none arrived of a stream that is
        missing. Only the consumer's claiming thread may ask, when no claim is on its way.
        """
        args: list[Argument] = [consumer, _PAGE]
        for letter in (*LETTER.values(), "i"):
            args += (letter, heard.get(letter, "0-0"))
        total = 0
        while back := int(self._run("unheard", *args)):
            total += back
        return total

    def abandon(
        self, consumer: str, *, running: Sequence[Lease] | None = None, reason: str = "worker_lost"
    ) -> int:
        """Take back everything a dead consumer held, and forget it.

        ``running`` names the messages it was executing, which alone are charged a delivery; None
        charges all, for want of knowledge. Safe only when the consumer's process is surely gone.
        """
        total, more = 0, 1
        mode: tuple[str, ...] = ("all",) if running is None else ("some", *running)
        while more:
            back, more = self._run("abandon", consumer, reason, _PAGE, *mode)
            total += back
        return total

    # --- whoever looks after the queue ----------------------------------------------------------

    def reclaim(self, *, lease_ms: int | None = None) -> int:
        """Make messages whose lease has expired ready again, and forget workers long gone."""
        return int(self._run("reclaim", lease_ms or self.lease_ms, _PAGE, "now"))

    def watch(self, *, reclaim: bool = True) -> int:
        """Reclaim as :meth:`reclaim` does, unless the server stood still during the last lease.

        Then every lease looks expired, and its holder must have had time to renew it. Several times in
        a lease somebody must call this, if only to look, or it is the server that seems to have stood still.
        """
        return int(self._run("reclaim", self.lease_ms, _PAGE, "watch" if reclaim else "look"))

    def promote(self, limit: int = 200) -> int:
        """Make due delayed messages ready; return how many were due."""
        return int(self._run("promote", limit))

    def trim_dead(self, *, now_ms: int, retention_ms: int) -> int:
        """Purge dead letters older than the retention time."""
        return int(self._run("trim", max(0, now_ms - retention_ms)))

    def stats(self) -> QueueStats:
        """Measure the queue, in one read."""
        return statistics.parse(self.name, self._run("stats"))

    # --- dead letters and purging ---------------------------------------------------------------

    def dead(self, *, before: str = "", count: int = 100) -> list[DeadMessage]:
        """List dead letters, newest first; ``before`` is the last entry of the page before.

        Of a large body only the beginning comes along; ``body_bytes`` tells its length.
        """
        return self.search_dead(before=before, count=count).letters

    def search_dead(
        self,
        *,
        id: str = "",
        reason: str = "",
        task: str = "",
        error: str = "",
        before: str = "",
        count: int = 100,
    ) -> DeadPage:
        """Look for dead letters where they lie, newest first, a page at a time.

        ``reason``, ``task`` and ``error`` are parts of what to find, in any case; ``error`` may stand
        anywhere in the history, so look again at what is found. A page ends with ``count`` letters, or when
        so many were looked at that the answer would be late: then ``before`` names where to go on.
        """
        letters: list[DeadMessage] = []
        texts = [id, *(text.lower() for text in (reason, task, error))]
        for _ in range(0, _SEARCHED_A_PAGE, _SEARCHED_AT_ONCE):
            most, start = count - len(letters), f"({before}" if before else "+"
            last, rows = self._run("search", start, most, _SEARCHED_AT_ONCE, *texts)
            before = last.decode()
            letters += [statistics.dead_message(*row) for row in rows]
            if not before or len(letters) >= count:
                break
        return DeadPage(letters, before)

    def dead_letter(self, name: str, *, whole: bool = False) -> DeadMessage | None:
        """Find a dead letter by its entry, or by its message id (which looks at one after the other).

        Only a ``whole`` one has all of a large body.
        """
        if is_entry(name):
            _, near = self._run("search", name, 1, 1, "", "", "", "")
            letters = [statistics.dead_message(*row) for row in near]
            found = next((letter for letter in letters if letter.entry == name), None)
        else:
            found = next((it for it in self.dead_letters(id=name) if it.id == name), None)
        if found is None or not whole:
            return found
        with errors_of_ours():
            rows: Any = self.client.xrange(self.keys.dead, found.entry, found.entry)
        return replace(found, body=rows[0][1].get(b"b", b"")) if rows else None

    def dead_letters(self, **texts: str) -> Iterator[DeadMessage]:
        """Go through all pages of :meth:`search_dead`."""
        before = ""
        while True:
            page = self.search_dead(**texts, before=before, count=_PAGE)
            yield from page.letters
            if not page.before:
                return
            before = page.before

    def redrive(self, entries: Iterable[str]) -> int:
        """Move dead letters back to ready with a fresh count of attempts; return how many moved.

        Interrupted half-way it can simply be repeated: an entry moves once.
        """
        return sum(int(self._run("redrive", *part)) for part in parts(list(entries), 100))

    def purge_dead(self, entries: Iterable[str]) -> int:
        """Delete dead letters for good; return how many there were."""
        return sum(
            int(self._run("purge", "dead", 0, *part)) for part in parts(list(entries), _PAGE)
        )

    def purge(self, *, ready: bool = True, delayed: bool = True) -> int:
        """Delete waiting messages for good; leased ones are not touched."""
        what = ([LETTER[priority] for priority in PRIORITIES] + ["i"] if ready else []) + (
            ["delayed"] if delayed else []
        )
        total = 0
        for kind in what:
            while gone := int(self._run("purge", kind, _PAGE)):
                total += gone
        return total

    def delete(self) -> None:
        """Delete the queue and every key of it, whatever it holds. Who publishes to it declares it anew.

        Meant for a queue without workers: one that runs would find its leases gone.
        """
        with errors_of_ours():
            self.client.unlink(*self.keys.all)
            self.client.srem(index_key(self.prefix), self.name)
            pattern = re.sub(r"([*?\[\]\\])", r"\\\1", self.keys.base) + "*"
            for server in servers(self.client).values():
                for key in server.scan_iter(match=pattern, count=_PAGE):
                    server.unlink(key)  # progress and dedup keys, which would expire by and by
        self._indexed = False


def _refuse(error: BrokerError, receipts: list[Receipt]) -> NoReturn:
    """Raise what publishing met, in words for people, with the receipts of before."""
    told = explained(error) if isinstance(error, ResponseError) else error
    told.receipts = receipts  # type: ignore[attr-defined]
    if told is error:
        raise error
    raise told from error.__cause__
