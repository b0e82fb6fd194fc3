//! Images of the lab's registry.

use berth_lab::REGISTRY;

/// What the registry holds.
pub const REGISTRY_IMAGES: [&str; 3] = ["busybox", "redis", "postgresql"];

/// The full name of one of the registry's images.
///
/// # Panics
/// When the registry has no such image.
pub fn image(name: &str) -> String {
    assert!(REGISTRY_IMAGES.contains(&name), "the lab's registry has no image {name}");
    format!("{REGISTRY}/library/{name}:1")
}
