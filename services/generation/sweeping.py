"""Removes from the object store what no group refers to: pictures of failed rounds, scratch of processes that died.

It knows what may go and when. What lies in the store, and what groups refer to, it asks its ports.

A picture is stored before its group, so one without a group may have its group coming. Only objects that nobody wrote
for a grace period go, by the store's own clock; a round is far shorter, and storing a picture that is there already
writes it anew. Several replicas may sweep at once. In a store that was moved with its objects, the pictures of groups
that name its old place stay.
"""

import logging
import re
from dataclasses import dataclass

from services.generation.pictures import FOLDERS, SCRATCH, is_object_name
from services.generation.ports import References, StoredObject, StoredObjects

_log = logging.getLogger(__name__)

_SLACK = 1000  # objects without a group that raise no suspicion, beside as many as have one
_OLD_SCRATCH = re.compile(r"[0-9a-f]{2}/[0-9a-f]{64}\.png\.[0-9a-f]{32}")  # beside its picture, as it once was


@dataclass(frozen=True)
class Swept:
    """What a sweep found, and what it removed."""

    referenced: int  # pictures of stored groups
    unreferenced: int  # pictures of no group, older than the grace period
    scratch: int  # files of no use, older than the grace period
    deleted: int
    is_suspicious: bool  # too many pictures without a group: they were left


@dataclass(frozen=True)
class Sweeper:
    """`grace_s` must be longer than any round takes from its first stored picture to its stored group."""

    objects: StoredObjects
    references: References
    grace_s: float

    async def sweep(self, *, dry_run: bool = False, force: bool = False) -> Swept:
        """Removes what is old and belongs to no group; with `dry_run`, only counts it.

        Where most pictures belong to no group, the database is probably another's, or an old copy. Then pictures stay,
        unless `force` says that they may go. Raises Unavailable when the store or the database fails; what is deleted
        by then was rightly deleted.
        """
        not_after_s = await self.objects.now_s() - self.grace_s
        scratch = [found for found in await self.objects.folder(SCRATCH) if found.modify_time_s < not_after_s]
        unreferenced: list[StoredObject] = []
        referenced = 0
        for folder in FOLDERS:
            there = await self.objects.folder(folder)
            pictures = [found for found in there if is_object_name(found.name)]
            of_groups = await self.references.among([found.uri for found in pictures])
            referenced += len(of_groups)
            old = [found for found in there if found.modify_time_s < not_after_s]
            unreferenced += [found for found in old if is_object_name(found.name) and found.uri not in of_groups]
            scratch += [found for found in old if _OLD_SCRATCH.fullmatch(found.name)]
        moved = await self.references.named([found.name for found in unreferenced])
        unreferenced = [found for found in unreferenced if found.name not in moved]
        referenced += len(moved)
        is_suspicious = not force and bool(unreferenced) and _too_many(len(unreferenced), referenced)
        going = scratch if is_suspicious else scratch + unreferenced
        deleted = 0
        if not dry_run:
            for found in going:
                deleted += await self.objects.delete(found.name, not_after_s=not_after_s)
        swept = Swept(referenced, len(unreferenced), len(scratch), deleted, is_suspicious)
        if going or is_suspicious:
            _log.log(logging.ERROR if is_suspicious else logging.INFO, "swept the object store", extra=vars(swept))
        return swept


def _too_many(unreferenced: int, referenced: int) -> bool:
    return referenced == 0 or unreferenced > referenced + _SLACK
