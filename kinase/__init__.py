"""Kinase finds neural network architectures, on a laptop or on a Kubernetes cluster."""

__version__ = "0.1.0"
