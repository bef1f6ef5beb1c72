"""The queue's record on the broker: the policy, and what the scripts need of it as plain fields."""

from __future__ import annotations

from celeriac.broker import layout
from celeriac.spec.policies import PriorityPolicy, QueuePolicy


def record_fields(policy: QueuePolicy) -> dict[str, str]:
    """Flatten a policy into the fields of the record's hash."""
    max_deliveries = policy.dead_letter.max_deliveries
    return {
        "policy": policy.model_dump_json(by_alias=True),
        "layout": str(layout.LAYOUT),
        "paused": "1" if policy.paused else "0",
        "order": serving_order(policy.priority),
        "maxDeliveries": str(max_deliveries),
        # Two lost deliveries before a message is run alone: a neighbour of one poison message then
        # loses two at most, and stays under any limit of three or more.
        "isolateAfter": str(max(1, min(2, max_deliveries - 1))),
        "deadMessages": str(policy.dead_letter.max_messages),
        "maxMessages": str(policy.limits.max_messages),
        "maxMessageBytes": str(policy.limits.max_message_bytes),
    }


def serving_order(priority: PriorityPolicy) -> str:
    """Spell a cycle of turns, one letter each: which priority is served first at that turn.

    Strict: high always first, but for one turn in ``starvation_bound``, which goes to low and normal by
    turns. Weighted: smooth weighted round-robin (the algorithm of nginx's upstream balancing).
    """
    if priority.mode == "Strict":
        most = "h" * (priority.starvation_bound - 1)
        return f"{most}n{most}l" if priority.starvation_bound > 1 else "hnl"
    weights = {
        "h": priority.weights.high,
        "n": priority.weights.normal,
        "l": priority.weights.low,
    }
    total, credit, order = sum(weights.values()), dict.fromkeys(weights, 0), ""
    for _ in range(total):
        for letter, weight in weights.items():
            credit[letter] += weight
        turn = max(credit, key=lambda letter: credit[letter])
        credit[turn] -= total
        order += turn
    return order
