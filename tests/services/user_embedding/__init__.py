"""Tests of services/user_embedding."""
