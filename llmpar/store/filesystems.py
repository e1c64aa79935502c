"""Whether a file is on this machine's own disk: what several machines write to at a time is no place for SQLite.

Known on Linux alone; elsewhere every file is taken for one of this machine's.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_OF_NETWORKS = frozenset({
    "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.ceph", "fuse.davfs", "fuse.glusterfs", "fuse.gcsfuse",
    "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs3", "nfs4", "ocfs2",
    "orangefs", "panfs", "pvfs2", "smb2", "smb3", "smbfs", "wekafs",
})  # fmt: skip
_ESCAPED = re.compile(r"\\([0-7]{3})")


def network_file_system(path: Path) -> str | None:
    """Return the kind of network file system that a file is on, or would be on; None if it is on none."""
    try:
        mounts = _MOUNTS.read_text("utf-8", "surrogateescape")
    except OSError:
        return None
    kind = kind_of(os.path.realpath(path), mounts)
    return kind if kind in _OF_NETWORKS else None


def kind_of(path: str, mounts: str) -> str:
    """Return the kind of file system that a path is on, "" if that is unknown.

    Args:
        path: without links.
        mounts: as /proc/self/mountinfo has them; what was mounted last over others counts.
    """
    longest, kind = -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        place = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[4])
        if (path == place or path.startswith(place.rstrip("/") + "/")) and len(place) >= longest:
            longest, kind = len(place), after.split(" ")[0]
    return kind
