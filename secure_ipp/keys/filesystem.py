"""What kind of file system a directory lies on, where the system tells (Linux: /proc/self/mountinfo).

Locks and Unix sockets need a local one (S29).  An unknown kind passes: other systems do not say, and new local file
systems appear more often than new network ones.
"""

from __future__ import annotations

import os
import re

from secure_ipp.errors import EnvironmentProblem

_NETWORK = frozenset({
    "9p", "afs", "auristorfs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre",
    "ncpfs", "nfs", "nfs3", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "vmhgfs",
    "fuse.ceph", "fuse.ceph-fuse", "fuse.davfs2", "fuse.glusterfs", "fuse.juicefs", "fuse.mfs", "fuse.moosefs",
    "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "fuse.vmhgfs-fuse",
})
_OCTAL = re.compile(r"\\([0-7]{3})")


def kind_of(mountinfo: str, directory: str) -> str:
    """The file system's kind, from the text of mountinfo (proc(5)); "" when it does not say.

    Args:
        mountinfo: one mount a line; later ones cover earlier ones.
        directory: a real absolute path.
    """
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if "-" not in fields[6:]:
            continue
        point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
        inside = directory == point or directory.startswith(point.rstrip("/") + "/")
        end = fields.index("-", 6) + 1
        if inside and len(point) >= best and end < len(fields):
            best, kind = len(point), fields[end]
    return kind


def is_local(directory: str) -> bool:
    """Whether nothing says that this real path lies on a network file system."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            mountinfo = file.read()
    except OSError:
        return True
    return kind_of(mountinfo, directory) not in _NETWORK


def check_local(directory: str) -> None:
    """Return if locks and sockets may lie here.

    Raises:
        EnvironmentProblem: it is a network file system.
    """
    if not is_local(os.path.realpath(directory)):
        raise EnvironmentProblem(
            f"{directory} lies on a network file system, where locks and sockets do not work",
            "set SECURE_IPP_HOME to a directory on a local disk",
            code="not-local",
        )
