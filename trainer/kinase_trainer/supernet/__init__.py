"""Supernets in torch: one network that holds those of all architectures of a space."""
