//! Every libc call of the daemon, behind a safe function.
//!
//! The only unsafe code of the daemon; each block says why it is sound. What `nix` or
//! `aya` offer safely is not repeated here.

use std::ffi::{CStr, c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::{self, SigHandler, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub mod environment;
pub mod netns;
pub mod privileges;

const BPF_PROG_LOAD: c_int = 5;
const BPF_OBJ_PIN: c_int = 6;
const BPF_OBJ_GET: c_int = 7;
const BPF_PROG_QUERY: c_int = 16;
const BPF_LINK_CREATE: c_int = 28;
const BPF_LINK_UPDATE: c_int = 29;
const BPF_LINK_DETACH: c_int = 34;

/// `struct { ... }` of `union bpf_attr` for `BPF_PROG_LOAD`, as far as it is used here.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// The same for `BPF_LINK_CREATE`, as far as Linux 6.1 knows it for a cgroup.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
}

/// The same for `BPF_OBJ_PIN` and `BPF_OBJ_GET`.
#[repr(C)]
#[derive(Default)]
struct ObjGet {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The same for `BPF_PROG_QUERY`, as far as Linux 6.1 knows it.
#[repr(C)]
#[derive(Default)]
struct ProgQuery {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    pad: u32,
}

/// The same for `BPF_LINK_UPDATE`.
#[repr(C)]
#[derive(Default)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// # Safety
/// `Attr` must be a prefix of the variant of `union bpf_attr` that `command` takes, and
/// what it points to must be as long as the command believes.
unsafe fn bpf<Attr>(command: c_int, attr: &mut Attr) -> io::Result<c_long> {
    // SAFETY: the pointer and size describe `attr`, which outlives the call; the rest is
    // the caller's promise.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<Attr>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// Opens a pinned object: `bpf(BPF_OBJ_GET)`.
pub fn bpf_object(path: &CStr) -> io::Result<OwnedFd> {
    let mut attr = ObjGet {
        pathname: path.as_ptr() as u64,
        ..Default::default()
    };
    // SAFETY: the layout is the kernel's and the path ends with a zero byte.
    let fd = unsafe { bpf(BPF_OBJ_GET, &mut attr) }?;
    // SAFETY: the kernel has just made this descriptor for us.
    unsafe { owned(fd) }
}

/// # Safety
/// Nobody else may own the descriptor.
unsafe fn owned(fd: c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the caller's promise.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pins an object: `bpf(BPF_OBJ_PIN)`.
pub fn bpf_pin(object: BorrowedFd<'_>, path: &CStr) -> io::Result<()> {
    let mut attr = ObjGet {
        pathname: path.as_ptr() as u64,
        bpf_fd: raw(object),
        ..Default::default()
    };
    // SAFETY: the layout is the kernel's and the path ends with a zero byte.
    unsafe { bpf(BPF_OBJ_PIN, &mut attr) }.map(drop)
}

/// Attaches a program to a cgroup: `bpf(BPF_LINK_CREATE)` (Linux 5.7). It stays for as long
/// as the link has a descriptor or a pin.
pub fn bpf_link_create(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let mut attr = LinkCreate {
        prog_fd: raw(program),
        target_fd: raw(cgroup),
        attach_type,
        flags: 0,
    };
    // SAFETY: the layout is the kernel's; it holds numbers only.
    let fd = unsafe { bpf(BPF_LINK_CREATE, &mut attr) }?;
    // SAFETY: the kernel has just made this descriptor for us.
    unsafe { owned(fd) }
}

/// Loads a program: `bpf(BPF_PROG_LOAD)`. An instruction is eight bytes. `log` takes what
/// the verifier has to say; what does not fit is lost and the call fails with `ENOSPC`.
pub fn bpf_load<Instruction: Copy>(
    program_type: u32,
    attach_type: u32,
    instructions: &[Instruction],
    license: &CStr,
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    const { assert!(size_of::<Instruction>() == 8) };
    let mut attr = ProgLoad {
        prog_type: program_type,
        insn_cnt: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: u32::try_from(log.len()).map_err(io::Error::other)?,
        log_buf: if log.is_empty() {
            0
        } else {
            log.as_mut_ptr() as u64
        },
        expected_attach_type: attach_type,
        ..Default::default()
    };
    // SAFETY: the layout is the kernel's; each pointer is to as much memory as the count
    // beside it says, or to a string that ends with a zero byte.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &mut attr) }?;
    // SAFETY: the kernel has just made this descriptor for us.
    unsafe { owned(fd) }
}

/// Replaces the program of a link in one step: `bpf(BPF_LINK_UPDATE)`.
///
/// `ENOLINK` says that the link's cgroup is gone.
pub fn bpf_link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdate {
        link_fd: raw(link),
        new_prog_fd: raw(program),
        ..Default::default()
    };
    // SAFETY: the layout is the kernel's; it holds numbers only.
    unsafe { bpf(BPF_LINK_UPDATE, &mut attr) }.map(drop)
}

/// Takes a link off its cgroup before the call returns: `bpf(BPF_LINK_DETACH)`. Removing
/// its last pin would do so too, but some time later.
pub fn bpf_link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = raw(link);
    // SAFETY: the kernel's layout is this one number.
    unsafe { bpf(BPF_LINK_DETACH, &mut attr) }.map(drop)
}

/// Ids of the programs attached to a cgroup itself: `bpf(BPF_PROG_QUERY)`.
pub fn bpf_attached(cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<Vec<u32>> {
    // The kernel takes no more than 64 in one cgroup (BPF_CGROUP_MAX_PROGS).
    let mut ids = [0_u32; 64];
    let mut attr = ProgQuery {
        target_fd: raw(cgroup),
        attach_type,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: 64,
        ..Default::default()
    };
    // SAFETY: the layout is the kernel's; `prog_ids` has room for `prog_cnt` numbers.
    unsafe { bpf(BPF_PROG_QUERY, &mut attr) }?;
    let count = usize::try_from(attr.prog_cnt).map_err(io::Error::other)?;
    Ok(ids.into_iter().take(count).collect())
}

/// # Safety
/// `T` must be what the kernel writes for the option, and valid for every bit pattern.
unsafe fn socket_option<T: Copy>(
    socket: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    mut value: T,
) -> io::Result<T> {
    let mut length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: both pointers are to locals that outlive the call, and the kernel writes
    // at most `length` bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(value)
    }
}

/// Cookie of the network namespace that a socket is in: `SO_NETNS_COOKIE` (Linux 5.14).
pub fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: the option is a 64-bit number.
    unsafe { socket_option(socket, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, 0_u64) }
}

/// Is a TCP socket past its end (state `CLOSE`, so that its address pair is free for
/// another connection)? `TCP_INFO`, whose first byte is the state.
pub fn tcp_is_closed(socket: BorrowedFd<'_>) -> io::Result<bool> {
    const TCP_CLOSE: u8 = 7;
    // SAFETY: the kernel cuts the structure to the length asked for; one byte is a number.
    let state = unsafe { socket_option(socket, libc::IPPROTO_TCP, libc::TCP_INFO, 0_u8) }?;
    Ok(state == TCP_CLOSE)
}

/// Waits until a descriptor can be read. Needs a tokio runtime.
pub async fn readable(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the borrow keeps the descriptor open and the same until this future, and
    // with it the registration, is gone.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
    registered.readable().await.map(drop)
}

/// Marks every descriptor from `first` on to be closed at exec: `close_range(2)` with
/// `CLOSE_RANGE_CLOEXEC` (Linux 5.11).
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
    // SAFETY: the call only sets a flag; no descriptor that somebody owns is closed.
    if unsafe { libc::close_range(first, u32::MAX, flags) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Takes the mark away again from one descriptor.
pub fn keep_at_exec(number: u32) -> io::Result<()> {
    let number = c_int::try_from(number).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the call only sets a flag, and fails where there is no such descriptor.
    if unsafe { libc::fcntl(number, libc::F_SETFD, 0) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Looks at a descriptor that the process was started with; none if there is none of this
/// number.
pub fn with_inherited<T>(number: u32, look: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
    let number = c_int::try_from(number).ok()?;
    // SAFETY: the call only reads a flag.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
        return None;
    }
    // SAFETY: it is open, as was just seen, and nobody closes it during the call: the
    // launcher has one thread.
    Some(look(unsafe { BorrowedFd::borrow_raw(number) }))
}

/// Address family that a socket was made with: `SO_DOMAIN`.
pub fn socket_domain(socket: BorrowedFd<'_>) -> io::Result<c_int> {
    // SAFETY: the option is a C integer.
    unsafe { socket_option(socket, libc::SOL_SOCKET, libc::SO_DOMAIN, 0 as c_int) }
}

fn done(result: c_long) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A copy of the mount that a file is on, from that file down, tied to nothing yet:
/// `open_tree(2)` with `OPEN_TREE_CLONE` (Linux 5.2). With `deep` also the mounts below.
pub fn clone_mount(file: BorrowedFd<'_>, deep: bool) -> io::Result<OwnedFd> {
    let deep = if deep { libc::AT_RECURSIVE } else { 0 };
    let flags = libc::OPEN_TREE_CLONE
        | libc::OPEN_TREE_CLOEXEC
        | (libc::AT_EMPTY_PATH | deep).cast_unsigned();
    // SAFETY: the path is an empty C string that outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, file.as_raw_fd(), c"".as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Mounts a copy made by [`clone_mount`] over a file or directory: `move_mount(2)`.
pub fn put_mount(mount: BorrowedFd<'_>, over: BorrowedFd<'_>) -> io::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are empty C strings that outlive the call.
    done(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            over.as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    })
}

/// Sets attributes (`MOUNT_ATTR_*`) of the mount that a file is on, and makes it private:
/// `mount_setattr(2)` (Linux 5.12). With `deep` also of the mounts below.
pub fn set_mount(file: BorrowedFd<'_>, deep: bool, attributes: u64) -> io::Result<()> {
    let deep = if deep { libc::AT_RECURSIVE } else { 0 };
    let change = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: the pointer and size describe `change`, the path is an empty C string.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | deep,
            &raw const change,
            size_of::<libc::mount_attr>(),
        )
    })
}

