"""Implements the user embedding service's ports: profiles in SQL, and the user encoder in Triton."""
