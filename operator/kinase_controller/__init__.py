"""The controller: runs one experiment's search on a cluster, in its own pod.

The loop (`kinase.experiment.loop`) is the same as in a local run. This package adds the engine that
runs trials as `NASTrial` resources, the endpoint that trials post to, and the reporting to the
cluster: status and Events.
"""
