"""``python -m celeriac_messaging.demo``: the whole platform on this machine, with about 300 real jobs."""
