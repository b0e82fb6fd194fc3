//! The first process of every sandbox: it holds the pod's namespaces open and does nothing else.
//!
//! It ends on SIGTERM and SIGINT (as PID 1 it would otherwise ignore them), and reaps whatever is left to it as PID 1
//! of a shared PID namespace. No allocation, no C library: the image is one static file of a few kilobytes.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

/// System call numbers and calling convention: Linux `arch/x86/entry/syscalls/syscall_64.tbl`,
/// `include/uapi/asm-generic/unistd.h` for arm64.
#[cfg(target_arch = "x86_64")]
mod arch {
    pub const RT_SIGPROCMASK: usize = 14;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const WAIT4: usize = 61;
    pub const EXIT_GROUP: usize = 231;
}

#[cfg(target_arch = "aarch64")]
mod arch {
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const WAIT4: usize = 260;
    pub const EXIT_GROUP: usize = 94;
}

const SIGINT: isize = 2;
const SIGTERM: isize = 15;
const SIGCHLD: isize = 17;
const SIG_BLOCK: usize = 0;
const WNOHANG: usize = 1;
/// Size of the kernel's signal set, in bytes.
const SIGSET_BYTES: usize = 8;

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "and rsp, -16", "call {run}", run = sym run);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "bl {run}", run = sym run);

/// One raw system call.
///
/// # Safety
/// The arguments must be what that call of the kernel expects.
#[cfg(target_arch = "x86_64")]
unsafe fn syscall(number: usize, arguments: [usize; 4]) -> isize {
    let result;
    // SAFETY: the x86-64 system call convention; rcx and r11 are clobbered by the instruction.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") arguments[0], in("rsi") arguments[1],
             in("rdx") arguments[2], in("r10") arguments[3], lateout("rcx") _, lateout("r11") _);
    }
    result
}

/// One raw system call.
///
/// # Safety
/// The arguments must be what that call of the kernel expects.
#[cfg(target_arch = "aarch64")]
unsafe fn syscall(number: usize, arguments: [usize; 4]) -> isize {
    let result;
    // SAFETY: the arm64 system call convention.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") arguments[0] => result, in("x1") arguments[1],
             in("x2") arguments[2], in("x3") arguments[3]);
    }
    result
}

extern "C" fn run() -> ! {
    let signals: u64 = [SIGINT, SIGTERM, SIGCHLD].iter().fold(0, |set, signal| set | 1 << (signal - 1));
    let set = &raw const signals as usize;
    // SAFETY: `set` points to a signal set of SIGSET_BYTES that outlives every call; null means "not wanted".
    unsafe {
        syscall(arch::RT_SIGPROCMASK, [SIG_BLOCK, set, 0, SIGSET_BYTES]);
        loop {
            match syscall(arch::RT_SIGTIMEDWAIT, [set, 0, 0, SIGSET_BYTES]) {
                SIGINT | SIGTERM => break,
                SIGCHLD => while syscall(arch::WAIT4, [usize::MAX, 0, WNOHANG, 0]) > 0 {},
                _ => {} // Interrupted by another signal: wait again.
            }
        }
        syscall(arch::EXIT_GROUP, [0; 4]);
    }
    loop {}
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