/// Empties the capability bounding set of this process (`PR_CAPBSET_DROP`).
///
/// # Errors
/// `EPERM` without CAP_SETPCAP.
pub fn drop_bounding_set() -> io::Result<()> {
    // The kernel has 41 today and says EINVAL for the first that it does not have.
    for capability in 0..64 {
        // SAFETY: the call takes numbers only.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match done(result.into()) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
            result => result?,
        }
    }
    Ok(())
}

/// Locks that user id 0 has no capabilities of its own, and that none are kept or raised:
/// `PR_SET_SECUREBITS`.
pub fn lock_securebits() -> io::Result<()> {
    // NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE, each with its lock, and KEEP_CAPS's.
    const BITS: libc::c_ulong = 0b1110_1111;
    // SAFETY: the call takes numbers only.
    done(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, BITS, 0, 0, 0) }.into())
}

/// Empties the effective, permitted, inheritable and ambient capability sets: `capset(2)`.
pub fn drop_capabilities() -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    let header = Header {
        version: 0x2008_0522, // _LINUX_CAPABILITY_VERSION_3
        pid: 0,
    };
    let none = [[0_u32; 3]; 2];
    // SAFETY: the layouts are the kernel's for version 3, and outlive the call.
    done(unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) })?;
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL;
    // SAFETY: the call takes numbers only.
    done(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, clear, 0, 0, 0) }.into())
}

