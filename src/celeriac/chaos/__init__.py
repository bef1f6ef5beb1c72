"""Are the promises kept under faults? Numbered jobs, a record of what really ran, and a judge.

Producers number their jobs, workers note every start and finish in a file beside the broker
(``sidefile``), faults come from a printed seed, and in the end the history decides (``checker``). The
project's own fault tests and ``celeriac chaos`` use the same parts.
"""
