//! What the registry says of the user-services of a scene.

use registry::{Instance, InstanceId, Intent, ServiceName, Status};
use testkit::eventually;

use crate::running::{BOUND, Scene};

impl Scene {
    /// What is said of each, in order: who drains is first, then who serves, then who does not.
    pub(crate) async fn statuses(&self) -> Vec<Status> {
        let mut statuses = self.of_each(|instance| instance.status).await;
        statuses.sort_by_key(|status| match status {
            Status::Draining => 0,
            Status::Serving => 1,
            Status::NotServing => 2,
        });
        statuses
    }

    pub(crate) async fn becomes(&self, statuses: &[Status]) {
        let what = format!("the registry to say {statuses:?}");
        eventually(BOUND, &what, async || self.statuses().await == statuses).await;
    }

    /// Waits until each instance says so, whatever an operator wants of it.
    pub(crate) async fn say_of_themselves(&self, status: Status) {
        let what = format!("the instances to say {status:?}");
        eventually(BOUND, &what, async || {
            let own = self.of_each(Instance::own_status).await;
            !own.is_empty() && own.iter().all(|own| *own == status)
        })
        .await;
    }

    /// Has an operator drain one of them, and gives its id.
    pub(crate) async fn drains_one(&self) -> InstanceId {
        let ids = self.of_each(|instance| instance.id.clone()).await;
        let id = ids.into_iter().next().expect("one is there");
        let drained = Intent::nothing().with_status(Status::Draining);
        let set = self.registry.set_intent(&user(), &id, drained).await;
        set.expect("drained");
        id
    }

    async fn of_each<T>(&self, of: impl Fn(&Instance) -> T) -> Vec<T> {
        let snapshot = self.registry.list(&user()).await.expect("a list");
        snapshot.instances().map(|instance| of(instance)).collect()
    }
}

fn user() -> ServiceName {
    ServiceName::new("user").expect("a name")
}
