//! Our own pause image, as a tar archive of an OCI image layout (OCI image specification 1.1): one layer, one file.
//!
//! The same source gives the same bytes: times are zero and entries are in a fixed order.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The image's name in containerd; its configuration names the same.
const NAME: &str = "berth.local/pause:1";

struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        let hex: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { digest: format!("sha256:{hex}"), bytes }
    }

    fn descriptor(&self, media_type: &str) -> serde_json::Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.bytes.len() })
    }

    fn path(&self) -> String {
        format!("blobs/{}", self.digest.replace(':', "/"))
    }
}

/// Builds the pause program and its image.
pub(crate) fn build(root: &Path, archive: &Path) -> Result<()> {
    let program = build_program(root)?;
    let layer = Blob::new(tar(&[("pause", 0o755, &program)])?);
    let config = Blob::new(serde_json::to_vec(&json!({
        "architecture": oci_architecture(),
        "os": "linux",
        "config": { "Entrypoint": ["/pause"], "User": "65535:65535" },
        "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
    }))?);
    let manifest = Blob::new(serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
        "layers": [layer.descriptor("application/vnd.oci.image.layer.v1.tar")],
    }))?);
    let mut entry = manifest.descriptor("application/vnd.oci.image.manifest.v1+json");
    entry["annotations"] =
        json!({ "io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": "1" });
    let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [entry] }))?;
    let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
    let (config_path, layer_path, manifest_path) = (config.path(), layer.path(), manifest.path());
    let bytes = tar(&[
        ("oci-layout", 0o644, layout),
        ("index.json", 0o644, &index),
        (&manifest_path, 0o644, &manifest.bytes),
        (&config_path, 0o644, &config.bytes),
        (&layer_path, 0o644, &layer.bytes),
    ])?;
    fs::write(archive, bytes).with_context(|| format!("write {}", archive.display()))
}

fn build_program(root: &Path) -> Result<Vec<u8>> {
    let target = root.join("target/pause");
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(root.join("packaging/pause"))
        .args(["build", "--quiet", "--release", "--target-dir"])
        .arg(&target)
        .status()
        .context("build pause: run cargo")?;
    ensure!(status.success(), "build pause: cargo ended with {status}");
    let program = target.join("release/pause");
    fs::read(&program).with_context(|| format!("read {}", program.display()))
}

fn tar(entries: &[(&str, u32, &[u8])]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, path, *bytes)?;
    }
    Ok(builder.into_inner()?)
}

/// The architecture as OCI names it.
fn oci_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
