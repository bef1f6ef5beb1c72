"""Benchmarks: everybody on one private server, in alternation, every drain checked.

throughput      stock Celery and Celeriac, the core comparison: `make bench`
peers           the same measurements of every queue a Python user could pick, and BullMQ
scale           queues, delayed messages and dead letters by the million
harness         the server, the processes and the tables that they share
jobs, tasks     what is run: plain functions, and the Celery app of them
RESULTS.md      what came out, and where the limits are
"""
