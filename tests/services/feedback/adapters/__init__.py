"""Tests of services/feedback/adapters."""
