//! Pieces of a disk in the words of the wire, and the digest of all of them.

use crate::disk::{Attribute, Item, ItemKind, Modified, Piece};
use berth_proto::v1;
use prost::Message;
use sha2::{Digest, Sha256};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use v1::disk_file::Kind;
use v1::disk_piece::Piece as Wire;

/// What a piece of the wire is to whoever puts a disk together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Came {
    /// The disk's size, if it was counted; only at the beginning.
    Size(Option<u64>),
    /// A piece of the disk.
    Piece(Piece),
    /// All is there: the sender's digest.
    Digest(Vec<u8>),
}

/// The digest of the pieces so far.
#[derive(Debug, Default, Clone)]
pub(super) struct Sum(Sha256);

impl Sum {
    /// Counts a piece. Its length goes before it, so that no two series of pieces are alike.
    pub(super) fn add(&mut self, piece: &v1::DiskPiece) {
        self.0.update(piece.encode_length_delimited_to_vec());
    }

    pub(super) fn value(self) -> Vec<u8> {
        self.0.finalize().to_vec()
    }
}

pub(super) fn size_to_wire(used_bytes: Option<u64>) -> v1::DiskPiece {
    wire(Wire::Size(v1::DiskSize { used_bytes }))
}

pub(super) fn digest_to_wire(sha256: Vec<u8>) -> v1::DiskPiece {
    wire(Wire::Digest(v1::DiskDigest { sha256 }))
}

pub(super) fn to_wire(piece: Piece) -> v1::DiskPiece {
    wire(match piece {
        Piece::Item(item) => Wire::File(file(item)),
        Piece::Bytes { offset, data } => Wire::Bytes(v1::DiskBytes { offset, data }),
        Piece::FolderEnd => Wire::FolderEnd(v1::DiskFolderEnd {}),
    })
}

fn wire(piece: Wire) -> v1::DiskPiece {
    v1::DiskPiece { piece: Some(piece) }
}

fn file(item: Item) -> v1::DiskFile {
    let bytes = |text: &OsStr| text.as_bytes().to_vec();
    let attribute =
        |attribute: Attribute| v1::DiskAttribute { name: attribute.name.into_vec(), value: attribute.value };
    v1::DiskFile {
        name: item.name.into_vec(),
        mode: item.mode,
        uid: item.uid,
        gid: item.gid,
        modified_s: item.modified.seconds,
        modified_ns: item.modified.nanoseconds,
        attributes: item.attributes.into_iter().map(attribute).collect(),
        link: item.link,
        kind: Some(match item.kind {
            ItemKind::Folder => Kind::Folder(v1::DiskFolder {}),
            ItemKind::Plain { size_bytes } => Kind::Plain(v1::DiskPlainFile { size_bytes }),
            ItemKind::Symlink { target } => Kind::Symlink(bytes(&target)),
            ItemKind::BlockDevice { number } => Kind::Device(v1::DiskDevice { block: true, number }),
            ItemKind::CharacterDevice { number } => Kind::Device(v1::DiskDevice { block: false, number }),
            ItemKind::Fifo => Kind::Fifo(v1::DiskFifo {}),
            ItemKind::Socket => Kind::Socket(v1::DiskSocket {}),
            ItemKind::SameAs { link } => Kind::SameAs(link),
        }),
    }
}

/// Reads a piece.
///
/// # Errors
/// When it is of a kind that this agent does not know: a newer one sends it.
pub(super) fn from_wire(piece: v1::DiskPiece) -> Result<Came, String> {
    let unknown = || "the peer sends what this agent does not know: it may be a newer one".to_owned();
    Ok(match piece.piece.ok_or_else(unknown)? {
        Wire::Size(size) => Came::Size(size.used_bytes),
        Wire::Digest(digest) => Came::Digest(digest.sha256),
        Wire::Bytes(bytes) => Came::Piece(Piece::Bytes { offset: bytes.offset, data: bytes.data }),
        Wire::FolderEnd(_) => Came::Piece(Piece::FolderEnd),
        Wire::File(file) => {
            let kind = file.kind.ok_or_else(unknown)?;
            let attribute = |attribute: v1::DiskAttribute| Attribute {
                name: OsString::from_vec(attribute.name),
                value: attribute.value,
            };
            Came::Piece(Piece::Item(Item {
                name: OsString::from_vec(file.name),
                kind: kind_from(kind),
                mode: file.mode,
                uid: file.uid,
                gid: file.gid,
                modified: Modified { seconds: file.modified_s, nanoseconds: file.modified_ns },
                attributes: file.attributes.into_iter().map(attribute).collect(),
                link: file.link,
            }))
        }
    })
}

fn kind_from(kind: Kind) -> ItemKind {
    match kind {
        Kind::Folder(_) => ItemKind::Folder,
        Kind::Plain(plain) => ItemKind::Plain { size_bytes: plain.size_bytes },
        Kind::Symlink(target) => ItemKind::Symlink { target: OsString::from_vec(target) },
        Kind::Device(device) if device.block => ItemKind::BlockDevice { number: device.number },
        Kind::Device(device) => ItemKind::CharacterDevice { number: device.number },
        Kind::Fifo(_) => ItemKind::Fifo,
        Kind::Socket(_) => ItemKind::Socket,
        Kind::SameAs(link) => ItemKind::SameAs { link },
    }
}
