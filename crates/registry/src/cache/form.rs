//! The persisted forms of what is kept, apart from the domain types.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Change, Document, Instance, InstanceId, Intent, Intents, Origin, Revision, ServiceName,
    Snapshot, Update,
    intent::{IntentRecord, Merged},
    record::Record,
};

/// What is kept of a service.
pub(crate) trait Kept: Send + 'static {
    /// The name of the directory where such files are.
    const KIND: &'static str;
    type Form: Serialize + DeserializeOwned;

    fn form(&self) -> Self::Form;

    /// What a form stands for, or why it stands for nothing.
    fn of_form(service: &ServiceName, form: Self::Form) -> Result<Self, String>
    where
        Self: Sized;
}

/// Something, and where in the registry it was read.
#[derive(Serialize, Deserialize)]
pub(crate) struct Placed<T> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Arc<str>>,
    #[serde(default)]
    revision: u64,
    value: T,
}

impl<T> Placed<T> {
    fn new(value: T, origin: Option<&Origin>) -> Self {
        Self {
            key: origin.map(|origin| Arc::clone(&origin.key)),
            revision: origin.map_or(0, |origin| origin.revision.0),
            value,
        }
    }

    /// What it stands for by `read`, at its place by `at`.
    fn read<U>(
        self,
        read: impl FnOnce(T) -> Result<U, String>,
        at: impl FnOnce(U, Arc<str>, Revision) -> U,
    ) -> Result<U, String> {
        let value = read(self.value)?;
        Ok(match self.key {
            Some(key) => at(value, key, Revision(self.revision)),
            None => value,
        })
    }
}

/// A service's instances as they say themselves, and all that is wanted of them.
#[derive(Serialize, Deserialize)]
pub(crate) struct WhoIsThere {
    revision: u64,
    instances: Vec<Placed<Record>>,
    intents: BTreeMap<String, Placed<IntentRecord>>,
    #[serde(default)]
    intents_revision: u64,
}

impl Kept for Merged {
    const KIND: &'static str = "instances";
    type Form = WhoIsThere;

    fn form(&self) -> WhoIsThere {
        let instances = self.snapshot().instances();
        let intents = self.intents().iter();
        WhoIsThere {
            revision: self.snapshot().revision().0,
            instances: instances
                .map(|instance| Placed::new(Record::new(instance), instance.origin()))
                .collect(),
            intents: intents
                .map(|(id, intent)| {
                    let record = IntentRecord::from(intent);
                    (id.to_string(), Placed::new(record, intent.origin()))
                })
                .collect(),
            intents_revision: self.intents().revision().0,
        }
    }

    fn of_form(service: &ServiceName, form: WhoIsThere) -> Result<Self, String> {
        let instance = |placed: Placed<Record>| {
            let read = |record: Record| {
                let instance = record.into_instance(service.clone(), None);
                instance.map_err(|error| error.to_string())
            };
            placed.read(read, Instance::read_at).map(Arc::new)
        };
        let intent = |(id, placed): (String, Placed<IntentRecord>)| {
            let id = InstanceId::new(&id).map_err(|error| error.to_string())?;
            let read =
                |record: IntentRecord| Intent::try_from(record).map_err(|error| error.to_string());
            let intent = placed.read(read, Intent::read_at);
            Ok((id, intent?))
        };
        let instances = form.instances.into_iter().map(instance);
        let said = Change {
            revision: Revision(form.revision),
            updates: vec![Update::Reset(instances.collect::<Result<_, _>>()?)],
        };
        let wanted = form.intents.into_iter().map(intent);
        let snapshot = Snapshot::empty(service.clone()).apply(said);
        let wanted = wanted.collect::<Result<Intents, String>>()?;
        let wanted = wanted.read_at(Revision(form.intents_revision));
        Ok(Self::new(snapshot, wanted))
    }
}

/// A service's document, or that it has none.
#[derive(Debug, Clone)]
pub(crate) struct KeptDocument(pub(crate) Option<Document>);

impl Kept for KeptDocument {
    const KIND: &'static str = "documents";
    type Form = Option<Placed<String>>;

    fn form(&self) -> Self::Form {
        let document = self.0.as_ref();
        document.map(|document| Placed::new(document.as_str().to_owned(), document.origin()))
    }

    fn of_form(_: &ServiceName, form: Self::Form) -> Result<Self, String> {
        let document = |placed: Placed<String>| {
            let read = |text: String| Document::new(&text).map_err(|error| error.to_string());
            placed.read(read, Document::read_at)
        };
        form.map(document).transpose().map(Self)
    }
}
