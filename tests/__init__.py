"""Tests; each folder mirrors the code it tests."""
