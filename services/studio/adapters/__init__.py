"""Implements the studio's ports: the other services over gRPC, its own tables in SQL, the issuer of logins."""
