"""Revisions of the service's tables, one file each, in the order of their numbers; see docs/extending.md."""
