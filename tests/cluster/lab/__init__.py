"""A Kubernetes of one's own for tests, on one machine and without containers.

etcd, API server, controller manager and scheduler are the real ones (`control_plane.py`), found or
built by `binaries.py`. The node is a stand-in for the kubelet (`kubelet/`, steered by `node.py`)
that runs each pod's container as a process of this machine, or, where root may have it, a real one
with containers (`real_node.py`); S3 is versitygw (`s3.py`). By hand: `make cluster`. In tests: the
fixtures of `tests/cluster/fixtures.py` and `tests/node/conftest.py`. Linux only.
"""
