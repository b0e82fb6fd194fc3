//! An OCI image layout of one layer, made from a directory (OCI image specification 1.1).

use crate::command::rooted;
use crate::command::succeed;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// What an image's containers run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) entrypoint: Vec<&'static str>,
    pub(crate) command: Vec<&'static str>,
    pub(crate) user: &'static str,
    pub(crate) env: Vec<&'static str>,
}

/// Writes the layout of an image with the files below `root` to `layout`.
pub(crate) fn write_layout(root: &Path, config: &Config, layout: &Path) -> Result<()> {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("make {}", blobs.display()))?;
    let archive = layout.join("layer.tar");
    let mut tar = rooted("tar");
    tar.args(["--sort=name", "--mtime=@0", "--numeric-owner", "-C"])
        .arg(root)
        .arg("-cf")
        .arg(&archive)
        .arg(".");
    succeed(&mut tar)?;
    let layer = add_file(&blobs, &archive)?;
    let config = add(
        &blobs,
        &json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": { "Entrypoint": config.entrypoint, "Cmd": config.command, "User": config.user, "Env": config.env },
            "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        }),
    )?;
    let typed = |mut descriptor: Value, media_type: &str| {
        descriptor["mediaType"] = json!(format!("application/vnd.oci.image.{media_type}"));
        descriptor
    };
    let manifest = add(
        &blobs,
        &json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": typed(config, "config.v1+json"),
            "layers": [typed(layer, "layer.v1.tar")],
        }),
    )?;
    let mut entry = typed(manifest, "manifest.v1+json");
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "1" });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    fs::write(layout.join("index.json"), index.to_string()).context("write index.json")?;
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).context("write oci-layout")
}

fn add(blobs: &Path, document: &Value) -> Result<Value> {
    let bytes = document.to_string();
    let hex = hex(&Sha256::digest(bytes.as_bytes()));
    fs::write(blobs.join(&hex), &bytes).context("write a blob")?;
    Ok(json!({ "digest": format!("sha256:{hex}"), "size": bytes.len() }))
}

fn add_file(blobs: &Path, file: &Path) -> Result<Value> {
    let mut hasher = Sha256::new();
    let size = io::copy(&mut File::open(file)?, &mut hasher).context("hash the layer")?;
    let hex = hex(&hasher.finalize());
    fs::rename(file, blobs.join(&hex)).context("name the layer")?;
    Ok(json!({ "digest": format!("sha256:{hex}"), "size": size }))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
