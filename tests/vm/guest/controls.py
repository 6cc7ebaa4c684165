"""The programs for names and attributes, each alone, on the kernel's control file systems:
a bpffs of our own, which no pin makes the gate's, and cgroupfs.

Invariant: without the program the kernel does what is asked, or says that this file system
can't. Absent: `inode_mknod` and `inode_file_setattr`, as no such file system makes nodes or
has flags: the kernel refuses before it asks.
"""

import ctypes
import errno
import os
import struct

import hidden
import host
import layers

BPFFS = "/var/tmp/controls"
MAP, OTHER = f"{BPFFS}/map", f"{BPFFS}/other"
OBJ_PIN, OBJ_GET = 6, 7
# What a file system without ACLs answers, after the program was asked.
HARMLESS = (0, errno.ENOTSUP)


def named(command, path, descriptor):
    """`bpf()` for a path in bpffs."""
    text = ctypes.create_string_buffer(path.encode())
    return layers.bpf(command, struct.pack("=QI", ctypes.addressof(text), descriptor))


def pin(path):
    """The one way in which bpffs makes a file."""
    named(OBJ_PIN, path, named(OBJ_GET, MAP, 0))


def attempts(cgroup):
    """Program, function, arguments."""
    acl = "system.posix_acl_access"
    yield "inode_create", pin, (OTHER,)
    yield "inode_link", os.link, (MAP, OTHER)
    yield "inode_symlink", os.symlink, ("/x", OTHER)
    yield "inode_unlink", os.unlink, (MAP,)
    yield "inode_rename", os.rename, (MAP, OTHER)
    yield "inode_setattr", os.chmod, (MAP, 0o640)
    yield "inode_setattr", os.chmod, (cgroup, 0o750)
    yield "inode_setattr", os.chown, (f"{cgroup}/cgroup.procs", 1000, 1000)
    for directory in (BPFFS, cgroup):
        yield "inode_mkdir", os.mkdir, (f"{directory}/new",)
        yield "inode_rmdir", os.rmdir, (f"{directory}/directory",)
    yield "inode_setxattr", os.setxattr, (cgroup, "user.x", b"y")
    yield "inode_setxattr", os.setxattr, (cgroup, "trusted.portcullis.session", b"y")
    yield "inode_removexattr", os.removexattr, (cgroup, "user.y")
    yield "inode_set_acl", hidden.set_acl, (cgroup,)
    yield "inode_remove_acl", os.removexattr, (cgroup, acl)


class Place:
    """What the tries are about; made anew for each."""

    def __init__(self, session):
        self.cgroup = f"{session.cgroup()}/controls"
        os.makedirs(BPFFS, exist_ok=True)
        host.run("mount", "-t", "bpf", "bpf", BPFFS)

    def tried(self, bare, function, arguments):
        """The errno of one try."""
        os.makedirs(f"{self.cgroup}/directory")
        os.setxattr(self.cgroup, "user.y", b"y")
        os.mkdir(f"{BPFFS}/directory")
        host.run("bpftool", "map", "create", MAP, "type", "array", "key", "4", "value", "4",
                 "entries", "1", "name", "controls")
        try:
            return hidden.attempt(bare, function, *arguments)
        finally:
            host.run("sh", "-c", f"rm -rf {BPFFS}/*")
            for name in ("/new", "/directory", ""):
                if os.path.exists(self.cgroup + name):
                    os.rmdir(self.cgroup + name)

    def close(self):
        host.run("umount", BPFFS)
        os.rmdir(BPFFS)
