"""The kernel's own controls, and what others read: devices, modules, spools, files."""

import ctypes
import os
import struct
import subprocess

from ways import call, libc, syscall, write

# Below 4 GiB, where a 32-bit pointer reaches.
MAP_32BIT = 0x40
# push rbx; mov eax, 54 (ioctl); mov ebx, edi; mov ecx, esi; int 0x80; pop rbx; ret. The third
# argument is in edx already.
COMPAT_IOCTL = bytes.fromhex("53 b836000000 89fb 89f1 cd80 5b c3")
# Where in the page the letter is.
LETTER = 64


def command(*words, text=""):
    done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=3.5)
    if done.returncode != 0:
        raise OSError(1, (done.stdout + done.stderr).strip()[-200:])


# --- controls --------------------------------------------------------------------------------

def core_pattern(r):
    """A program that the kernel starts for a crash, outside of every session."""
    write("/proc/sys/kernel/core_pattern", f"|/bin/{r['token']}")


def modprobe_path(r):
    write("/proc/sys/kernel/modprobe", f"/bin/{r['token']}")


def forwarding(_):
    write("/proc/sys/net/ipv4/ip_forward", "1")


def sysrq(_):
    write("/proc/sysrq-trigger", "h")


def kernel_log(r):
    # Without the end of the line the kernel shows it only when more is said.
    write("/dev/kmsg", r["token"] + "\n")


def uevent_helper(r):
    write("/sys/kernel/uevent_helper", f"/bin/{r['token']}")


def uevent(_):
    """The kernel tells udev, which runs programs."""
    write("/sys/class/net/lo/uevent", "change")


def kprobe(r):
    write("/sys/kernel/tracing/kprobe_events", f"p:{r['token'].replace('-', '_')} do_exit\n")


def memory(_):
    os.close(os.open("/dev/mem", os.O_RDWR))


def ports(_):
    os.close(os.open("/dev/port", os.O_RDWR))


def disk(_):
    """The disk under the root file system."""
    os.close(os.open("/dev/vda", os.O_RDONLY))


def device_node(r):
    path = f"/tmp/{r['token']}-disk"
    os.mknod(path, 0o60600, os.stat("/dev/vda").st_rdev)
    try:
        os.close(os.open(path, os.O_RDONLY))
    finally:
        os.unlink(path)


def module(r):
    fd = os.open(r["ko"], os.O_RDONLY)
    syscall(313, fd, ctypes.create_string_buffer(b""), 0)


def kexec(_):
    """Unloads what is not there: harmless, and the same right."""
    syscall(246, 0, 0, 0, 0)


def host_name(r):
    call(libc.sethostname(r["token"].encode(), len(r["token"])), "sethostname")


def accounting(r):
    path = f"/tmp/{r['token']}-acct"
    open(path, "w").close()
    try:
        call(libc.acct(path.encode()), "acct")
        libc.acct(None)
    finally:
        os.unlink(path)


def change_root(_):
    os.chroot("/")


def file_handle(_):
    """A file by its number, whatever directories are above it."""
    handle = ctypes.create_string_buffer(struct.pack("=II", 64, 0), 72)
    mount_id = ctypes.c_int()
    directory = os.open("/", os.O_RDONLY)
    call(libc.name_to_handle_at(-100, b"/etc/hostname", handle, ctypes.byref(mount_id), 0), "name")
    os.close(call(libc.open_by_handle_at(directory, handle, os.O_RDONLY), "open_by_handle_at"))


def perf(_):
    """Counts what the kernel does on a processor, for all processes."""
    attributes = ctypes.create_string_buffer(struct.pack("=IIQ", 1, 128, 0), 128)
    os.close(syscall(298, attributes, -1, 0, -1, 0))


# --- the network's set-up --------------------------------------------------------------------

def route(r):
    command("ip", "route", "add", f"203.0.113.{r['run']}", "dev", r["device"])


def address(r):
    command("ip", "address", "add", f"203.0.113.{100 + r['run']}/32", "dev", "lo")


def traffic_control(r):
    command("tc", "qdisc", "add", "dev", r["device"], "root", "handle", f"{r['run']}:", "pfifo")


# --- the gate's programs ---------------------------------------------------------------------

class Bytes(ctypes.Structure):
    _fields_ = [("text", ctypes.c_char * 64)]


