"""Tests of services/studio/pages, over the items service's own logic."""
