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
    /// [`weight`](Self::weight) are what it says, as far as it does.
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

    /// The instance as it says itself, without what an operator wants.
    #[must_use]
    pub fn itself(self) -> Self {
        Self {
            status: self.own_status(),
            weight: self.own_weight(),
            overruled: None,
            ..self
        }
    }

    /// The instance under this intent, or left to itself; the same value where that is what it was.
    pub(crate) fn under(instance: &Arc<Self>, intent: Option<&Intent>) -> Arc<Self> {
        if instance.intent() == intent {
            return Arc::clone(instance);
        }
        let itself = Self::clone(instance).itself();
        Arc::new(match intent {
            None => itself,
            Some(intent) => Self {
                status: intent.status().unwrap_or(itself.status),
                weight: intent.weight().unwrap_or(itself.weight),
                overruled: Some(Arc::new(Overruled {
                    intent: intent.clone(),
                    status: itself.status,
                    weight: itself.weight,
                })),
                ..itself
            },
        })
    }
}
