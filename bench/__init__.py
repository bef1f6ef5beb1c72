"""Benchmarks. `make bench` runs the one that compares Celeriac with stock Celery."""
