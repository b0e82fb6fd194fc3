//! The local sockets: what `berthctl` shows ([`NodeApi`], looking only), and how both sockets are opened ([`listen`]).

mod disks;
mod events;
mod images;
mod logs;
mod node;
mod socket;
mod upstream;

#[cfg(test)]
mod tests;

pub use node::{About, NodeApi, Readers};
pub use socket::{Admitted, Listener, SocketError, Who, listen};
