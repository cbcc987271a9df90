//! `discovery intents`: all that is wanted of instances.

use anyhow::Result;
use clap::Args;
use registry::{InstanceId, Intent, ServiceName};
use serde::Serialize;
use service_kit::terminal::Look;

use crate::{form::IntentForm, session::Session, wanted};

const EXAMPLE: &str = "\
Examples:
  discovery intents
      All that operators want, of instances that are there and of others.
  discovery intents --output json | jq -r '.intents[] | select(.registered | not) | .id'
      What is left of instances that are gone: whoever takes such an id is under it.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct IntentsArgs {
    /// The service's name; without it, all services
    #[arg(value_parser = ServiceName::new)]
    service: Option<ServiceName>,
}

/// The shape of `--output json`.
#[derive(Serialize)]
struct Shape<'a> {
    registry: &'a str,
    intents: Vec<Row>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    service: String,
    id: String,
    intent: IntentForm,
    /// Whether the instance is there.
    registered: bool,
    /// Whether the registry has lost it, and the instance alone remembers it.
    remembered: bool,
    key: Option<String>,
    revision: Option<u64>,
}

impl IntentsArgs {
    pub(crate) async fn run(&self, session: &Session) -> Result<()> {
        let named = self.service.as_slice();
        let services = session.services_or_all(named).await?;
        let rows = session.each(&services, async |service| rows(session, service).await);
        let shape = Shape {
            registry: session.registry.url(),
            intents: rows.await?.into_iter().flatten().collect(),
        };
        session.show(&shape, |look| draw(&shape, look)).map(drop)
    }
}

async fn rows(session: &Session, service: &ServiceName) -> Result<Vec<Row>> {
    let listed = session.answer(session.registry.list(service)).await?;
    let all = wanted::of(session, service, &listed).await?;
    let row = |(id, intent): (&InstanceId, &Intent)| Row {
        service: service.to_string(),
        id: id.to_string(),
        intent: intent.into(),
        registered: listed.get(id).is_some(),
        remembered: intent.origin().is_none(),
        key: intent.origin().map(|origin| origin.key.to_string()),
        revision: intent.origin().map(|origin| origin.revision.0),
    };
    Ok(all.iter().map(row).collect())
}

fn draw(shape: &Shape<'_>, look: Look) -> String {
    if shape.intents.is_empty() {
        return format!(
            "no operator wants anything of an instance in {}",
            shape.registry
        );
    }
    let mut table = look.table(&["instance", "an operator wants", "the instance"]);
    for row in &shape.intents {
        let instance = match (row.registered, row.remembered) {
            (_, true) => "is registered, and remembers what the registry has lost",
            (true, false) => "is registered",
            (false, false) => "is not registered",
        };
        table.add_row([
            format!("{}/{}", row.service, row.id),
            row.intent.in_words(),
            instance.to_owned(),
        ]);
    }
    table.to_string()
}
