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

/// The pods, here or with a disk that is kept, that need what one of these digests names.
fn users(book: &Book, digests: &[String]) -> Vec<v1::PodRef> {
    let uses = |record: &&PodRecord| record.digests().any(|digest| digests.contains(&digest.to_string()));
    book.pods.values().filter(uses).map(|record| (&record.pod).into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Moment;
    use crate::runtime::fake;
    use crate::testing::{host_view, open, pod, pool_order, run_order};
    use berth_model::{ContainerName, Generation, Incarnation};
    use berth_plan::{KeptDisk, Previous, Replaced};

    fn seen(digit: char, size: u64) -> SeenImage {
        let digests = vec![fake::digest(digit).to_string()];
        SeenImage { names: vec![format!("a.example/{digit}:1")], digests, size }
    }

    /// Who uses the images `a` to `d`, by a record like this: the largest is `d`.
    fn check(record: PodRecord, used: [bool; 4]) {
        let book = Book { pods: [(pod(), record)].into(), ..Book::default() };
        let listed = list(&book, vec![seen('a', 1), seen('b', 2), seen('c', 3), seen('d', 4)]);
        let told: Vec<_> = listed.into_iter().map(|image| (image.size_bytes, image.used_by)).collect();
        let expected = used.map(|used| if used { vec![(&pod()).into()] } else { vec![] });
        let [a, b, c, d] = expected;
        assert_eq!(told, [(4, d), (3, c), (2, b), (1, a)]);
    }

    #[tokio::test]
    async fn an_image_is_used_by_the_pods_that_need_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(folder.path());
        for order in [pool_order(1, 1, "0"), run_order(2)] {
            ledger.admit(order, host_view(), Moment::now()).await.unwrap();
        }
        let mut record = ledger.pod(&pod()).unwrap();
        check(record.clone(), [false; 4]);
        let (name, digest) = (ContainerName::new("app").unwrap(), |digit| Some(fake::digest(digit)));
        record.containers.entry(name.clone()).or_default().digest = digest('a');
        check(record.clone(), [true, false, false, false]);
        let incarnation = Incarnation(1);
        record.kept =
            vec![KeptDisk { incarnation, container: name.clone(), key: "k".to_owned(), digest: digest('b') }];
        check(record.clone(), [true, true, false, false]);
        let charter = record.charter.as_mut().unwrap();
        let replaced = Replaced { generation: Generation(1), digest: digest('c'), disk: None };
        let spec = Box::new(charter.spec.clone());
        charter.previous = Some(Previous { spec, replaced: [(name, replaced)].into() });
        check(record, [true, true, true, false]);
    }
}
