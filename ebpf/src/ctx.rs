//! Access to the fields of a program's context, as the verifier wants it: each field
//! alone, in its own size, at a constant offset; never merged by the compiler.

/// Reads a field.
#[macro_export]
macro_rules! field {
    ($ptr:expr, $($field:tt)+) => {{
        // SAFETY: the kernel's context, valid while the program runs; the verifier
        // checks the offset.
        unsafe { core::ptr::read_volatile(&raw const (*$ptr).$($field)+) }
    }};
}

/// Writes a field.
#[macro_export]
macro_rules! set_field {
    ($ptr:expr, $field:ident $([$index:literal])? = $value:expr) => {{
        let value = $value;
        // SAFETY: as in `field!`.
        unsafe { core::ptr::write_volatile(&raw mut (*$ptr).$field $([$index])?, value) }
    }};
}
