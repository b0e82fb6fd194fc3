//! End-to-end cases that look at the kernel.
