"""How large the fault tests are, and the seed of all their choices.

CHAOS_SEED=n repeats a run's choices; CHAOS=long makes every row larger, and puts stock Celery beside ours.
"""

from __future__ import annotations

import os
import secrets

#: In the environment too, since all processes of a run have one.
SEED = os.environ.setdefault("CHAOS_SEED", str(secrets.randbelow(10**9)))
LONG = os.environ.get("CHAOS", "") == "long"


def scale(short: int, long: int) -> int:
    """Choose between the size of a row's short form and that of its long form."""
    return long if LONG else short
