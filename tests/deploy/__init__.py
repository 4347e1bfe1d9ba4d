"""Tests of the local cluster and the demonstration."""
