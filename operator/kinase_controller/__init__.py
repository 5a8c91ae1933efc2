"""The controller: one experiment's search on a cluster, in a pod of its own.

The loop (`kinase.experiment.loop`) is that of a local run. Here are the engine that runs trials as
`NASTrial` resources, the endpoint that trials post to, and what the cluster is told of it all.
"""
