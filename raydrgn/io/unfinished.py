"""What processes that were killed in the middle of ``storage.atomic_write`` have left."""

import re
from collections.abc import Iterable

from raydrgn.io import storage
from raydrgn.io.storage import Uri

UNFINISHED = re.compile(rf"(.*)\.[0-9a-f]{{32}}{re.escape(storage.PART_SUFFIX)}")


def remove_unfinished(uris: Iterable[Uri]) -> None:
    """Delete the unfinished parts of files on a disk, which nobody writes any more.

    An object store keeps nothing unfinished.
    """
    folders: dict[Uri, set[str]] = {}
    for uri in filter(storage.is_local, uris):
        folders.setdefault(storage.parent(uri), set()).add(storage.name(uri))
    for folder, names in folders.items():
        for entry in storage.list_names(folder):
            found = UNFINISHED.fullmatch(entry)
            if found and found[1] in names:
                storage.remove(storage.join(folder, entry))
