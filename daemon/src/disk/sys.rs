//! The two kernel interfaces for which no crate here has a safe call: project ids of inodes (ioctl_fs_fsgetxattr,
//! linux/fs.h) and quotas by file descriptor (quotactl_fd(2), since Linux 5.14; linux/quota.h, linux/dqblk_xfs.h).
#![expect(unsafe_code, reason = "ioctl and quotactl_fd are called here, and nowhere else")]

use nix::libc;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `struct fsxattr` of linux/fs.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct FsXattr {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

/// `_IOR('X', 31, struct fsxattr)`.
const FS_IOC_FSGETXATTR: libc::c_ulong = 0x801c_581f;
/// `_IOW('X', 32, struct fsxattr)`.
const FS_IOC_FSSETXATTR: libc::c_ulong = 0x401c_5820;
/// New files and folders inherit the folder's project.
const FS_XFLAG_PROJINHERIT: u32 = 0x200;

const PRJQUOTA: u32 = 2;
const Q_GETQUOTA: u32 = 0x80_0007;
const Q_SETQUOTA: u32 = 0x80_0008;
/// `XQM_CMD(8)`: which quotas are on, in every file system that has any.
const Q_XGETQSTATV: u32 = ('X' as u32) << 8 | 8;
const FS_QSTATV_VERSION1: i8 = 1;
const FS_QUOTA_PDQ_ACCT: u16 = 1 << 4;
const FS_QUOTA_PDQ_ENFD: u16 = 1 << 5;
/// The block limits of a [`libc::dqblk`] are meant.
const QIF_BLIMITS: u32 = 1;

/// `struct fs_quota_statv` of linux/dqblk_xfs.h; only the flags are read.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct QuotaStatV {
    version: i8,
    pad1: u8,
    flags: u16,
    incoredqs: u32,
    /// Three `struct fs_qfilestatv`, times and warning limits, reserved words: 24 bytes a file, then 80.
    rest: [u64; 32],
}

/// What the kernel says of one project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dqblk {
    /// Bytes.
    pub(super) used: u64,
    /// Inodes.
    pub(super) inodes: u64,
    /// Blocks of 1 KiB; 0 is none.
    pub(super) hard_blocks: u64,
}

/// The project of an open file or folder, and whether what is made in it inherits it.
pub(super) fn project(fd: BorrowedFd<'_>) -> io::Result<(u32, bool)> {
    let attributes = get_attributes(fd)?;
    Ok((attributes.projid, attributes.xflags & FS_XFLAG_PROJINHERIT != 0))
}

/// Puts an open file into a project, or a folder with all that will be made in it.
pub(super) fn set_project(fd: BorrowedFd<'_>, project: u32, inherit: Inherit) -> io::Result<()> {
    let mut attributes = get_attributes(fd)?;
    attributes.projid = project;
    attributes.xflags = match inherit {
        Inherit::Folder => attributes.xflags | FS_XFLAG_PROJINHERIT,
        Inherit::File => attributes.xflags & !FS_XFLAG_PROJINHERIT,
    };
    // SAFETY: the descriptor is open for as long as it is borrowed, and the kernel reads one `FsXattr`.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_FSSETXATTR as _, &raw const attributes) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What is put into a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inherit {
    /// What is made in it belongs to the project too.
    Folder,
    /// Nothing is made in it.
    File,
}

fn get_attributes(fd: BorrowedFd<'_>) -> io::Result<FsXattr> {
    let mut attributes = FsXattr::default();
    // SAFETY: as above; the kernel writes one `FsXattr`.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_FSGETXATTR as _, &raw mut attributes) };
    if done == 0 { Ok(attributes) } else { Err(io::Error::last_os_error()) }
}

/// What one project uses of the file system that holds `fd`, and may use.
pub(super) fn quota(fd: BorrowedFd<'_>, project: u32) -> io::Result<Dqblk> {
    let mut block = empty_block();
    match quotactl_fd(fd, Q_GETQUOTA, project, (&raw mut block).cast()) {
        // XFS knows nothing of a project that nothing was ever written to.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            Ok(Dqblk { used: 0, inodes: 0, hard_blocks: 0 })
        }
        Err(error) => Err(error),
        Ok(()) => Ok(Dqblk {
            used: block.dqb_curspace,
            inodes: block.dqb_curinodes,
            hard_blocks: block.dqb_bhardlimit,
        }),
    }
}

/// Holds one project to so many blocks of 1 KiB; 0 is no limit.
pub(super) fn set_quota(fd: BorrowedFd<'_>, project: u32, hard_blocks: u64) -> io::Result<()> {
    let mut block = libc::dqblk { dqb_bhardlimit: hard_blocks, dqb_valid: QIF_BLIMITS, ..empty_block() };
    quotactl_fd(fd, Q_SETQUOTA, project, (&raw mut block).cast())
}

/// Whether project quotas are counted, and whether they are enforced.
pub(super) fn quota_state(fd: BorrowedFd<'_>) -> io::Result<(bool, bool)> {
    let mut state = QuotaStatV { version: FS_QSTATV_VERSION1, ..QuotaStatV::default() };
    quotactl_fd(fd, Q_XGETQSTATV, 0, (&raw mut state).cast())?;
    Ok((state.flags & FS_QUOTA_PDQ_ACCT != 0, state.flags & FS_QUOTA_PDQ_ENFD != 0))
}

fn empty_block() -> libc::dqblk {
    libc::dqblk {
        dqb_bhardlimit: 0,
        dqb_bsoftlimit: 0,
        dqb_curspace: 0,
        dqb_ihardlimit: 0,
        dqb_isoftlimit: 0,
        dqb_curinodes: 0,
        dqb_btime: 0,
        dqb_itime: 0,
        dqb_valid: 0,
    }
}

fn quotactl_fd(fd: BorrowedFd<'_>, command: u32, project: u32, at: *mut libc::c_void) -> io::Result<()> {
    // `QCMD(command, type)` of linux/quota.h.
    let command = command << 8 | PRJQUOTA;
    // SAFETY: the descriptor is open for as long as it is borrowed; `at` is a structure of the command's own type,
    // at least as large as the kernel's, and lives through the call.
    let done = unsafe { libc::syscall(libc::SYS_quotactl_fd, fd.as_raw_fd(), command, project, at) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_large_as_the_kernels() {
        assert_eq!(size_of::<FsXattr>(), 28);
        // 8 bytes, three files of 24, times and warnings of 20, padding, eight reserved words: at most 176.
        assert!(size_of::<QuotaStatV>() >= 176);
        assert_eq!(size_of::<libc::dqblk>(), 72);
    }
}
