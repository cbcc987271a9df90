//! From what is known of a service to what has happened.

use std::{sync::Arc, time::SystemTime};

use comfy_table::Color;
use registry::{Freshness, Instance, ServiceName, Snapshot, Update, View};
use serde::Serialize;
use service_kit::terminal::{Look, printable};

use crate::form::InstanceForm;

/// Something that has happened; the shape of `--output json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Event {
    /// When it was seen here, in UTC.
    time: String,
    #[serde(rename = "event")]
    kind: Kind,
    /// `None` where it is about the registry.
    service: Option<String>,
    /// As of which revision the list after it is known, by the registry's count; `None` while there is no list.
    revision: Option<u64>,
    /// Whom it is about, as it is now; of one that is removed, as it was.
    instance: Option<InstanceForm>,
    /// What is otherwise than before.
    changes: Vec<Difference>,
    /// Why the registry cannot be followed.
    cause: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Listed,
    Empty,
    Added,
    Changed,
    Removed,
    Stale,
    Live,
}

/// A part of an instance that has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Difference {
    field: &'static str,
    from: String,
    to: String,
}

/// What has been told of a service, or of the registry.
#[derive(Debug, Default)]
pub(super) struct Known {
    snapshot: Option<Snapshot>,
    is_stale: bool,
}

impl Known {
    /// Whether there has been a list.
    pub(super) fn is_read(&self) -> bool {
        self.snapshot.is_some()
    }

    /// What has happened when this is known now.
    pub(super) fn take(&mut self, service: &ServiceName, view: &View) -> Vec<Event> {
        let mut events = match &view.snapshot {
            None => Vec::new(),
            Some(now) => happened(self.snapshot.as_ref(), now),
        };
        self.snapshot.clone_from(&view.snapshot);
        let mut turned = match &view.freshness {
            Freshness::Starting => Vec::new(),
            Freshness::Live => self.reached(),
            Freshness::Stale { cause, .. } => self.lost(cause),
        };
        for event in &mut turned {
            event.service = Some(service.to_string());
            event.revision = view.snapshot.as_ref().map(revision);
        }
        events.append(&mut turned);
        events
    }

    /// What has happened when the registry is followed.
    pub(super) fn reached(&mut self) -> Vec<Event> {
        let again = std::mem::replace(&mut self.is_stale, false);
        again.then(|| Event::new(Kind::Live)).into_iter().collect()
    }

    /// What has happened when the registry cannot be followed; told once.
    pub(super) fn lost(&mut self, cause: &str) -> Vec<Event> {
        let already = std::mem::replace(&mut self.is_stale, true);
        let lost = (!already).then(|| Event {
            cause: Some(cause.to_owned()),
            ..Event::new(Kind::Stale)
        });
        lost.into_iter().collect()
    }
}

/// As of which revision the list is known: what instances say and what operators want are read apart, and either may be what
/// has changed.
fn revision(list: &Snapshot) -> u64 {
    list.revision().max(list.intents_revision()).0
}

fn happened(before: Option<&Snapshot>, now: &Snapshot) -> Vec<Event> {
    let about = |kind, instance: Option<&Instance>| Event {
        service: Some(now.service().to_string()),
        revision: Some(revision(now)),
        instance: instance.map(InstanceForm::from),
        ..Event::new(kind)
    };
    let Some(before) = before else {
        if now.is_empty() {
            return vec![about(Kind::Empty, None)];
        }
        let listed = now.instances();
        return listed
            .map(|one| about(Kind::Listed, Some(&**one)))
            .collect();
    };
    let changes = now.changes_since(before).into_iter();
    let told = changes.filter_map(|change| match change {
        Update::Upsert(one) => match before.get(&one.id) {
            None => Some(about(Kind::Added, Some(&*one))),
            Some(was) => {
                let changes = differences(was, &one);
                // Who remembers what is wanted of it says so in its record, and nothing is otherwise.
                (!changes.is_empty()).then(|| Event {
                    changes,
                    ..about(Kind::Changed, Some(&*one))
                })
            }
        },
        Update::Remove(id) => Some(about(Kind::Removed, before.get(&id).map(|one| &**one))),
        Update::Reset(_) => None,
    });
    told.collect()
}

fn differences(was: &Arc<Instance>, is: &Arc<Instance>) -> Vec<Difference> {
    let optional = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
    let fields = |one: &Instance| {
        let labels = one.labels.iter();
        let labels: Vec<_> = labels
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let addresses = one.addresses().iter();
        let addresses: Vec<_> = addresses.map(ToString::to_string).collect();
        [
            ("status", one.status.to_string()),
            ("weight", one.weight.get().to_string()),
            ("intent", optional(one.intent().map(ToString::to_string))),
            ("own_status", one.own_status().to_string()),
            ("own_weight", one.own_weight().get().to_string()),
            ("addresses", addresses.join(",")),
            ("zone", optional(one.zone.as_ref().map(ToString::to_string))),
            (
                "version",
                optional(one.version.as_deref().map(ToOwned::to_owned)),
            ),
            ("labels", labels.join(",")),
            (
                "incarnation",
                optional(one.incarnation.map(|start| start.to_string())),
            ),
            (
                "metadata",
                optional(one.foreign_metadata.as_deref().map(ToOwned::to_owned)),
            ),
        ]
    };
    let pairs = fields(was).into_iter().zip(fields(is));
    let different = pairs.filter(|((_, from), (_, to))| from != to);
    let difference = different.map(|((field, from), (_, to))| Difference { field, from, to });
    difference.collect()
}

