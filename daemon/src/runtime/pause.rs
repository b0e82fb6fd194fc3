//! Berth's own pause image: from the package's archive into containerd, so that no sandbox needs a registry.
//!
//! containerd's configuration names [`PAUSE_IMAGE`] as its sandbox image. The archive is a tar of an OCI image layout
//! (OCI image specification 1.1) with one manifest. Written by content, lease and image record, which every containerd
//! since 1.6 has; its transfer service is younger.

use super::RuntimeError;
use super::client::Client;
use super::containerd::Blob;
use super::error::{permanent, transient};
use containerd_client::types::Descriptor;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The image's name in containerd, and in its configuration.
pub const PAUSE_IMAGE: &str = "berth.local/pause:1";

/// The largest archive that is read: ours is a few kilobytes.
const MAX_ARCHIVE_BYTES: u64 = 64 << 20;
/// How long containerd holds half-written blobs for us.
const LEASE_TIME: Duration = Duration::from_secs(3_600);

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    digest: String,
    size: i64,
}

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    config: Entry,
    layers: Vec<Entry>,
}

/// An image, as it is written: leaves first, the manifest last.
#[derive(Debug)]
struct Layout {
    manifest: Entry,
    blobs: Vec<Blob>,
}

/// Imports the archive unless containerd has this very image under our name already.
pub(super) async fn import(client: &Client, archive: &Path) -> Result<(), RuntimeError> {
    let what = || format!("import {PAUSE_IMAGE} from {}", archive.display());
    let path = archive.to_owned();
    let read = tokio::task::spawn_blocking(move || read_layout(&path)).await;
    let layout = read.map_err(|error| transient(what(), error))?.map_err(|why| permanent(what(), why))?;
    let known = client.find_image(PAUSE_IMAGE).await?;
    let same = known.is_some_and(|image| image.target.digest == layout.manifest.digest);
    if same && client.cri_image(PAUSE_IMAGE).await?.is_some() {
        return Ok(());
    }
    write(client, layout).await
}

async fn write(client: &Client, layout: Layout) -> Result<(), RuntimeError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let lease = format!("berth-pause-{}", now.as_nanos());
    let expiry = prost_types::Timestamp::from(SystemTime::now() + LEASE_TIME).to_string();
    client.take_lease(&lease, expiry).await?;
    for blob in &layout.blobs {
        client.write_blob(&lease, blob).await?;
    }
    let Entry { media_type, digest, size } = layout.manifest;
    let target = Descriptor { media_type, digest, size, ..Descriptor::default() };
    client.name_image(PAUSE_IMAGE, target).await?;
    client.end_lease(&lease).await
}

fn read_layout(archive: &Path) -> Result<Layout, String> {
    let files = read_tar(archive).map_err(|error| format!("read the archive: {error}"))?;
    let index: Index = parse(&files, Path::new("index.json"))?;
    let [manifest_entry] = <[Entry; 1]>::try_from(index.manifests)
        .map_err(|entries| format!("index.json names {} manifests, not one", entries.len()))?;
    let manifest: Manifest = parse(&files, &blob_path(&manifest_entry.digest)?)?;
    let mut blobs = Vec::new();
    let mut labels = HashMap::new();
    labels.insert("containerd.io/gc.ref.content.config".to_owned(), manifest.config.digest.clone());
    for (index, layer) in manifest.layers.iter().enumerate() {
        labels.insert(format!("containerd.io/gc.ref.content.l.{index}"), layer.digest.clone());
        blobs.push(blob(&files, layer, HashMap::new())?);
    }
    blobs.push(blob(&files, &manifest.config, HashMap::new())?);
    blobs.push(blob(&files, &manifest_entry, labels)?);
    Ok(Layout { manifest: manifest_entry, blobs })
}

fn read_tar(archive: &Path) -> std::io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut tar = tar::Archive::new(File::open(archive)?.take(MAX_ARCHIVE_BYTES));
    for entry in tar.entries()? {
        let mut entry = entry?;
        let path: PathBuf = entry.path()?.components().filter(is_name).collect();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        files.insert(path, bytes);
    }
    Ok(files)
}

