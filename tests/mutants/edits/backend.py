"""Workers as child processes."""

from tests.mutants.table import Edit

_LOCAL = "src/celeriac/backend/local.py"
_REPLICAS = "src/celeriac/backend/replicas.py"

EDITS = (
    Edit(
        "nobody hears of a worker's death",
        _LOCAL,
        "        fleet.lost.add(name)\n",
        "",
    ),
    Edit(
        "what should leave is not asked to",
        _LOCAL,
        "        worker.process.terminate()\n        logger.info",
        "        logger.info",
    ),
    Edit(
        "a drain that never ends is waited for",
        _LOCAL,
        "                    worker.process.kill()\n\n",
        "                    pass\n\n",
    ),
    Edit(
        "a worker that dies young is started without a wait",
        _REPLICAS,
        "since=now + restart_wait_s(failures),",
        "since=now,",
    ),
    Edit(
        "all old workers go at once",
        _REPLICAS,
        "droppable = surplus - len(unready)",
        "droppable = len(outdated)",
    ),
    Edit(
        "a gap is filled before its time",
        _REPLICAS,
        "for it in gaps if it.since <= now]",
        "for it in gaps]",
    ),
    Edit(
        "a worker's children outlive it",
        "src/celeriac/backend/process.py",
        "            self._signal_group(signal.SIGKILL)\n        return self._process.wait()",
        "            pass\n        return self._process.wait()",
    ),
    Edit(
        "workers outlive who started them",
        "src/celeriac/backend/tether.py",
        "ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))",
        "pass",
    ),
    Edit(
        "a changed command replaces no worker",
        "src/celeriac/backend/command.py",
        "text = json.dumps([self.arguments, self.environment])",
        "text = json.dumps([self.environment])",
    ),
    Edit(
        "workers get another lease than declared",
        "src/celeriac/backend/command.py",
        '"lease": str(worker.lease_seconds)',
        '"lease": str(worker.drain_seconds)',
    ),
    Edit(
        "the password is on the command line",
        "src/celeriac/backend/command.py",
        'arguments=("-m", "celeriac.cli", "worker", *options),',
        'arguments=("-m", "celeriac.cli", "worker", *options, f"--broker={broker_url}"),',
    ),
    Edit(
        "a worker's death is forgotten with its replica",
        "src/celeriac/backend/replicas.py",
        "        failures=failures,\n    )",
        "        failures=0,\n    )",
    ),
    Edit(
        "busy workers are drained first",
        "src/celeriac/backend/replicas.py",
        "(order[it.state], it.held, -it.since)",
        "(order[it.state], -it.held, -it.since)",
    ),
)
