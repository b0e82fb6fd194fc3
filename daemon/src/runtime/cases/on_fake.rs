//! The fake as ground of the cases.

use super::{CASES, Clerk, Ground, Player, spec};
use crate::runtime::fake::{self, FakeRuntime};
use std::time::Duration;

impl Ground for FakeRuntime {
    type Runtime = Self;

    fn runtime(&self) -> &Self {
        self
    }

    fn patience(&self) -> Duration {
        // An end is seen at the second look.
        Duration::from_secs(1)
    }

    async fn starts(&self, key: &str) -> Option<usize> {
        self.written(key).map(|written| written.len())
    }

    async fn has_ulimits(&self, id: &str) -> bool {
        self.is_amended(id)
    }

    async fn faults(&self) -> Vec<String> {
        self.violations()
    }

    async fn exit(&self, id: &str) {
        Self::exit(self, id, 3);
    }

    async fn lose_record(&self, id: &str) {
        Self::lose_record(self, id);
    }

    async fn restart_runtime(&self) {
        Self::restart(self);
    }

    async fn power_cut(&self) {
        self.reboot();
    }
}

#[tokio::test]
async fn the_fake_is_as_the_table_has_it() {
    let image = &fake::container_spec("app").image;
    let folder = tempfile::tempdir().unwrap();
    let clerk = Clerk::new(folder.path(), spec(image)).await;
    let fake = FakeRuntime::new();
    fake.linger();
    fake.publish(image, &fake::digest('a'));
    let mut player = Player::new(&fake, &clerk).await;
    for case in CASES {
        assert_eq!(player.play(case).await, [], "{}", case.name);
    }
    assert_eq!(player.leave().await, []);
}
