//! Image records: names for manifests in the content store.

use crate::crash_point::Deed;
use crate::runtime::RuntimeError;
use crate::runtime::client::{Attempted, Client, in_namespace};
use containerd_client::services::v1::{
    CreateImageRequest, GetImageRequest, Image as Wire, UpdateImageRequest,
};
use containerd_client::types::Descriptor;
use prost_types::FieldMask;
use std::collections::HashMap;

/// CRI's label for an image that must stay.
pub(in crate::runtime) const PINNED: (&str, &str) = ("io.cri-containerd.pinned", "pinned");
/// CRI's label for an image that it looks after.
const MANAGED: (&str, &str) = ("io.cri-containerd.image", "managed");

/// What a name stands for.
#[derive(Debug, Clone)]
pub(in crate::runtime) struct Image {
    /// The name.
    pub(in crate::runtime) name: String,
    /// Manifest or index.
    pub(in crate::runtime) target: Descriptor,
    /// Its labels.
    pub(in crate::runtime) labels: HashMap<String, String>,
}

impl Image {
    /// Whether collectors spare it.
    pub(in crate::runtime) fn is_pinned(&self) -> bool {
        self.labels.get(PINNED.0).is_some_and(|value| value == PINNED.1)
    }
}

fn pinned_labels() -> HashMap<String, String> {
    [PINNED, MANAGED].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

impl Client {
    /// What a name stands for here, if anything.
    pub(in crate::runtime) async fn find_image(&self, name: &str) -> Result<Option<Image>, RuntimeError> {
        let request = in_namespace(GetImageRequest { name: name.to_owned() });
        let answer =
            Attempted::look(format!("look up image {name}")).find(self.images().get(request)).await?;
        Ok(answer.and_then(|answer| answer.image).map(|image| Image {
            name: image.name,
            target: image.target.unwrap_or_default(),
            labels: image.labels,
        }))
    }

    /// Gives `target` this name, pinned, whether or not the name stood for something before.
    pub(in crate::runtime) async fn name_image(
        &self,
        name: &str,
        target: Descriptor,
    ) -> Result<(), RuntimeError> {
        let what = format!("name image {name}");
        let known = self.find_image(name).await?.is_some();
        let image =
            Wire { name: name.to_owned(), labels: pinned_labels(), target: Some(target), ..Wire::default() };
        if known {
            let paths = vec!["target".to_owned(), "labels".to_owned()];
            let request = in_namespace(UpdateImageRequest {
                image: Some(image),
                update_mask: Some(FieldMask { paths }),
                source_date_epoch: None,
            });
            Attempted::record(Deed::NameImage, what).run(self.images().update(request)).await.map(drop)
        } else {
            let request = in_namespace(CreateImageRequest { image: Some(image), source_date_epoch: None });
            Attempted::record(Deed::NameImage, what).run(self.images().create(request)).await.map(drop)
        }
    }

    /// Pins the image of this name.
    pub(in crate::runtime) async fn pin_image(&self, image: &Image) -> Result<(), RuntimeError> {
        let labels = HashMap::from([(PINNED.0.to_owned(), PINNED.1.to_owned())]);
        let paths = vec![format!("labels.{}", PINNED.0)];
        // The target is said though it stays: without one, containerd (1.7) dies of a nil pointer.
        let change =
            Wire { name: image.name.clone(), labels, target: Some(image.target.clone()), ..Wire::default() };
        let request = in_namespace(UpdateImageRequest {
            image: Some(change),
            update_mask: Some(FieldMask { paths }),
            source_date_epoch: None,
        });
        Attempted::record(Deed::PinImage, format!("pin image {}", image.name))
            .run(self.images().update(request))
            .await
            .map(drop)
    }
}
