"""Releases of a model repository beside running services: load, promote, roll back, prune, status.

`python -m deploy.releases --help`; controller.py has the steps. It needs no part of the local cluster.
"""
