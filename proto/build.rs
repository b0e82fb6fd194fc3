//! Generates the wire's code from `berth/v1/*.proto` with protox, so that no `protoc` is needed for ours.

use prost::Message;
use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

const FILES: [&str; 7] = [
    "berth/v1/types.proto",
    "berth/v1/order.proto",
    "berth/v1/node_link.proto",
    "berth/v1/platform.proto",
    "berth/v1/node.proto",
    "berth/v1/ledger.proto",
    "berth/v1/peer.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let set = PathBuf::from(env::var("OUT_DIR")?).join("berth.v1.binpb");
    fs::write(set, descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
