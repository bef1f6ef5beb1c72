"""A real Kubernetes for tests: compiled from Go modules, run in a network namespace of its own.

    python -m tests.cluster up      start it (etcd, API server, controllers, scheduler, kubelet, proxy)
    python -m tests.cluster down    stop it, remove what it left, and what killed tests left

Nothing here needs Docker or a container registry. See README.md for what it takes and how it is built.
"""