/// `./index.json` is `index.json`.
fn is_name(component: &std::path::Component<'_>) -> bool {
    !matches!(component, std::path::Component::CurDir)
}

fn parse<T: for<'a> Deserialize<'a>>(files: &BTreeMap<PathBuf, Vec<u8>>, path: &Path) -> Result<T, String> {
    let missing = || format!("{} is missing", path.display());
    let broken = |error: &dyn Display| format!("parse {}: {error}", path.display());
    serde_json::from_slice(files.get(path).ok_or_else(missing)?).map_err(|error| broken(&error))
}

fn blob_path(digest: &str) -> Result<PathBuf, String> {
    let parsed: berth_model::Digest = digest.parse().map_err(|error| format!("{error}"))?;
    Ok(Path::new("blobs").join(parsed.as_str().replace(':', "/")))
}

/// A blob of the archive, if it is what its digest says.
fn blob(
    files: &BTreeMap<PathBuf, Vec<u8>>,
    entry: &Entry,
    labels: HashMap<String, String>,
) -> Result<Blob, String> {
    let path = blob_path(&entry.digest)?;
    let bytes = files.get(&path).ok_or_else(|| format!("{} is missing", path.display()))?;
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if entry.digest != format!("sha256:{hex}") {
        return Err(format!("{} has the digest sha256:{hex}", path.display()));
    }
    Ok(Blob { digest: entry.digest.clone(), bytes: bytes.clone(), labels })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn digest_of(bytes: &[u8]) -> String {
        let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    }

    fn descriptor(bytes: &[u8]) -> serde_json::Value {
        json!({ "mediaType": "x", "digest": digest_of(bytes), "size": bytes.len() })
    }

    /// A layout of one layer, with `spoil` applied to the layer's bytes after its digest was taken.
    fn archive(folder: &Path, spoil: fn(&mut Vec<u8>)) -> PathBuf {
        let mut layer = b"layer".to_vec();
        let config = b"{}".to_vec();
        let manifest = json!({ "config": descriptor(&config), "layers": [descriptor(&layer)] }).to_string();
        let index = json!({ "manifests": [descriptor(manifest.as_bytes())] }).to_string();
        let layer_path = blob_path(&digest_of(&layer)).unwrap();
        spoil(&mut layer);
        let files = [
            (PathBuf::from("./index.json"), index.into_bytes()),
            (blob_path(&digest_of(manifest.as_bytes())).unwrap(), manifest.clone().into_bytes()),
            (blob_path(&digest_of(&config)).unwrap(), config.clone()),
            (layer_path, layer),
        ];
        let path = folder.join("pause.tar");
        let mut builder = tar::Builder::new(File::create(&path).unwrap());
        for (path, bytes) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            builder.append_data(&mut header, path, bytes.as_slice()).unwrap();
        }
        builder.finish().unwrap();
        path
    }

    #[test]
    fn a_layout_is_read_leaves_first() {
        let folder = tempfile::tempdir().unwrap();
        let layout = read_layout(&archive(folder.path(), |_| {})).unwrap();
        assert_eq!(layout.blobs.len(), 3);
        let last = layout.blobs.last().unwrap();
        assert_eq!(last.digest, layout.manifest.digest);
        let refers_to: Vec<_> = layout.blobs[..2].iter().map(|blob| &blob.digest).collect();
        assert!(last.labels.values().all(|digest| refers_to.contains(&digest)), "{:?}", last.labels);
        assert_eq!(last.labels.len(), 2);
    }

    #[test]
    fn a_blob_that_is_not_what_it_says_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = read_layout(&archive(folder.path(), |layer| layer.push(b'!'))).unwrap_err();
        assert!(error.contains("has the digest"), "{error}");
    }

    #[test]
    fn no_archive_is_named() {
        let error = read_layout(Path::new("/does/not/exist")).unwrap_err();
        assert!(error.contains("No such file"), "{error}");
    }
}
