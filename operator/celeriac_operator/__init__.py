"""The operator: watches MessageQueues, and runs their workers as Deployments.

kopf events -> world (what the API server says) -> work queue of keys -> rounds, one queue at a time
                                                        |
                  celeriac.control decides, KubernetesBackend does, the status tells
"""
