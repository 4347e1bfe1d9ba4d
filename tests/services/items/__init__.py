"""Tests of services/items."""
