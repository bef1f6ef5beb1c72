"""What a worker holds: leases, settlements, what it knows of the broker."""

from tests.mutants.table import Edit

_LINK = "src/celeriac/worker/link.py"
_SETTLER = "src/celeriac/worker/settler.py"
_INFLIGHT = "src/celeriac/worker/inflight.py"
_CONSUMER = "src/celeriac/worker/consumer.py"
_HOUSEKEEPER = "src/celeriac/worker/housekeeper.py"
_MAIN = "src/celeriac/worker/main.py"

EDITS = (
    Edit(
        "an answer does not make the broker reachable",
        _LINK,
        "            self.connected_since = self._machine.monotonic()\n",
        "            pass\n",
    ),
    Edit(
        "trouble leaves the broker reachable",
        _LINK,
        "        self.connected_since = None\n        self._failures += 1\n",
        "        self._failures += 1\n",
    ),
    Edit(
        "no pause after trouble",
        _LINK,
        "        self._closing.wait(min(LONGEST_RETRY_S, RETRY_S * 2 ** min(self._failures, 6)))\n",
        "        pass\n",
    ),
    Edit(
        "a record that is gone is not declared again",
        _LINK,
        "            remedy()\n",
        "            pass\n",
    ),
    Edit(
        "settle never asks",
        _SETTLER,
        "self._link.ask(lambda: self._link.queue.settle(batch))",
        "[True] * len(batch)",
    ),
    Edit(
        "outcomes whose settling got no answer are forgotten",
        _SETTLER,
        "                self._finished.extendleft(reversed(batch))\n",
        "                pass\n",
    ),
    Edit(
        "outcomes are put back the wrong way round",
        _SETTLER,
        "extendleft(reversed(batch))",
        "extendleft(batch)",
    ),
    Edit("settling is never due", _SETTLER, "return waiting > 0 and (", "return waiting < 0 and ("),
    Edit(
        "what is on its way to be settled is not renewed",
        _SETTLER,
        "ended = [*self._sent, *list(self._finished)]",
        "ended = [*list(self._finished)]",
    ),
    Edit(
        "the settling lock is not given back",
        _SETTLER,
        "            self._settling.release()\n",
        "            pass\n",
    ),
    Edit(
        "closing does not wait for who settles",
        _SETTLER,
        "self._settling.acquire(blocking=wait)",
        "self._settling.acquire(blocking=False)",
    ),
    Edit("ended messages are not counted", _SETTLER, "        self.count += 1\n", "        pass\n"),
    Edit(
        "a lost lease starts all the same",
        _INFLIGHT,
        "            self._lost.discard(lease)\n",
        "            self._lost.discard(lease)\n            return True\n",
    ),
    Edit(
        "what waits is not held",
        _INFLIGHT,
        "            unstarted[lease] = None\n",
        "            pass\n",
    ),
    Edit(
        "what ended still runs",
        _INFLIGHT,
        "entry = self.running.pop(lease, None)",
        "entry = self.running.get(lease)",
    ),
    Edit(
        "what runs is not noted",
        _INFLIGHT,
        "            self.running[lease] = (message, now)\n",
        "            pass\n",
    ),
    Edit(
        "leases count from the newest claim",
        _INFLIGHT,
        "min(leased_at, self.leases_seen) if unstarted else leased_at",
        "leased_at",
    ),
    Edit(
        "what is called back is forgotten",
        _INFLIGHT,
        "                self.returning[message.lease] = None\n",
        "                pass\n",
    ),
    Edit(
        "a runner that is to end is forgotten",
        _INFLIGHT,
        "            self.waiting.put(None)  # still meant for a thread that is busy\n",
        "            pass\n",
    ),
    Edit(
        "what runs under a lost lease is not stopped",
        _INFLIGHT,
        '"it is stopped" if self.stop_taken(message) else "this pool cannot stop it"',
        '"it is stopped"',
    ),
    Edit(
        "leases are never renewed",
        _CONSUMER,
        "lost = self.link.ask(lambda: self.queue.renew(self.name, leases + unstarted))",
        "lost = set()",
    ),
    Edit(
        "only what runs is renewed",
        _CONSUMER,
        "self.queue.renew(self.name, leases + unstarted)",
        "self.queue.renew(self.name, leases)",
    ),
    Edit(
        "stale messages start",
        _CONSUMER,
        "ours = not self.stale or (self.renew() and not self.stale)",
        "ours = True",
    ),
    Edit(
        "stale messages start whatever the renewal says",
        _CONSUMER,
        "(self.renew() and not self.stale)",
        "(self.renew() or True)",
    ),
    Edit(
        "a lease is stale at once",
        _CONSUMER,
        "return unseen_s > self.queue.lease_ms / 1000",
        "return unseen_s > self.queue.lease_ms / 1_000_000",
    ),
    Edit(
        "a full worker claims",
        _CONSUMER,
        "if room <= 0 or not (self._sole_owner or self._take_back_name()):",
        "if room < 0 or not (self._sole_owner or self._take_back_name()):",
    ),
    Edit(
        "an isolated message has company",
        _CONSUMER,
        "        if self._alone and self.held:\n            return None\n",
        "",
    ),
    Edit(
        "what a predecessor held is renewed for ever",
        _CONSUMER,
        "or not (self._sole_owner or self._take_back_name())",
        "or not (self._sole_owner or True)",
    ),
    Edit(
        "a lost answer's messages are not taken back",
        _CONSUMER,
        "self._unsure = claim is None",
        "self._unsure = False",
    ),
    Edit(
        "others' leases are reclaimed at once after an outage",
        _CONSUMER,
        "self.queue.watch(reclaim=settled)",
        "self.queue.watch(reclaim=True)",
    ),
    Edit(
        "others' leases are never reclaimed",
        _CONSUMER,
        "self.queue.watch(reclaim=settled)",
        "self.queue.watch(reclaim=False)",
    ),
    Edit(
        "give back releases nothing",
        _CONSUMER,
        "if leases and self.link.ask(lambda: self.queue.release(self.name, leases)) is None:",
        "if leases and False:",
    ),
    Edit(
        "what could not be given back is forgotten",
        _CONSUMER,
        "is None:\n            return False\n        self.inflight.returned(leases)",
        "is None:\n            pass\n        self.inflight.returned(leases)",
    ),
    Edit(
        "leaving charges what a lost answer handed out",
        _CONSUMER,
        "self.queue.abandon(self.name, running=[])",
        "self.queue.abandon(self.name)",
    ),
    Edit(
        "at the end what runs is kept",
        _CONSUMER,
        "        leases = list(self.inflight.running)\n        if leases:\n",
        "        leases = list(self.inflight.running)\n        if not leases:\n",
    ),
    Edit(
        "the last outcomes wait for the keeper",
        _CONSUMER,
        "or self.inflight.waiting.empty():",
        "or False:",
    ),
    Edit(
        "a changed policy is not read",
        _CONSUMER,
        "if claim.version != self._version and self.read_record():",
        "if claim.version == self._version and self.read_record():",
    ),
    Edit(
        "a lost record is declared with the defaults",
        _CONSUMER,
        "self.queue.declare(self._policy, only_if_absent=True)",
        "self.queue.declare(QueuePolicy(), only_if_absent=True)",
    ),
    Edit(
        "an idle worker sleeps although a message is due",
        _CONSUMER,
        "left = LONGEST_WAIT_S if next_due_ms < 0",
        "left = LONGEST_WAIT_S if next_due_ms > 0",
    ),
    Edit(
        "dropped messages are told to nobody",
        _CONSUMER,
        "            self._on_dropped(dropped, reason)\n",
        "            pass\n",
    ),
    Edit(
        "it claims ahead without end",
        _CONSUMER,
        "if self._ahead is not None or self._alone or self._unsure or self.closing.is_set():",
        "if self.closing.is_set():",
    ),
    Edit(
        "the housekeeper never renews",
        _HOUSEKEEPER,
        "        if now >= self._renew_at:\n",
        "        if now < self._renew_at - self._period:\n",
    ),
    Edit(
        "the housekeeper renews once in a lease",
        _HOUSEKEEPER,
        "RENEWALS_PER_LEASE = 3",
        "RENEWALS_PER_LEASE = 1",
    ),
    Edit(
        "the housekeeper does not look after leases",
        _HOUSEKEEPER,
        "        consumer.renew()\n",
        "        pass\n",
    ),
    Edit(
        "the housekeeper looks after nobody else's",
        _HOUSEKEEPER,
        "        consumer.reclaim()\n",
        "        pass\n",
    ),
    Edit(
        "the housekeeper settles nothing",
        _HOUSEKEEPER,
        "            self.consumer.settler.settle()\n",
        "            pass\n",
    ),
    Edit(
        "stuck messages stay",
        _HOUSEKEEPER,
        "self._clock() - inflight.last_take > STUCK_S",
        "self._clock() - inflight.last_take < 0",
    ),
    Edit(
        "a drain never ends",
        _HOUSEKEEPER,
        "            if now >= self._deadline:\n",
        "            if now < 0:\n",
    ),
    Edit(
        "a drain that ends hands nothing back",
        _HOUSEKEEPER,
        "                self.consumer.give_back_all()\n",
        "",
    ),
    Edit(
        "the latest deadline counts",
        _HOUSEKEEPER,
        "min(deadline, self._deadline)",
        "max(deadline, self._deadline)",
    ),
    Edit(
        "an orphaned worker goes on",
        _HOUSEKEEPER,
        "os.getppid() != self._parent",
        "os.getppid() == self._parent",
    ),
    Edit("a drain is not started", _MAIN, "        self.pool.drain()\n", "        pass\n"),
    Edit(
        "a draining worker is ready", _MAIN, "ready=connected and not draining,", "ready=connected,"
    ),
    Edit(
        "a second signal counts for nothing",
        _MAIN,
        "            self.pool.stop_at_once()\n",
        "            pass\n",
    ),
    Edit(
        "a revocation stays in the worker",
        _MAIN,
        "        self.consumer.link.ask(lambda: self.consumer.queue.cancel(message_id))\n",
        "        pass\n",
    ),
    Edit("an unfit broker passes", _MAIN, "        self.broker_check.now()\n", "        pass\n"),
    Edit(
        "the worker's exit code hides a refused broker",
        _MAIN,
        "return 1 if worker.broker_check.refused else 0",
        "return 0",
    ),
    Edit(
        "what has arrived since a renewal counts as renewed",
        "src/celeriac/worker/inflight.py",
        "            if self._unstarted.keys() <= set(leases):",
        "            if leases is not None:",
    ),
)
