"""Implements the feedback service's ports: groups of the generation service, and records in SQL."""
