//! An instance of which an operator wants something.

use std::sync::Arc;

use super::Instance;
use crate::{Intent, Status, Weight};

/// What an operator wants, and what the instance says of itself all the same.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overruled {
    intent: Intent,
    status: Status,
    weight: Weight,
}

impl Instance {
    /// What an operator wants of the instance, while that is in force: then [`status`](Self::status) and
    /// [`weight`](Self::weight) are what it says, as far as it does. It may be one that the registry has lost, and that the
    /// instance carries; then it has no [origin](Intent::origin).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use registry::{Address, Instance, Intent, Registry, ServiceName, Status, backend::memory::MemoryStore};
    /// # let registry = Registry::new(MemoryStore::new());
    /// # let service = ServiceName::new("greeter")?;
    /// # let greeter = Instance::new(service.clone(), Address::new("10.0.0.7:50051")?);
    /// # let id = greeter.id.clone();
    /// # let _registration = registry.register(greeter, std::time::Duration::from_secs(10));
    /// # while registry.list(&service).await?.is_empty() { tokio::task::yield_now().await; }
    /// registry.set_intent(&service, &id, Intent::from(Status::Draining)).await?;
    /// let listed = registry.list(&service).await?;
    /// let greeter = listed.get(&id).expect("it is registered");
    /// assert_eq!(greeter.status, Status::Draining);
    /// assert_eq!(greeter.intent(), Some(&Intent::from(Status::Draining)));
    /// assert_eq!(greeter.own_status(), Status::Serving);
    /// # Ok(())
    /// # }
    /// ```
    pub fn intent(&self) -> Option<&Intent> {
        self.overruled.as_ref().map(|overruled| &overruled.intent)
    }

    /// The status that the instance says itself, whatever an operator wants.
    pub fn own_status(&self) -> Status {
        let overruled = self.overruled.as_ref();
        overruled.map_or(self.status, |overruled| overruled.status)
    }

    /// The weight that the instance says itself, whatever an operator wants.
    pub fn own_weight(&self) -> Weight {
        let overruled = self.overruled.as_ref();
        overruled.map_or(self.weight, |overruled| overruled.weight)
    }

    /// The instance as it says itself, without what an operator wants or wanted.
    #[must_use]
    pub fn itself(self) -> Self {
        self.carrying(None)
    }

    /// The instance with what an operator wanted of it, as its owner remembers; in force where it is not
    /// [under](Self::under) anything else.
    #[must_use]
    pub(crate) fn carrying(self, asked: Option<&Intent>) -> Self {
        let asked = asked.filter(|intent| !intent.is_nothing());
        let carried = asked.map(|intent| Arc::new(intent.clone().read_nowhere()));
        let ruled = self.ruled_by(carried.as_deref());
        Self { carried, ..ruled }
    }

    /// What it carries of what an operator wanted.
    pub(crate) fn carried(&self) -> Option<&Intent> {
        self.carried.as_deref()
    }

    /// The instance under this intent of the store's; where that has none, under the one that it carries, or left to itself.
    /// The same value where that is what it was.
    pub(crate) fn under(instance: &Arc<Self>, stored: Option<&Intent>) -> Arc<Self> {
        let wanted = stored.or(instance.carried());
        let wanted = wanted.filter(|intent| !intent.is_nothing());
        if instance.intent() == wanted {
            return Arc::clone(instance);
        }
        Arc::new(Self::clone(instance).ruled_by(wanted))
    }

    fn ruled_by(self, intent: Option<&Intent>) -> Self {
        let (status, weight) = (self.own_status(), self.own_weight());
        let overruled = intent.map(|intent| Overruled {
            intent: intent.clone(),
            status,
            weight,
        });
        Self {
            weight: intent.and_then(Intent::weight).unwrap_or(weight),
            status: intent.and_then(Intent::status).unwrap_or(status),
            overruled: overruled.map(Arc::new),
            ..self
        }
    }
}
