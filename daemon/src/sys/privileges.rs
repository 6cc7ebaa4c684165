//! System calls by which the daemon gives up privileges, thread by thread.

use std::io;

use libc::c_int;

#[repr(C)]
struct Header {
    version: u32,
    pid: c_int,
}

/// Effective, permitted, inheritable; the lower and the upper 32 capabilities.
type Sets = [[u32; 3]; 2];

/// For the calling thread.
const HEADER: Header = Header {
    version: 0x2008_0522, // _LINUX_CAPABILITY_VERSION_3
    pid: 0,
};

fn done(result: libc::c_long) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Gives up every capability of this thread that is not in `kept`, a set of bits;
/// inheritable and ambient ones altogether.
pub fn keep_capabilities(kept: u64) -> io::Result<()> {
    // The kernel writes to it when it does not know the version.
    let mut header = HEADER;
    let mut sets: Sets = Sets::default();
    // SAFETY: the layouts are the kernel's for version 3, and outlive the call.
    done(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) })?;
    let halves = [kept as u32, (kept >> 32) as u32];
    for ([effective, permitted, inheritable], kept) in sets.iter_mut().zip(halves) {
        *effective &= kept;
        *permitted &= kept;
        *inheritable = 0;
    }
    // SAFETY: as above.
    done(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) })?;
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL;
    // SAFETY: the call takes numbers only.
    done(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, clear, 0, 0, 0) }.into())
}

/// Takes every capability that is not in `kept` out of this thread's bounding set.
///
/// # Errors
/// `EPERM` without CAP_SETPCAP.
pub fn bound_capabilities(kept: u64) -> io::Result<()> {
    for capability in (0..64).filter(|number| kept & (1 << number) == 0) {
        // SAFETY: the call takes numbers only.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match done(result.into()) {
            // The first that the kernel does not have.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
            result => result?,
        }
    }
    Ok(())
}

/// Locks this process's memory, as it is and as it grows; pages that were never touched
/// are not made for it.
pub fn lock_memory() -> io::Result<()> {
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: the call takes numbers only.
    done(unsafe { libc::mlockall(flags) }.into())
}
