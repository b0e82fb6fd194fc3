//! The crate through what it makes public.

mod assign;
mod assign_properties;
mod machines;
mod sysfs;
