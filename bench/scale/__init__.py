"""Celeriac with a million of everything: `python -m bench.scale [--only GROUP ...] [--messages N]`.

waiting    memory for each message that waits, and a drain of many beside a drain of few
dead       listing and filtering many dead letters, a page at a time
delayed    many delayed messages that come due at once, and what claims notice of it
"""
