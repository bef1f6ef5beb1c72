"""Celeriac beside stock Celery, alternating in one run, on one private server.

contenders   who is compared, and with which settings
producer     one process that sends, and says how fast
measure      one number: a rate, a latency, a start, a size
rows         what was measured of both
"""
