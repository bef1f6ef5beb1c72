"""One module for each queue: how its jobs are declared, and how one is sent.

Each has `one(job, *args)`, which sends a single call and may be a coroutine function; where the queue has
a way to send many at once, also `many(job, count, *args)`. What it needs to know is in `BENCH_URL`.
"""
