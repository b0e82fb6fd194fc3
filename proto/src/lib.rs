//! The wire: `berth/v1/*.proto`, the code generated from it, and conversions to and from the model.
//!
//! Conversions from the wire are `TryFrom` and are the one place where foreign input becomes [`berth_model`] values;
//! conversions to the wire are `From` and cannot fail. There is no logic here.

/// Generated from `berth/v1/*.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("berth.v1");
}
