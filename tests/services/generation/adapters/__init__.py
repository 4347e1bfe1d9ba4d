"""Tests of services/generation/adapters."""
