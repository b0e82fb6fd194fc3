//! Manifests: YAML documents that say what a platform wants, parsed into the model.
//!
//! Start with [`parse`]. It is pure: text in, values or errors out. Every error names the line, the column and the
//! path of the field. An unknown field is an error: a misspelt limit must not become no limit.

mod config;
mod container;
mod disk;
mod error;
mod host_path;
mod limits;
mod pod;
mod pool;
mod probe;
mod scalar;
mod security;
mod split;
#[cfg(test)]
mod tests;

pub use error::ManifestError;
pub(crate) use scalar::parse_duration_ms;

use berth_model::PodRequest;
use berth_proto::v1;
use error::Position;
use pod::PodDocument;
use pool::{AddressPoolDocument, SharedCpusDocument};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::{Deserializer, Track};

/// A complete manifest with every field explained.
pub const EXAMPLE: &str = include_str!("example.yaml");

/// Largest manifest: a hundred thousand lines, far above any real one, bound the memory of a wrong file name.
pub(crate) const MAX_BYTES: usize = 4 << 20;

/// What one document of a manifest asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Manifest {
    /// A pod.
    Pod(Box<PodRequest>),
    /// A pool of addresses.
    AddressPool(v1::AddressPool),
    /// A pool of CPUs on a node.
    SharedCpus(v1::SetSharedCpusRequest),
}

impl Manifest {
    /// Kind and name, for people.
    pub fn title(&self) -> String {
        match self {
            Self::Pod(request) => format!("Pod {}", request.pod),
            Self::AddressPool(pool) => format!("AddressPool {}", pool.name),
            Self::SharedCpus(pool) => format!("SharedCpus {} on {}", pool.pool, pool.node),
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum KindField {
    Pod,
    AddressPool,
    SharedCpus,
}

/// The one field that says how to read the others.
#[derive(Debug, Deserialize)]
struct Head {
    kind: KindField,
}

/// Parses all documents of `text`, in their order.
///
/// # Errors
/// For each document that is wrong the first thing found wrong in it.
pub fn parse(text: &str) -> Result<Vec<Manifest>, Vec<ManifestError>> {
    if text.len() > MAX_BYTES {
        return Err(vec![ManifestError::whole(format!(
            "has {} bytes, at most {MAX_BYTES} are read: is it a manifest?",
            text.len()
        ))]);
    }
    let mut manifests = Vec::new();
    let mut errors = Vec::new();
    for document in split::documents(text) {
        match parse_document(&document) {
            Ok(manifest) => manifests.push(manifest),
            Err(error) => errors.push(error),
        }
    }
    if manifests.is_empty() && errors.is_empty() {
        errors.push(ManifestError::whole("holds no document"));
    }
    if errors.is_empty() { Ok(manifests) } else { Err(errors) }
}

fn parse_document(document: &str) -> Result<Manifest, ManifestError> {
    let Head { kind } = read(document)?;
    match kind {
        KindField::Pod => read(document).map(|PodDocument(pod)| Manifest::Pod(Box::new(pod))),
        KindField::AddressPool => read(document).map(|AddressPoolDocument(pool)| Manifest::AddressPool(pool)),
        KindField::SharedCpus => read(document).map(|SharedCpusDocument(pool)| Manifest::SharedCpus(pool)),
    }
}

fn read<T: DeserializeOwned>(document: &str) -> Result<T, ManifestError> {
    let mut path = String::new();
    let read = serde_saphyr::with_deserializer_from_str(document, |deserializer| {
        let mut track = Track::new();
        let value = T::deserialize(Deserializer::new(deserializer, &mut track));
        if value.is_err() {
            path = track.path().to_string();
        }
        value
    });
    read.map_err(|error| ManifestError::from_yaml(&error, &Position::field(&path)).or_in(document))
}
