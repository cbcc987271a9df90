//! What an operator wants of an instance, whatever that says of itself.

mod merge;
mod record;

use std::{fmt, sync::Arc};

use imbl::{OrdMap, ordmap::DiffItem};

pub(crate) use self::merge::Merged;
pub(crate) use self::record::IntentRecord;
pub use self::record::InvalidIntent;
use crate::{InstanceId, Origin, Revision, Status, Weight, instance::Provenance};

/// What an operator wants of an instance: a status, a weight, or both.
///
/// It is kept apart from the instance, without a lease, and the instance's owner never writes it. So it survives every
/// registration of the instance, and wins over what the instance says of itself until it is taken back.
///
/// ```
/// use registry::{Intent, Status, Weight};
/// let drained = Intent::from(Status::Draining);
/// assert_eq!((drained.status(), drained.weight()), (Some(Status::Draining), None));
/// let light = Intent::from(Weight::new(1)?).with_status(Status::Serving);
/// assert_eq!(light.to_string(), "serving, weight 1");
/// assert!(Intent::new(None, None).is_err());
/// # Ok::<(), registry::InvalidInstance>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    status: Option<Status>,
    weight: Option<Weight>,
    provenance: Provenance,
}

impl Intent {
    /// The intent of at least one of the two.
    pub fn new(status: Option<Status>, weight: Option<Weight>) -> Result<Self, InvalidIntent> {
        if status.is_none() && weight.is_none() {
            return Err(InvalidIntent::Empty);
        }
        Ok(Self {
            status,
            weight,
            provenance: Provenance::default(),
        })
    }

    /// The status that is wanted; `None` leaves it to the instance.
    pub fn status(&self) -> Option<Status> {
        self.status
    }

    /// The weight that is wanted; `None` leaves it to the instance.
    pub fn weight(&self) -> Option<Weight> {
        self.weight
    }

    /// The same intent with this status.
    pub fn with_status(self, status: Status) -> Self {
        let status = Some(status);
        Self { status, ..self }
    }

    /// The same intent with this weight.
    pub fn with_weight(self, weight: Weight) -> Self {
        let weight = Some(weight);
        Self { weight, ..self }
    }

    /// Where it was read; `None` for one that was made here.
    ///
    /// No part of what it is: what is written anew, word for word, is no change.
    pub fn origin(&self) -> Option<&Origin> {
        self.provenance.origin()
    }

    /// The same intent as read at that place.
    pub(crate) fn read_at(self, key: impl Into<Arc<str>>, revision: Revision) -> Self {
        let provenance = Provenance::new(key, revision);
        Self { provenance, ..self }
    }
}

impl From<Status> for Intent {
    fn from(status: Status) -> Self {
        Self {
            status: Some(status),
            weight: None,
            provenance: Provenance::default(),
        }
    }
}

impl From<Weight> for Intent {
    fn from(weight: Weight) -> Self {
        Self {
            status: None,
            weight: Some(weight),
            provenance: Provenance::default(),
        }
    }
}

impl fmt::Display for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comma = match self.status {
            None => "",
            Some(status) => {
                status.fmt(f)?;
                ", "
            }
        };
        match self.weight {
            None => Ok(()),
            Some(weight) => write!(f, "{comma}weight {}", weight.get()),
        }
    }
}

/// All that operators want of the instances of one service, whether or not these are there.
///
/// A persistent map: a clone costs nothing, and a new version costs what changed.
///
/// ```
/// use registry::{InstanceId, Intents, Status};
/// let id = InstanceId::new("10.0.0.7:50051")?;
/// let intents: Intents = [(id.clone(), Status::Draining.into())].into_iter().collect();
/// assert_eq!(intents.get(&id).and_then(|intent| intent.status()), Some(Status::Draining));
/// # Ok::<(), registry::InvalidInstance>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intents(OrdMap<InstanceId, Intent>);

impl Intents {
    /// What is wanted of the instance of that id.
    pub fn get(&self, id: &InstanceId) -> Option<&Intent> {
        self.0.get(id)
    }

    /// The intents with the ids of their instances, in the order of these.
    pub fn iter(&self) -> impl Iterator<Item = (&InstanceId, &Intent)> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts an intent in place of what was wanted of that instance; with `None`, leaves the instance to itself.
    pub fn set(&mut self, id: InstanceId, intent: Option<Intent>) {
        match intent {
            Some(intent) => self.0.insert(id, intent),
            None => self.0.remove(&id),
        };
    }

    /// The ids of the instances of which something else was wanted before; costs about what changed.
    fn changed_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a InstanceId> {
        before.0.diff(&self.0).map(|item| match item {
            DiffItem::Add(id, _)
            | DiffItem::Remove(id, _)
            | DiffItem::Update { new: (id, _), .. } => id,
        })
    }
}

impl FromIterator<(InstanceId, Intent)> for Intents {
    fn from_iter<I: IntoIterator<Item = (InstanceId, Intent)>>(intents: I) -> Self {
        Self(intents.into_iter().collect())
    }
}
