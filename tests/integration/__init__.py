"""Tests of the parts together, on a real cluster."""
