"""What a queue owns in the cluster, as plain dictionaries. Pure: a declaration goes in, objects come out."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
