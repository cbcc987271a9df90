//! `discovery why`: why an instance is there, and whether it is called.

mod draw;
mod seen;

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use clap::Args;
use registry::{Instance, InstanceId, Intent, Placement, ServiceName, dialect::DialectName};
use serde::Serialize;

use crate::{
    form::{InstanceForm, IntentForm},
    instance_name::InstanceName,
    session::Session,
};

const EXAMPLE: &str = "\
Examples:
  discovery why greeter 10.0.0.7:50051
      Its key and revision, its lease and how long that lives on, its dialects, its status and
      who wants it, and who sees it.
  discovery why greeter
      The same of each instance.

Leases and dialects are etcd's: elsewhere it is said what holds an instance instead.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct WhyArgs {
    /// The service's name
    #[arg(value_parser = ServiceName::new)]
    service: ServiceName,

    /// The instance's id; without it, each instance
    #[arg(value_name = "INSTANCE", value_parser = InstanceId::new)]
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
        let service = &self.service;
        let placed = session.answer(session.registry.placements(service)).await?;
        let url = session.registry.url();
        let explain = |id, instance, wanted| Explained::new(id, instance, wanted, &placed, url);
        let instances = if let Some(id) = &self.id {
            let name = InstanceName::new(service.clone(), id.clone());
            let found = name.find(session, false).await?;
            vec![explain(
                id,
                found.instance.as_deref(),
                found.wanted.as_ref(),
            )]
        } else {
            let listed = session.answer(session.registry.list(service)).await?;
            let all = listed.instances();
            all.map(|one| explain(&one.id, Some(&**one), one.intent()))
                .collect()
        };
        let shape = Shape {
            registry: url.to_owned(),
            service: service.to_string(),
            instances,
        };
        session
            .show(&shape, |look| draw::all(&shape, look))
            .map(drop)
    }
}

impl Explained {
    fn new(
        id: &InstanceId,
        instance: Option<&Instance>,
        wanted: Option<&Intent>,
        placed: &[Placement],
        url: &str,
    ) -> Self {
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
