"""Tests of the way of a release into service, against Tritons that are tables in memory; the real one: integration."""
