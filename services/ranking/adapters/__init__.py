"""Implements the ranking service's ports: the user embedding service, and the reward model in Triton."""