def bpf(what, text):
    attributes = Bytes()
    ctypes.memmove(ctypes.addressof(attributes), text, len(text))
    return syscall(321, what, attributes, 64)


def bpf_detach(r):
    """Lets go of one of the gate's programs, found by its number."""
    fd = bpf(30, struct.pack("=I", r["link"]))
    bpf(34, struct.pack("=I", fd))


def bpf_map(_):
    os.close(bpf(0, struct.pack("=5I", 2, 4, 8, 1, 0)))


def bpf_attach(r):
    """A program of our own on the root cgroup, in the gate's way."""
    code = struct.pack("=BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0)
    code = ctypes.create_string_buffer(code, 16)
    license = ctypes.create_string_buffer(b"GPL")
    program = bpf(5, struct.pack("=IIQQ", 8, 2, ctypes.addressof(code), ctypes.addressof(license)))
    root = os.open("/sys/fs/cgroup", os.O_RDONLY)
    bpf(8, struct.pack("=IIII", root, program, 1, 2))
    bpf(9, struct.pack("=III", root, program, 1))


# --- those who start programs for others -----------------------------------------------------

def systemd_run(r):
    command("systemd-run", "--quiet", "--no-block", "sh", "-c", f"echo {r['token']} >{r['fifo']}")


def systemd_run_bus(r):
    """The same by the bus, not by systemd's own socket."""
    command("busctl", "--", "call", "org.freedesktop.systemd1",
            "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "StartTransientUnit",
            "ssa(sv)a(sa(sv))", f"{r['token']}.service", "fail", "1", "ExecStart", "a(sasb)", "1",
            "/bin/sh", "3", "sh", "-c", f"echo {r['token']} >{r['fifo']}", "false", "0")


def at_job(r):
    command("at", "now", text=f"echo {r['token']} >{r['fifo']}\n")


def cron_table(r):
    command("crontab", "-", text=f"# {r['token']}\n")


def cron_file(r):
    with open("/etc/cron.d/way", "w") as file:
        file.write(f"# {r['token']}\n")


def terminal(r):
    """Types into a terminal that somebody outside reads."""
    import fcntl

    for letter in r["token"].encode() + b"\n":
        fcntl.ioctl(r["fds"]["terminal"], 0x5412, bytes([letter]))


def terminal_compat(r):
    """The same by a 32-bit program's system call."""
    import mmap

    page = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_32BIT,
                     mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    page.write(COMPAT_IOCTL)
    ioctl = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_int] * 3)(address)
    for letter in r["token"].encode() + b"\n":
        page[LETTER] = letter
        answer = ioctl(r["fds"]["terminal"], 0x5412, address + LETTER)
        if answer < 0:
            raise OSError(-answer, "compat ioctl")


# --- objects with permissions, which others read ---------------------------------------------

def named_pipe(r):
    write(r["fifo"], r["token"])


def plain_file(r):
    write(r["file"], r["token"])


def shared_memory(r):
    libc.shmat.restype = ctypes.c_void_p
    at = libc.shmat(call(libc.shmget(r["key"], 64, 0), "shmget"), None, 0)
    if at == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "shmat")
    ctypes.memmove(at, r["token"].encode(), len(r["token"]))


def message_queue(r):
    queue = call(libc.msgget(r["key"], 0), "msgget")
    text = struct.pack("=q", 1) + r["token"].encode()
    call(libc.msgsnd(queue, text, len(text) - 8, 0o4000), "msgsnd")


def posix_queue(r):
    name = ctypes.create_string_buffer(r["mqueue"].encode())
    fd = syscall(240, name, os.O_WRONLY, 0, 0)
    text = ctypes.create_string_buffer(r["token"].encode())
    syscall(242, fd, text, len(r["token"]), 0, 0)


def keyring(r):
    """The user's keyring, which all of its processes share: a key's name."""
    kind, name = ctypes.create_string_buffer(b"user"), ctypes.create_string_buffer(r["token"].encode())
    syscall(248, kind, name, ctypes.create_string_buffer(b"x"), 1, -4)


def set_user_id(r):
    """A program that everybody may run with our rights."""
    path = f"/tmp/{r['token']}-suid"
    open(path, "w").close()
    os.chmod(path, 0o4755)
