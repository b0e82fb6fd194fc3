//! The fake is as unkind as the real thing. What is said here of it was tried on containerd.

use super::*;
use crate::runtime::{DeathProof, Making, Runtime};
use berth_model::{Attempt, Generation, Incarnation};
use std::collections::BTreeSet;

async fn running(fake: &FakeRuntime, pod: &PodId) -> (String, String) {
    let ordered = ordered(pod, spec("web"));
    let image = &ordered.spec.containers[0].image;
    fake.publish(image, &digest('a'));
    let digest = fake.ensure_image(image, None).await.unwrap();
    fake.ensure_slice(&ordered).await.unwrap();
    let sandbox = fake.run_sandbox(&ordered, Attempt(1)).await.unwrap();
    let name = ordered.spec.containers[0].name.clone();
    let id = fake.create_container(&ordered, &sandbox, &name, &making(1, &digest)).await.unwrap();
    fake.start_container(&id).await.unwrap();
    (sandbox, id)
}

fn pod() -> PodId {
    PodId::new("shop", "web").unwrap()
}

fn ids(id: &str) -> BTreeSet<String> {
    BTreeSet::from([id.to_owned()])
}

#[tokio::test]
async fn what_lives_cannot_be_proven_dead() {
    let fake = FakeRuntime::new();
    let (_, id) = running(&fake, &pod()).await;
    assert!(fake.prove_dead(&pod(), ids(&id)).await.is_err());
    fake.make_unknown(&id);
    assert!(fake.prove_dead(&pod(), ids(&id)).await.is_err());
    fake.make_known(&id, Alive::No);
    let proof = fake.prove_dead(&pod(), ids(&id)).await.unwrap();
    assert!(proof.covers(&id));
}

#[tokio::test]
async fn a_disk_survives_its_holders() {
    let fake = FakeRuntime::new();
    let (sandbox, old) = running(&fake, &pod()).await;
    fake.exit(&old, 1);
    let ordered = ordered(&pod(), spec("web"));
    let name = ordered.spec.containers[0].name.clone();
    let new = fake.create_container(&ordered, &sandbox, &name, &making(2, &digest('a'))).await.unwrap();
    assert!(fake.adopt_disk(None, Some(&old), &new, &old).await.is_err(), "no proof");
    let proof = DeathProof::new(pod(), ids(&old));
    fake.adopt_disk(Some(&proof), Some(&old), &new, &old).await.unwrap();
    fake.start_container(&new).await.unwrap();
    assert_eq!(fake.written(&old), Some(vec![old.clone(), new.clone()]));
    assert_eq!(fake.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_reboot_ends_everything_and_keeps_the_disks() {
    let fake = FakeRuntime::new();
    let (_, id) = running(&fake, &pod()).await;
    fake.cut_off();
    fake.reboot();
    assert_eq!(fake.running(&pod(), &ContainerName::new("app").unwrap()), Vec::<String>::new());
    assert_eq!(fake.disks(), [id]);
    let image = &spec("web").containers[0].image;
    assert_eq!(fake.ensure_image(image, Some(&digest('a'))).await.unwrap(), digest('a'));
}

#[tokio::test]
async fn troubles_come_in_their_order() {
    let fake = FakeRuntime::new();
    let ordered = ordered(&pod(), spec("web"));
    for trouble in [Trouble::FailBefore, Trouble::DoNothing, Trouble::FailAfter] {
        fake.trouble(Call::EnsureSlice, trouble);
    }
    assert!(fake.ensure_slice(&ordered).await.is_err());
    assert!(fake.ensure_slice(&ordered).await.is_ok());
    assert_eq!(fake.effects(), Vec::<String>::new());
    assert!(fake.ensure_slice(&ordered).await.is_err());
    assert_eq!(fake.effects(), ["slice"]);
}

#[tokio::test]
async fn a_wrong_digest_names_both() {
    let fake = FakeRuntime::new();
    let image = &spec("web").containers[0].image;
    fake.publish(image, &digest('a'));
    let error = fake.ensure_image(image, Some(&digest('b'))).await.unwrap_err();
    assert!(matches!(error, RuntimeError::WrongDigest { .. }), "{error}");
    assert_eq!(ordered(&pod(), spec("web")).incarnation, Incarnation(1));
}

fn making(attempt: u32, digest: &Digest) -> Making {
    Making { attempt: Attempt(attempt), generation: Generation(1), digest: digest.clone() }
}