impl Event {
    fn new(kind: Kind) -> Self {
        Self {
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            kind,
            service: None,
            revision: None,
            instance: None,
            changes: Vec::new(),
            cause: None,
        }
    }

    /// The event as a line for a person.
    pub(super) fn line(&self, look: Look) -> String {
        let (word, color) = match self.kind {
            Kind::Listed => ("listed", Color::Cyan),
            Kind::Empty => ("empty", Color::Yellow),
            Kind::Added => ("added", Color::Green),
            Kind::Changed => ("changed", Color::Yellow),
            Kind::Removed => ("removed", Color::Red),
            Kind::Stale => ("stale", Color::Red),
            Kind::Live => ("live", Color::Green),
        };
        let word = look.paint(&format!("{word:<7}"), color);
        let subject = match (&self.service, &self.instance) {
            (Some(service), Some(one)) => format!("{service}/{}", one.id),
            (Some(service), None) => service.clone(),
            (None, _) => "the registry".to_owned(),
        };
        let revision = self
            .revision
            .map(|revision| format!(" (revision {revision})"));
        let (revision, said) = (revision.unwrap_or_default(), printable(&self.detail()));
        let time = &self.time;
        format!("{time}  {word}  {subject}{said}{revision}\n")
    }

    fn detail(&self) -> String {
        if let Some(cause) = &self.cause {
            return format!(": {cause}");
        }
        match (&self.instance, self.kind) {
            (Some(_), Kind::Changed) => {
                let changes = self.changes.iter();
                let changes: Vec<_> = changes.map(Difference::in_words).collect();
                format!("  {}", changes.join(", "))
            }
            (Some(one), Kind::Listed | Kind::Added) => {
                let addresses = match &one.addresses[..] {
                    [address] if *address == one.id => String::new(),
                    addresses => format!(" at {}", addresses.join(", ")),
                };
                format!("  {}, weight {}{addresses}", one.status, one.weight)
            }
            (None, Kind::Empty) => "  nobody has registered".to_owned(),
            _ => String::new(),
        }
    }
}

impl Difference {
    fn in_words(&self) -> String {
        let Self { field, from, to } = self;
        let field = field.replace('_', " ");
        format!("{field} {from} → {to}")
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use registry::{
        Address, Freshness, Instance, Registry, ServiceName, Status, View, Weight,
        backend::memory::MemoryStore,
    };
    use service_kit::terminal::Look;
    use tokio::time::Instant;

    use super::{Event, Kind, Known};

    fn greeter() -> ServiceName {
        ServiceName::new("greeter").expect("a name")
    }

    fn kinds(events: &[Event]) -> Vec<Kind> {
        events.iter().map(|event| event.kind).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_change_of_a_service_is_one_event_with_what_is_otherwise() {
        let registry = Registry::new(MemoryStore::new());
        let address = Address::new("10.0.0.7:1").expect("an address");
        let instance = Instance::new(greeter(), address);
        let (id, mut known) = (instance.id.clone(), Known::default());
        let mut watch = registry.watch(&greeter());
        watch.first().await;
        assert_eq!(kinds(&known.take(&greeter(), &watch.view())), [Kind::Empty]);

        let registration = registry.register(instance, Duration::from_secs(10));
        let mut happened = async || loop {
            let events = known.take(&greeter(), &watch.changed().await);
            if !events.is_empty() {
                break events;
            }
        };
        assert_eq!(kinds(&happened().await), [Kind::Added]);
        let heavy = Weight::new(5).expect("a weight");
        registration.update(|one| one.with_weight(heavy)).await;
        let [event] = &happened().await[..] else {
            panic!("one event")
        };
        assert!(
            event
                .line(Look::PLAIN)
                .contains("  weight 1 → 5, own weight 1 → 5"),
            "{event:?}"
        );
        registry
            .set_intent(&greeter(), &id, Status::Draining.into())
            .await
            .expect("it is kept");
        let [event] = &happened().await[..] else {
            panic!("one event")
        };
        let line = event.line(Look::PLAIN);
        assert!(
            line.contains("status serving → draining, intent none → draining"),
            "{line}"
        );
        registration.deregister().await.expect("it leaves");
        assert_eq!(kinds(&happened().await), [Kind::Removed]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_told_once_and_so_is_its_end() {
        let view = |freshness| View {
            snapshot: None,
            freshness,
        };
        let stale = view(Freshness::Stale {
            since: Instant::now(),
            cause: Arc::from("no\u{1b}route"),
        });
        let live = view(Freshness::Live);
        let mut known = Known::default();
        assert_eq!(kinds(&known.take(&greeter(), &live)), []);
        let lost = known.take(&greeter(), &stale);
        assert_eq!(kinds(&lost), [Kind::Stale]);
        let told = lost[0].line(Look::PLAIN);
        assert!(
            told.ends_with("stale    greeter: no\u{fffd}route\n"),
            "{told}"
        );
        assert_eq!(kinds(&known.take(&greeter(), &stale)), []);
        assert_eq!(kinds(&known.take(&greeter(), &live)), [Kind::Live]);
    }
}
