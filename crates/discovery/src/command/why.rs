//! `discovery why`: why an instance is there, and whether it is called.

mod draw;
mod seen;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use clap::Args;
use registry::{InstanceId, Intent, Placement, ServiceName, dialect::DialectName};
use serde::Serialize;

use crate::{
    form::{InstanceForm, IntentForm},
    instance_name::{Found, InstanceName},
    session::Session,
};

const EXAMPLE: &str = "\
Examples:
  discovery why greeter/10.0.0.7:50051
      Its key and revision, its lease and how long that lives on, its dialects, its status and
      who wants it, and who sees it.
  discovery why greeter
      The same of each instance.

Leases and dialects are etcd's: elsewhere it is said what holds an instance instead.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct WhyArgs {
    /// The service's name, for each of its instances; or an instance: SERVICE/ID, or its ID where one service alone has it
    #[arg(value_name = "SERVICE|INSTANCE")]
    about: InstanceName,

    /// The instance's id, after its service's name
    #[arg(value_parser = InstanceId::new)]
    id: Option<InstanceId>,
}

/// The shape of `--output json`.
#[derive(Serialize)]
struct Shape {
    registry: String,
    service: String,
    instances: Vec<Explained>,
}

/// Why an instance is there, and whether it is called.
#[derive(Serialize)]
struct Explained {
    id: String,
    /// Whether callers of this project give it calls.
    called: bool,
    /// Why, or why not.
    why: String,
    /// `None` where it is not registered.
    instance: Option<InstanceForm>,
    /// What an operator wants of whoever has the id.
    intent: Option<IntentForm>,
    /// Where that stands; `None` where the instance alone remembers it.
    intent_key: Option<Arc<str>>,
    places: Vec<Place>,
}

/// A place in the registry that describes the instance.
#[derive(Serialize)]
struct Place {
    key: Option<Arc<str>>,
    revision: Option<u64>,
    /// Whose form that has, in etcd.
    dialect: Option<&'static str>,
    lease: Option<LeaseForm>,
    /// What the instance goes with, in words.
    held_by: String,
    /// Who sees it there, in words.
    seen_by: &'static str,
}

#[derive(Serialize)]
struct LeaseForm {
    /// In hexadecimal, as `etcdctl` has it.
    id: String,
    ttl_s: u64,
    remaining_s: u64,
}

impl WhyArgs {
    pub(crate) async fn run(&self, session: &Session) -> Result<()> {
        let (service, found) = self.find(session).await?;
        let placed = session
            .answer(session.registry.placements(&service))
            .await?;
        let url = session.registry.url();
        let explain = |one: &Found| Explained::new(one, &placed, url);
        let instances = found.iter().map(explain).collect();
        let shape = Shape {
            registry: url.to_owned(),
            service: service.to_string(),
            instances,
        };
        session
            .show(&shape, |look| draw::all(&shape, look))
            .map(drop)
    }

    /// Whom it is about: all instances of a service that has some; else the name is one instance's.
    async fn find(&self, session: &Session) -> Result<(ServiceName, Vec<Found>)> {
        let alone = |one: Found| (one.service.clone(), vec![one]);
        let service = self.about.as_service();
        if let Some(id) = &self.id {
            let service =
                service.with_context(|| format!("{} names an instance already", self.about))?;
            let name = InstanceName::new(service, id.clone());
            return name.find(session, "").await.map(alone);
        }
        let Some(service) = service else {
            return self.about.find(session, "").await.map(alone);
        };
        let listed = session.answer(session.registry.list(&service)).await?;
        if listed.is_empty() {
            let found = self.about.find(session, "").await.map(alone);
            return found.with_context(|| format!("the service {service} has no instance"));
        }
        let instances = listed.instances().map(Found::listed).collect();
        Ok((service, instances))
    }
}

impl Explained {
    fn new(one: &Found, placed: &[Placement], url: &str) -> Self {
        let Found {
            id,
            instance,
            wanted,
            ..
        } = one;
        let instance = instance.as_deref();
        let wanted = wanted.as_ref();
        let its_own = placed.iter().filter(
            |Placement {
                 instance: there, ..
             }| {
                // Dialects without ids call it by its address.
                let by_address = there.id.as_str() == there.address().as_str();
                there.id == *id
                    || by_address && instance.is_some_and(|one| there.address() == one.address())
            },
        );
        let (called, why) = seen::verdict(instance, wanted);
        Self {
            id: id.to_string(),
            called,
            why,
            instance: instance.map(InstanceForm::from),
            intent: wanted.map(IntentForm::from),
            intent_key: wanted
                .and_then(Intent::origin)
                .map(|origin| Arc::clone(&origin.key)),
            places: its_own.map(|place| Place::new(place, url)).collect(),
        }
    }
}

impl Place {
    fn new(place: &Placement, url: &str) -> Self {
        let origin = place.instance.origin();
        let seconds = |time: Duration| time.as_secs();
        Self {
            key: origin.map(|origin| Arc::clone(&origin.key)),
            revision: origin.map(|origin| origin.revision.0),
            dialect: place.dialect.map(DialectName::as_str),
            lease: place.lease.map(|lease| LeaseForm {
                id: format!("{:x}", lease.id),
                ttl_s: seconds(lease.ttl),
                remaining_s: seconds(lease.remaining),
            }),
            held_by: seen::held_by(place, url),
            seen_by: seen::seen_by(place.dialect),
        }
    }
}
