"""Implements the generation service's ports: other services over gRPC, SQL, and the object store."""