/// Whether Landlock is there and switched on: `landlock_create_ruleset(2)` (Linux 5.13).
pub fn has_landlock() -> bool {
    const VERSION: u32 = 1; // LANDLOCK_CREATE_RULESET_VERSION
    // SAFETY: with this flag the call takes no pointer and only answers a number.
    unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            VERSION,
        ) > 0
    }
}

/// The process at the other end of a unix connection, as it was when that connected:
/// `SO_PEERPIDFD` (Linux 6.5).
pub fn peer_process(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: the option is a descriptor, which is a C integer.
    let fd = unsafe { socket_option(socket, libc::SOL_SOCKET, libc::SO_PEERPIDFD, -1 as c_int) }?;
    if fd < 0 {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The process of this id, by a descriptor that tells when it ends: `pidfd_open(2)`.
pub fn process(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = c_int::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets a write to a closed pipe end the process, as is usual for commands whose output
/// goes to `head`: Rust starts with SIGPIPE ignored.
pub fn die_of_closed_pipes() {
    // SAFETY: the default action is no handler of ours; nothing runs in signal context.
    let result = unsafe { signal::signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    // Only an invalid signal number fails, and this is none.
    debug_assert!(result.is_ok());
}

/// Has a program that is about to be started give up every capability, and end when the
/// thread that started it does.
pub fn start_without_capabilities(command: &mut Command) {
    let give_up = || {
        drop_capabilities()?;
        let signal = libc::c_ulong::from(libc::SIGKILL.cast_unsigned());
        // SAFETY: the call takes numbers only.
        done(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) }.into())?;
        // Without this user id 0 would get them back at exec.
        // SAFETY: as above.
        done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())
    };
    // SAFETY: between fork and exec only system calls are made, with no memory but the
    // stack's.
    unsafe { command.pre_exec(give_up) };
}
