"""Tests of services/ranking/adapters."""
