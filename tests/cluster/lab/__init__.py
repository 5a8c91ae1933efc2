"""A Kubernetes of one's own for tests: a real control plane, and a stand-in for the kubelet."""
