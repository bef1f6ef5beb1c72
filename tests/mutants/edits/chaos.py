"""The judge of the fault tests."""

from tests.mutants.table import Edit

_CHECKER = "src/celeriac/chaos/checker.py"
_STALL = "src/celeriac/chaos/stall.py"

EDITS = (
    Edit(
        "nothing is ever lost",
        _CHECKER,
        "lost=sorted(set(open_).difference(waiting, discarded)),",
        "lost=[],",
    ),
    Edit(
        "what was begun counts as done",
        _CHECKER,
        "done = {job for job, its in by_job.items() if any(run.finished is not None for run in its)}",
        "done = set(by_job)",
    ),
    Edit(
        "every fault explains every repeat",
        _CHECKER,
        "if fault.at < again.started and fault.hits(run):",
        "if fault.at < again.started:",
    ),
    Edit(
        "a kill explains what had long been settled",
        _CHECKER,
        "if -_SLACK_S <= fault.at - end <= SETTLE_S:",
        "if -_SLACK_S <= fault.at - end:",
    ),
    Edit(
        "strangers are welcome",
        _CHECKER,
        "strangers=by_job.keys() - accepted.keys() - set(uncertain),",
        "strangers=set(),",
    ),
    Edit(
        "what is stuck is not told",
        _CHECKER,
        "stuck=sorted(set(open_).intersection(waiting)),",
        "stuck=[],",
    ),
    Edit(
        "repeats without a reason are no violation",
        _CHECKER,
        "return [repeat for repeat in self.repeats if not repeat.why]",
        "return []",
    ),
    Edit(
        "the frozen are at work",
        _STALL,
        "            yield since, max(since, freeze[0])\n            since = freeze[1]\n",
        "            pass\n",
    ),
    Edit(
        "a history that ends with a stall has none",
        _STALL,
        "until or 0.0])",
        "0.0])",
    ),
)
