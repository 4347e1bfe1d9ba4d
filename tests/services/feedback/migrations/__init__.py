"""Tests of services/feedback/migrations that are about one revision."""
