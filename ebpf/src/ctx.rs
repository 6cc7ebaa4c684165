//! Access to the fields of a program's context, as the verifier wants it: one load or
//! store for each field, at a constant offset from the context itself.
//!
//! In assembly, because the optimizer folds the fields of two branches into one load at
//! an offset that it computes, which the verifier refuses ("dereference of modified ctx
//! ptr"), and volatile reads don't keep it from that. Fields are 32 bits, pointers 64.

/// Reads a field.
#[macro_export]
macro_rules! field {
    ($type:ident, $ptr:expr, $field:ident $(. $inner:ident)? $([$index:literal])?) => {{
        let value: u64;
        // SAFETY: a load of four bytes of the kernel's context, which is valid while the
        // program runs; the verifier checks the offset.
        unsafe {
            core::arch::asm!(
                "{value} = *(u32 *)({ptr} + {offset})",
                value = out(reg) value,
                ptr = in(reg) $ptr,
                offset = const core::mem::offset_of!($type, $field $(. $inner)?) $(+ 4 * $index)?,
                options(nostack, readonly),
            )
        };
        value as u32
    }};
}

/// Reads a field that holds a pointer of the kernel's, or a union with one.
#[macro_export]
macro_rules! field64 {
    ($type:ident, $ptr:expr, $field:ident) => {{
        let value: u64;
        // SAFETY: a load of eight bytes, otherwise as in `field!`.
        unsafe {
            core::arch::asm!(
                "{value} = *(u64 *)({ptr} + {offset})",
                value = out(reg) value,
                ptr = in(reg) $ptr,
                offset = const core::mem::offset_of!($type, $field),
                options(nostack, readonly),
            )
        };
        value
    }};
}

/// Writes a field.
#[macro_export]
macro_rules! set_field {
    ($type:ident, $ptr:expr, $field:ident $([$index:literal])? = $value:expr) => {{
        let value: u32 = $value;
        // SAFETY: a store of four bytes, otherwise as in `field!`.
        unsafe {
            core::arch::asm!(
                "*(u32 *)({ptr} + {offset}) = {value}",
                value = in(reg) u64::from(value),
                ptr = in(reg) $ptr,
                offset = const core::mem::offset_of!($type, $field) $(+ 4 * $index)?,
                options(nostack),
            )
        };
    }};
}
