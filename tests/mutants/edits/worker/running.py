"""An attempt, its end, and the pools."""

from tests.mutants.table import Edit

_ATTEMPT = "src/celeriac/worker/attempt.py"
_RUNNER = "src/celeriac/worker/runner.py"
_OUTCOME = "src/celeriac/worker/outcome.py"
_NOTIFY = "src/celeriac/worker/notify.py"
_POOLS_SOLO = "src/celeriac/worker/pools/solo.py"
_POOLS_THREADS = "src/celeriac/worker/pools/threads.py"
_POOLS_BASE = "src/celeriac/worker/pools/base.py"
_POOLS_PREFORK_POOL = "src/celeriac/worker/pools/prefork/pool.py"
_POOLS_PREFORK_ORPHANS = "src/celeriac/worker/pools/prefork/orphans.py"
_POOLS_PREFORK_LIMITS = "src/celeriac/worker/pools/prefork/limits.py"
_POOLS_PREFORK_CHILD = "src/celeriac/worker/pools/prefork/child.py"
_POOLS_ASYNCIO_SCHEDULER = "src/celeriac/worker/pools/asyncio/scheduler.py"

EDITS = (
    Edit("Reject is inverted", _ATTEMPT, "if not error.requeue:", "if error.requeue:"),
    Edit(
        "a requeue never ends",
        _ATTEMPT,
        "if self.message.last:",
        "if False:",
    ),
    Edit("a requeue counts as an attempt", _ATTEMPT, "        self.requeued = True\n", ""),
    Edit(
        "the attempt's number is not raised",
        _ATTEMPT,
        "attempt=self.message.attempt + 1,",
        "attempt=self.message.attempt,",
    ),
    Edit(
        "a message's own limit is ignored",
        _ATTEMPT,
        "max_attempts=self.call.max_attempts,",
        "max_attempts=None,",
    ),
    Edit(
        "a retry's new arguments are lost",
        _ATTEMPT,
        "failure=failure, head=head, body=new.body)",
        "failure=failure)",
    ),
    Edit("a retry runs at once", _ATTEMPT, "RetryAt(delay_ms=new.delay_ms,", "RetryAt(delay_ms=0,"),
    Edit(
        "a retry takes other messages too",
        _ATTEMPT,
        "if queue_name != self.runner.queue.name or message.id != self.message.id:",
        "if queue_name != self.runner.queue.name:",
    ),
    Edit(
        "Celery records a failure where the queue retries",
        _ATTEMPT,
        "                self.state = states.RETRY\n",
        "                pass\n",
    ),
    Edit(
        "Ignore runs again",
        _ATTEMPT,
        "self.outcome = req.celeriac.outcome_of_return()",
        "self.outcome = RetryAt(delay_ms=0)",
    ),
    Edit(
        "the queue counts retries twice",
        _ATTEMPT,
        '    headers.pop("retries", None)\n',
        "    pass\n",
    ),
    Edit(
        "revoked messages run",
        _RUNNER,
        "if message.id in worker_state.revoked:",
        "if message.id not in worker_state.revoked and False:",
    ),
    Edit(
        "what cannot be opened is done",
        _RUNNER,
        "return _undeliverable(message, error, self.worker)",
        "return Settlement(message, Discard(error.reason))",
    ),
    Edit(
        "SystemExit ends the worker",
        _RUNNER,
        "        except BaseException as error:\n            # One task",
        "        except Exception as error:\n            # One task",
    ),
    Edit(
        "a retry beyond the task's limit runs again",
        _RUNNER,
        "                attempt.gave_up = True\n",
        "                pass\n",
    ),
    Edit(
        "progress goes to the message before",
        _RUNNER,
        "            progress.current.reset(sink)\n",
        "            pass\n",
    ),
    Edit(
        "a rule's action is ignored",
        _OUTCOME,
        'if rule is not None and rule.action == "DeadLetter":',
        'if rule is not None and rule.action == "Never":',
    ),
    Edit("one attempt more", _OUTCOME, "    if attempt >= limit:\n", "    if attempt > limit:\n"),
    Edit(
        "no backoff",
        _OUTCOME,
        "backoff.multiplier ** min(attempt - 1, 64)",
        "backoff.multiplier ** 0",
    ),
    Edit(
        "a killed process is told of as a success",
        _NOTIFY,
        "        elif isinstance(outcome, DeadLetter):\n            failed(",
        "        elif isinstance(outcome, Discard):\n            failed(",
    ),
    Edit(
        "a forged message's result is overwritten",
        _NOTIFY,
        "    if error.forged:\n        return",
        "    if error.forged:\n        pass",
    ),
    Edit(
        "solo starts what it may not",
        _POOLS_SOLO,
        "if message is not None and consumer.begin(message):",
        "if message is not None and (consumer.begin(message) or True):",
    ),
    Edit(
        "solo does not settle before it waits",
        _POOLS_SOLO,
        "            consumer.settler.settle()\n",
        "            pass\n",
    ),
    Edit(
        "solo spins while it is full",
        _POOLS_SOLO,
        "                consumer.settler.settled_some.wait(0.05)\n",
        "                pass\n",
    ),
    Edit(
        "a child never ends after its most tasks",
        _POOLS_PREFORK_CHILD,
        "if most and consumer.settler.count >= most:",
        "if most and consumer.settler.count < 0:",
    ),
    Edit(
        "a child grows without end",
        _POOLS_PREFORK_CHILD,
        "if largest_kib and grown_kib > largest_kib:",
        "if largest_kib and grown_kib < 0:",
    ),
    Edit(
        "nobody asks whether it is enough",
        _POOLS_SOLO,
        "            if enough is not None and enough():\n                break\n",
        "",
    ),
    Edit(
        "threads start what they may not",
        _POOLS_THREADS,
        "        if consumer.begin(message):\n",
        "        if consumer.begin(message) or True:\n",
    ),
    Edit(
        "threads do not give back when they close", _POOLS_THREADS, "    consumer.give_back()\n", ""
    ),
    Edit(
        "leaving is tried once",
        _POOLS_BASE,
        "while not (consumer.give_back() and consumer.settler.settle(wait=True) and consumer.leave()):",
        "while not (consumer.give_back() and consumer.settler.settle(wait=True) and (consumer.leave() or True)):",
    ),
    Edit(
        "a drain claims on", _POOLS_BASE, "        self.consumer.closing.set()\n", "        pass\n"
    ),
    Edit(
        "a drain may take for ever",
        _POOLS_BASE,
        "        self.housekeeper.close_by(time.monotonic() + self.context.options.drain_s)\n",
        "        pass\n",
    ),
    Edit(
        "a worker that stands still is live",
        _POOLS_BASE,
        "stale = time.monotonic() - self.beat >= STALE_S",
        "stale = False",
    ),
    Edit(
        "no hard limit",
        _POOLS_PREFORK_POOL,
        "elif running.hard_s and now - running.started > running.hard_s:",
        "elif running.hard_s and now - running.started < 0:",
    ),
    Edit(
        "a hard limit is a whole new attempt",
        _POOLS_PREFORK_POOL,
        "attempt=message.attempt + 1,",
        "attempt=0,",
    ),
    Edit(
        "a message that kills is never charged",
        _POOLS_PREFORK_POOL,
        "self._orphans.append(Orphan(child.name, running, settlement, error))",
        "self._orphans.append(Orphan(child.name, None, settlement, error))",
    ),
    Edit(
        "whoever is killed for another message is blamed",
        _POOLS_PREFORK_POOL,
        "if running is not None and running.message.lease == lease and outcome is not None:",
        "if running is not None and outcome is not None:",
    ),
    Edit(
        "a drained child's message is charged",
        _POOLS_PREFORK_POOL,
        "        elif self._stopping:\n            running = None\n",
        "",
    ),
    Edit(
        "a silent child's leases run out",
        _POOLS_PREFORK_POOL,
        "                self.consumer.link.ask(partial(queue.renew, child.name, []))\n",
        "                pass\n",
    ),
    Edit(
        "dead children are not replaced",
        _POOLS_PREFORK_POOL,
        "            self._spawn_missing(now)\n            closing.wait",
        "            closing.wait",
    ),
    Edit(
        "nobody takes orphans back",
        _POOLS_PREFORK_POOL,
        "            self._orphans.take_back()\n",
        "            pass\n",
    ),
    Edit(
        "a drain does not tell the children",
        _POOLS_PREFORK_POOL,
        "            child.kill(signal.SIGTERM)\n",
        "            pass\n",
    ),
    Edit(
        "an orphan's neighbours are charged",
        _POOLS_PREFORK_ORPHANS,
        "    queue.abandon(orphan.consumer, running=[])\n",
        "    queue.abandon(orphan.consumer)\n",
    ),
    Edit(
        "what a dead child ran is not settled",
        _POOLS_PREFORK_ORPHANS,
        "(ours,) = queue.settle([orphan.settlement])",
        "ours = True",
    ),
    Edit(
        "orphans are dropped while the broker is away",
        _POOLS_PREFORK_ORPHANS,
        "            if fate is None:\n                return\n",
        "            if fate is None:\n                pass\n",
    ),
    Edit(
        "a poison's death is not told",
        _POOLS_PREFORK_ORPHANS,
        'elif fate == "dead":',
        'elif fate == "settled":',
    ),
    Edit(
        "a soft limit is never armed",
        _POOLS_PREFORK_LIMITS,
        "            signal.setitimer(signal.ITIMER_REAL, self._soft_now)\n",
        "            pass\n",
    ),
    Edit(
        "the parent does not learn what a child runs",
        _POOLS_PREFORK_LIMITS,
        "        self._scoreboard.write(message, hard_s, max_attempts or 0)\n",
        "",
    ),
    Edit(
        "a child does not hear SIGTERM",
        _POOLS_PREFORK_CHILD,
        "        consumer.closing.set()\n",
        "        pass\n",
    ),
    Edit(
        "a child's threads show no sign of life",
        _POOLS_PREFORK_CHILD,
        ", on_tick=scoreboard.beat)",
        ")",
    ),
    Edit(
        "asyncio runs more than its slots",
        _POOLS_ASYNCIO_SCHEDULER,
        "or len(running) >= self._slots:",
        "or len(running) > self._slots:",
    ),
    Edit(
        "asyncio never settles",
        _POOLS_ASYNCIO_SCHEDULER,
        "            self._consumer.settler.settle()\n",
        "            pass\n",
    ),
    Edit(
        "asyncio keeps no hard limit",
        _POOLS_ASYNCIO_SCHEDULER,
        "            hard_s=live.hard_s,\n",
        "",
    ),
    Edit(
        "asyncio ends what it was not told to",
        _POOLS_ASYNCIO_SCHEDULER,
        "if live.message.id == message_id:",
        "if live.message.id != message_id:",
    ),
    Edit(
        "asyncio's drain leaves what runs",
        _POOLS_ASYNCIO_SCHEDULER,
        "        if not self._consumer.inflight.running:\n            self._stop()\n",
        "        self._stop()\n",
    ),
    Edit(
        "a rate limit is not kept",
        "src/celeriac/worker/rate_limits.py",
        "        if wait_s <= 0:",
        "        if wait_s >= 0:",
    ),
    Edit(
        "a time to start is handed out twice",
        "src/celeriac/worker/rate_limits.py",
        "            self._next[place] = start + self._intervals[task]\n",
        "",
    ),
    Edit(
        "what has waited for its time waits again",
        "src/celeriac/worker/rate_limits.py",
        " or message.history.startswith(_MARK):",
        ":",
    ),
    Edit(
        "nobody asks for the rate limit",
        _RUNNER,
        "if message.task in self._limited and (",
        "if not message.task and (",
    ),
    Edit(
        "what newer workers know is buried by older ones",
        _RUNNER,
        "            if later is not None:\n                return Settlement(message, later)\n            logger",
        "            logger",
    ),
    Edit(
        "an unknown task waits for ever",
        _RUNNER,
        "if now - since < grace_ms else None",
        "if since else None",
    ),
)
