"""Puts a scaling decision into words: the arithmetic first, then what limits it. Pure."""

from __future__ import annotations

from celeriac.control.scale import ScaleDecision


def explain(decision: ScaleDecision) -> list[str]:
    """Explain a number of workers in a few lines."""
    if decision.limited_by == "BrokerUnreachable":
        return [
            "the broker does not answer, so nothing is known of the queue",
            f"{_workers(decision.desired)} kept until it does",
        ]
    total = decision.ready + decision.leased + decision.due
    terms = f"{decision.ready} ready + {decision.leased} leased + {decision.due} due"
    lines = [
        f"{terms} = {total} {'message' if total == 1 else 'messages'}",
        f"{total} / {decision.slots} at once in each worker = {_workers(decision.needed)} needed",
        f"at least {decision.min_replicas}, at most {decision.max_replicas}",
        f"{_workers(decision.desired)} desired: {_why(decision)}",
    ]
    if decision.ready:
        waited, aim = decision.oldest_ready_seconds, decision.start_wait_seconds
        compared = f"over the {aim} s" if waited > aim else f"within the {aim} s"
        lines.append(
            f"the oldest ready message has waited {waited} s, {compared} of startWaitSeconds"
        )
    return lines


def _why(decision: ScaleDecision) -> str:
    match decision.limited_by:
        case "Depth":
            return "just what the messages need"
        case "MinReplicas":
            return "autoscaling.minReplicas keeps them"
        case "MaxReplicas":
            return f"autoscaling.maxReplicas limits them; {decision.needed} would be needed"
        case "Replicas":
            return "the number is set by replicas and autoscaling.minReplicas"
        case "Stabilisation":
            return f"more were needed lately; fewer in {decision.hold_seconds} s at the earliest"
        case "Paused":
            return "the queue is paused, so none is started or stopped"
        case "BrokerUnreachable":
            return "the broker does not answer"


def _workers(number: int) -> str:
    return f"{number} {'worker' if number == 1 else 'workers'}"
