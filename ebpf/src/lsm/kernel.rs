//! Reading the kernel's memory. What can't be read is zero, which no check takes for
//! something allowed: bpf_probe_read_kernel() clears what it can't fill. No result is looked
//! at, as each branch is one more path for the verifier, in loops by the thousand.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::programs::LsmContext;

macro_rules! read {
    ($name:ident, $type:ty) => {
        /// The number at this address; 0 if it can't be read.
        #[inline(always)]
        pub fn $name(address: u64) -> $type {
            let mut value: $type = 0;
            let to = core::ptr::from_mut(&mut value).cast();
            // SAFETY: the length is the variable's; the helper takes any kernel address.
            unsafe { bpf_probe_read_kernel(to, size_of::<$type>() as u32, address as *const _) };
            value
        }
    };
}

read!(read16, u16);
read!(read32, u32);
read!(read64, u64);

/// A pointer that the hook was given, as a plain number: the verifier does not let one
/// compute with a pointer whose structure it knows.
#[inline(always)]
pub fn pointer(ctx: &LsmContext, index: usize) -> u64 {
    let mut value: u64 = 0;
    let to = core::ptr::from_mut(&mut value).cast();
    // SAFETY: the context is an array of the hook's arguments, of eight bytes each, and
    // the callers' indices are those of their hook.
    let from = unsafe { ctx.as_ptr().cast::<u64>().add(index) };
    // SAFETY: eight bytes into a variable of eight.
    unsafe { bpf_probe_read_kernel(to, 8, from.cast()) };
    value
}
