//! To come.

pub mod analyse;
