"""Starts and demonstrates the system: the local cluster, the images, the demonstration."""
