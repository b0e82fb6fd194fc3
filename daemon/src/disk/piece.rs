//! What a directory disk is taken apart into, so that it can be put together again elsewhere.

use std::ffi::OsString;

/// Most bytes of a file in one piece: large enough to keep a disk busy, small enough for a few to be in memory.
pub const PIECE_BYTES: usize = 256 << 10;
/// Deepest folders that are copied; each open one takes two file descriptors.
pub const MAX_DEPTH: usize = 1024;

/// One piece of a disk. A folder comes before what is in it, and ends after that; the disk's own folder is the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A file or folder.
    Item(Item),
    /// Bytes of the plain file that came last. Where a file has none there is a hole.
    Bytes {
        /// Where in the file.
        offset: u64,
        /// At most [`PIECE_BYTES`].
        data: Vec<u8>,
    },
    /// The innermost folder that has not ended ends.
    FolderEnd,
}

/// A file or folder, without what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// In its folder; the disk's own folder has none.
    pub name: OsString,
    /// What it is.
    pub kind: ItemKind,
    /// Permission bits, with those for set-user-id and the like.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When it was last written.
    pub modified: Modified,
    /// Extended attributes, of folders and plain files.
    pub attributes: Vec<Attribute>,
    /// A number, unique in the disk, of a file that has further names.
    pub link: Option<u64>,
}

/// When a file was last written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modified {
    /// After the epoch.
    pub seconds: i64,
    /// And within that second, below a billion.
    pub nanoseconds: u32,
}

/// One extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// With its namespace, such as `user.comment`.
    pub name: OsString,
    /// Its bytes.
    pub value: Vec<u8>,
}

/// What an item is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemKind {
    /// A folder.
    Folder,
    /// A plain file of so many bytes.
    Plain {
        /// Its length.
        size_bytes: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, whether or not anything is there.
        target: OsString,
    },
    /// A device that is read block by block.
    BlockDevice {
        /// Its number, `st_rdev`.
        number: u64,
    },
    /// A device that is read character by character.
    CharacterDevice {
        /// Its number, `st_rdev`.
        number: u64,
    },
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A further name of an item that came before.
    SameAs {
        /// That item's number.
        link: u64,
    },
}
