//! What an operator wants of an instance, whatever that says of itself.

mod follower;
mod merge;
mod record;

use std::{fmt, mem, sync::Arc};

use imbl::{OrdMap, ordmap::DiffItem};

pub(crate) use self::follower::{IntentFollower, IntentView};
pub(crate) use self::merge::Merged;
pub use self::record::InvalidIntent;
pub(crate) use self::record::{IntentRecord, Wanted};
use crate::{InstanceId, Origin, Revision, Status, Weight, instance::Provenance};

/// What an operator wants of an instance: a status, a weight, or both.
///
/// It is kept apart from the instance, without a lease, and the instance's owner never writes it. So it survives every
/// registration of the instance, and wins over what the instance says of itself until it is taken back. An owner that has
/// seen it remembers it when the store has lost it, and says so beside what the instance says of itself; what the store has
/// wins over that, were it that [nothing](Self::nothing) is wanted.
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

    /// That nothing is wanted, in so many words: it leaves an instance to itself of which something was wanted once, also
    /// where the instance's owner remembers that and the store does not.
    ///
    /// ```
    /// # use registry::Intent;
    /// assert!(Intent::nothing().is_nothing());
    /// ```
    pub fn nothing() -> Self {
        Self {
            status: None,
            weight: None,
            provenance: Provenance::default(),
        }
    }

    /// Whether it leaves all to the instance.
    pub fn is_nothing(&self) -> bool {
        self.status.is_none() && self.weight.is_none()
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

    /// The same intent, wherever it was read.
    pub(crate) fn read_nowhere(self) -> Self {
        let provenance = Provenance::default();
        Self { provenance, ..self }
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
            None if self.is_nothing() => f.write_str("nothing"),
            None => Ok(()),
            Some(weight) => write!(f, "{comma}weight {}", weight.get()),
        }
    }
}

/// All that operators want of the instances of one service, whether or not these are there.
///
/// A persistent map: a clone costs nothing, and a new version costs what changed. Two are equal that want the same,
/// whenever they were read.
///
/// ```
/// use registry::{InstanceId, Intents, Status};
/// let id = InstanceId::new("10.0.0.7:50051")?;
/// let intents: Intents = [(id.clone(), Status::Draining.into())].into_iter().collect();
/// assert_eq!(intents.get(&id).and_then(|intent| intent.status()), Some(Status::Draining));
/// # Ok::<(), registry::InvalidInstance>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Intents {
    all: OrdMap<InstanceId, Intent>,
    revision: Revision,
}

impl Intents {
    /// As of which revision of the store they were read; 0 in a store that never goes back.
    ///
    /// A later view of a lower revision is one of a store that was wiped, or has been restored from a backup: what it has
    /// no more nobody has taken back.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The same, as read at that revision of the store.
    #[must_use]
    pub fn read_at(self, revision: Revision) -> Self {
        Self { revision, ..self }
    }

    /// What is wanted of the instance of that id.
    pub fn get(&self, id: &InstanceId) -> Option<&Intent> {
        self.all.get(id)
    }

    /// The intents with the ids of their instances, in the order of these.
    pub fn iter(&self) -> impl Iterator<Item = (&InstanceId, &Intent)> {
        self.all.iter()
    }

    /// The same without those that want nothing.
    pub(crate) fn wanting_something(mut self) -> Self {
        let all = mem::take(&mut self.all).into_iter();
        self.all = all.filter(|(_, intent)| !intent.is_nothing()).collect();
        self
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Puts an intent in place of what was wanted of that instance; with `None`, leaves the instance to itself.
    pub fn set(&mut self, id: InstanceId, intent: Option<Intent>) {
        match intent {
            Some(intent) => self.all.insert(id, intent),
            None => self.all.remove(&id),
        };
    }

    /// The ids of the instances of which something else was wanted before; costs about what changed.
    fn changed_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a InstanceId> {
        before.all.diff(&self.all).map(|item| match item {
            DiffItem::Add(id, _)
            | DiffItem::Remove(id, _)
            | DiffItem::Update { new: (id, _), .. } => id,
        })
    }
}

impl PartialEq for Intents {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl Eq for Intents {}

impl FromIterator<(InstanceId, Intent)> for Intents {
    fn from_iter<I: IntoIterator<Item = (InstanceId, Intent)>>(intents: I) -> Self {
        Self {
            all: intents.into_iter().collect(),
            revision: Revision::default(),
        }
    }
}
