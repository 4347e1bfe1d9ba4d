"""Who was erased: LAKE/erasures has a hash of each merchant, its salt, and what was done.

The hash lets `collect` drop what Kafka still holds of an erased merchant, or gives again, without keeping who it is.
Whoever has the table can test a guess; nobody can read merchants out of it. Knows one table; nothing about others.
"""

import hashlib
import secrets
from dataclasses import dataclass

from training.retraining.lake import Lake

TRANSACTION = "erasures"  # carried by every commit to events, groups and the shop: the version of erasures that it knew


@dataclass(frozen=True)
class Erased:
    """Everybody who is erased, as of a version of the table."""

    salt: str
    hashes: frozenset[str]
    version: int

    def __contains__(self, user_id: str) -> bool:
        return bool(self.hashes) and self.hash_of(user_id) in self.hashes

    def hash_of(self, user_id: str) -> str:
        return hashlib.sha256((self.salt + user_id).encode()).hexdigest()


def erased(lake: Lake) -> Erased:
    """Everybody who is erased now. Read after a table is opened, it knows every erasure that the table has seen."""
    table = lake.open("erasures", description=secrets.token_hex(16))
    hashes = table.to_pyarrow_table(columns=["user_hash"]).column("user_hash").to_pylist()
    return Erased(str(table.metadata().description), frozenset(map(str, hashes)), table.version())
