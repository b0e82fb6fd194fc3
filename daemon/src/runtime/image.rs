//! Images: here by digest, resolvable without anyone off the host, and kept.
//!
//! CRI resolves `repository@digest` from its own store, so that name is what containers are made from, and what is
//! pinned: a tag may move on, and collectors spare what a pinned name stands for.

use super::client::Client;
use super::containerd::Image;
use super::error::{permanent, transient};
use super::{CONTAINERD_ROOT, RuntimeError};
use crate::crash_point::Deed;
use berth_model::{Digest, ImageName};
use berth_plan::ImageState;
use nix::unistd::syncfs;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::time::Duration;

/// How long CRI may take to take notice of a name that we gave: it hears of it by event.
const NOTICE_DEADLINE: Duration = Duration::from_secs(10);
const NOTICE_POLL: Duration = Duration::from_millis(50);

/// An image that the runtime has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenImage {
    /// What it is called, with tags.
    pub names: Vec<String>,
    /// What its names resolve to, such as `sha256:…`.
    pub digests: Vec<String>,
    /// What it takes as it was pulled, bytes.
    pub size: u64,
}

/// What an image name, or the digest it must have, resolves to here. One that is not kept yet counts as absent: its files
/// may not be on the disk, or a collector may take it.
pub(super) async fn look(
    client: &Client,
    image: &ImageName,
    digest: Option<&Digest>,
) -> Result<ImageState, RuntimeError> {
    let name = match digest.or(image.digest()) {
        Some(digest) => image.pinned(digest.clone()),
        None => image.clone(),
    };
    let Some((found, digest)) = find(client, &name).await? else { return Ok(ImageState::Absent) };
    let kept = match name.digest() {
        Some(_) => found.is_pinned(),
        None => find(client, &image.pinned(digest.clone())).await?.is_some_and(|(kept, _)| kept.is_pinned()),
    };
    Ok(if kept { ImageState::Present { digest } } else { ImageState::Absent })
}

/// An image as people see it: CRI tells digests with the names they were pulled by.
pub(super) fn seen(image: k8s_cri::v1::Image) -> SeenImage {
    let digest = |name: &String| Some(name.split_once('@')?.1.to_owned());
    let digests: BTreeSet<_> = image.repo_digests.iter().filter_map(digest).collect();
    SeenImage { names: image.repo_tags, digests: digests.into_iter().collect(), size: image.size }
}

/// Pulls the image unless it is here, and pins it; answers its digest.
pub(super) async fn ensure(
    client: &Client,
    image: &ImageName,
    digest: Option<&Digest>,
) -> Result<Digest, RuntimeError> {
    match digest.or(image.digest()) {
        Some(digest) => {
            ensure_exact(client, image, digest).await?;
            Ok(digest.clone())
        }
        None => ensure_named(client, image).await,
    }
}

async fn ensure_exact(client: &Client, image: &ImageName, digest: &Digest) -> Result<(), RuntimeError> {
    let pinned = image.pinned(digest.clone());
    if find(client, &pinned).await?.is_none() {
        match client.pull_image(&pinned.to_string()).await {
            Ok(()) => {}
            Err(error @ RuntimeError::Permanent { .. }) => {
                return Err(explain_absence(client, image, digest, error).await);
            }
            Err(error) => return Err(error),
        }
    }
    keep(client, &pinned).await
}

/// No registry has that digest. If it has another one under the same tag, that is the thing to say.
async fn explain_absence(
    client: &Client,
    image: &ImageName,
    digest: &Digest,
    error: RuntimeError,
) -> RuntimeError {
    if image.tag().is_none() {
        return error;
    }
    let tagged = untagged_digest(image);
    match pull_and_resolve(client, &tagged).await {
        Ok(found) if found != *digest => {
            RuntimeError::WrongDigest { image: tagged, found: found.to_string(), ordered: digest.to_string() }
        }
        Ok(_) | Err(_) => error,
    }
}

/// `repository:tag`, whatever digest the name carries too.
fn untagged_digest(image: &ImageName) -> String {
    match image.tag() {
        Some(tag) => format!("{}:{tag}", image.repository()),
        None => image.repository().to_owned(),
    }
}

async fn ensure_named(client: &Client, image: &ImageName) -> Result<Digest, RuntimeError> {
    let digest = match find(client, image).await? {
        Some((_, digest)) => digest,
        None => pull_and_resolve(client, &image.to_string()).await?,
    };
    let pinned = image.pinned(digest.clone());
    if find(client, &pinned).await?.is_none() {
        // Imported by hand rather than pulled: only the tag names it.
        let tagged = client.find_image(&image.to_string()).await?;
        let tagged = tagged.ok_or_else(|| transient(format!("pin image {pinned}"), "it vanished"))?;
        flush().await?;
        client.name_image(&pinned.to_string(), tagged.target).await?;
        await_notice(client, &pinned).await?;
    }
    keep(client, &pinned).await?;
    Ok(digest)
}

async fn pull_and_resolve(client: &Client, name: &str) -> Result<Digest, RuntimeError> {
    client.pull_image(name).await?;
    let what = || format!("find out what image {name} is");
    let pulled = client.find_image(name).await?;
    let pulled =
        pulled.ok_or_else(|| transient(what(), "containerd has it not, after a pull that succeeded"))?;
    digest_of(&pulled)
}

/// The image and its digest, if both containerd and CRI have it: only CRI's word counts when a container is made.
async fn find(client: &Client, name: &ImageName) -> Result<Option<(Image, Digest)>, RuntimeError> {
    let name = name.to_string();
    let Some(image) = client.find_image(&name).await? else {
        return Ok(None);
    };
    if client.cri_image(&name).await?.is_none() {
        return Ok(None);
    }
    let digest = digest_of(&image)?;
    Ok(Some((image, digest)))
}

fn digest_of(image: &Image) -> Result<Digest, RuntimeError> {
    let digest = &image.target.digest;
    digest.parse().map_err(|error| permanent(format!("read the digest of image {}", image.name), error))
}

async fn keep(client: &Client, pinned: &ImageName) -> Result<(), RuntimeError> {
    let name = pinned.to_string();
    let image = client.find_image(&name).await?;
    let image = image.ok_or_else(|| transient(format!("pin image {name}"), "it vanished"))?;
    if image.is_pinned() {
        return Ok(());
    }
    flush().await?;
    client.pin_image(&image).await
}

/// containerd unpacks layers without flushing them, and records them durably: after a power cut an image can be there
/// whose files are empty. What is kept must be on the disk first.
async fn flush() -> Result<(), RuntimeError> {
    let flushed =
        tokio::task::spawn_blocking(|| syncfs(File::open(CONTAINERD_ROOT)?).map_err(io::Error::from));
    let flushed = Deed::FlushImages.between(flushed).await.map_err(io::Error::other).flatten();
    flushed.map_err(|error| transient(format!("flush {CONTAINERD_ROOT}"), error))
}

async fn await_notice(client: &Client, name: &ImageName) -> Result<(), RuntimeError> {
    let noticed = async {
        while client.cri_image(&name.to_string()).await?.is_none() {
            tokio::time::sleep(NOTICE_POLL).await;
        }
        Ok(())
    };
    match tokio::time::timeout(NOTICE_DEADLINE, noticed).await {
        Ok(answer) => answer,
        Err(_) => Err(transient(
            format!("name image {name}"),
            format!("CRI took no notice in {} s", NOTICE_DEADLINE.as_secs()),
        )),
    }
}
