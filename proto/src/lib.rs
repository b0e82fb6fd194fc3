//! The wire: `berth/v1/*.proto`, the code generated from it, and conversions to and from the model.
//!
//! Conversions from the wire are the one place where foreign input becomes [`berth_model`] values; they fail with
//! [`InvalidMessage`], which names the field. Conversions to the wire are `From` and cannot fail. There is no logic here.
#![forbid(unsafe_code)]

mod config;
mod disk;
mod error;
mod host_path;
mod lifecycle;
mod limits;
mod order;
mod pod;
mod probe;
mod reason;
mod request;
mod security;
mod status;

pub use disk::{access_from, filesystem_from};
pub use error::InvalidMessage;
pub use host_path::{shared_from, shared_to_wire};
pub use limits::{limits_from, limits_of_several_from, ulimits_from};
pub use order::{Addressed, offer_from};
pub use pod::{class_from, disk_from, pod_from, recovery_from, restart_from, role_from, run_state_from};
pub use reason::failure_from;
pub use request::DEFAULT_POOL;

/// The compiled `berth/v1/*.proto`, an encoded `google.protobuf.FileDescriptorSet`: for reflection and for generic
/// renderings of messages.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/berth.v1.binpb"));

/// Generated from `berth/v1/*.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("berth.v1");
}
