"""Tests of services/ranking."""
