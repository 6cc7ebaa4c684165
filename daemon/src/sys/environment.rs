//! Variables that are taken out of the process's environment, value and all.
//!
//! The kernel shows the memory that a process was started with as `/proc/PID/environ`,
//! also after `unsetenv`: the value is wiped in its place.

use std::ffi::{CStr, CString};
use std::io;

use secrecy::zeroize::Zeroize;

/// Removes a variable and gives its value; none if it was not set.
///
/// # Errors
/// Other threads run, which may read the environment; the name can't be a variable's; the
/// value is not UTF-8.
pub fn take(name: &str) -> io::Result<Option<String>> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("the process has more than one thread"));
    }
    let name = CString::new(name)?;
    // SAFETY: the name ends with a zero byte; no other thread changes the environment.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() {
        return Ok(None);
    }
    // SAFETY: getenv gives a string that ends with a zero byte, in memory that this process
    // may write (its initial stack, or what setenv allocated). There is no other thread, and
    // nothing else of this one holds a reference to it; `unsetenv` below drops the pointer.
    let bytes = unsafe {
        let length = CStr::from_ptr(value).count_bytes();
        std::slice::from_raw_parts_mut(value.cast::<u8>(), length)
    };
    let taken = std::str::from_utf8(bytes).map(str::to_owned);
    bytes.zeroize();
    // SAFETY: as for getenv.
    if unsafe { libc::unsetenv(name.as_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    taken.map(Some).map_err(io::Error::other)
}
