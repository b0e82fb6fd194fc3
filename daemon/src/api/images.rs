//! The images of this node, for `berthctl images`: what they are called, what they take, and which pods are made from them.

use crate::ledger::Book;
use crate::runtime::SeenImage;
use berth_plan::PodRecord;
use berth_proto::v1;
use std::cmp::Reverse;

/// Every image that the runtime has, the largest first.
pub(super) fn list(book: &Book, seen: Vec<SeenImage>) -> Vec<v1::LocalImage> {
    let image = |seen: SeenImage| v1::LocalImage {
        used_by: users(book, &seen.digests),
        names: seen.names,
        digests: seen.digests,
        size_bytes: seen.size,
    };
    let mut images: Vec<_> = seen.into_iter().map(image).collect();
    images.sort_by_key(|image| (Reverse(image.size_bytes), image.names.clone(), image.digests.clone()));
    images
}

/// The pods, here or kept, that have a container or a system disk made from what one of these digests names, or may go back
/// to it.
fn users(book: &Book, digests: &[String]) -> Vec<v1::PodRef> {
    let uses = |record: &&PodRecord| {
        let here = record.containers.values().filter_map(|container| container.digest.as_ref());
        let kept = record.kept.iter().filter_map(|kept| kept.digest.as_ref());
        let previous = record.charter.iter().filter_map(|charter| charter.previous.as_ref());
        let replaced = previous.flat_map(|previous| previous.replaced.values());
        let back = replaced.filter_map(|replaced| replaced.digest.as_ref());
        here.chain(kept).chain(back).any(|digest| digests.contains(&digest.to_string()))
    };
    book.pods.values().filter(uses).map(|record| (&record.pod).into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Moment;
    use crate::runtime::fake;
    use crate::testing::{host_view, open, pod, pool_order, run_order};
    use std::collections::BTreeMap;

    fn seen(digit: char, size: u64) -> SeenImage {
        let digests = vec![fake::digest(digit).to_string()];
        SeenImage { names: vec![format!("a.example/{digit}:1")], digests, size }
    }

    #[tokio::test]
    async fn an_image_is_used_by_the_pods_that_are_made_from_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(folder.path());
        for order in [pool_order(1, 1, "0"), run_order(2)] {
            ledger.admit(order, host_view(), Moment::now()).await.unwrap();
        }
        let mut record = ledger.pod(&pod()).unwrap();
        record.containers.values_mut().for_each(|container| container.digest = Some(fake::digest('b')));
        let book = ledger.read(|book| Book { pods: BTreeMap::from([(pod(), record)]), ..book.clone() });
        let listed = list(&book, vec![seen('a', 1), seen('b', 2), seen('c', 3)]);
        let told: Vec<_> = listed.iter().map(|image| (image.size_bytes, image.used_by.clone())).collect();
        assert_eq!(told, [(3, vec![]), (2, vec![(&pod()).into()]), (1, vec![])]);
    }
}
