"""Tests of the services: real gRPC servers and SQL, fakes behind the protocols of other processes."""
