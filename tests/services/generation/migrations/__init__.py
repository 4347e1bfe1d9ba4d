"""Tests of services/generation/migrations that are about one revision."""
