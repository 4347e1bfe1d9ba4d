"""Tests of services/user_embedding/adapters."""
