"""Every queue a Python user could pick, and BullMQ, beside Celeriac: `python -m bench.peers --help`.

    line_up       who takes part, in which variants       install       each peer in an environment of its own
    systems       how each is started and emptied         apps/         the same four jobs for each
    measure       one figure of one variant               producer      one process that sends
    groups        what is measured, as tables of columns

It needs a network for the first run, to install the peers, and Node.js for BullMQ.
"""
