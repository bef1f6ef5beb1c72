"""How the operator does with a thousand queues, on a real API server.

    python -m bench.operator_scale [--queues N] [--busy N] [--idle SECONDS]

etcd, API server, controllers and broker are real; the pods' containers are pretended, so that one machine
holds them all. Linux and root, as for the tests on a real Kubernetes.
"""
