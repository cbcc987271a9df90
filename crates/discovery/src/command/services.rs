//! `discovery services`: who is registered.

use anyhow::Result;
use clap::Args;
use comfy_table::{Cell, Color};
use registry::{Snapshot, Status};
use serde::Serialize;
use service_kit::terminal::{Look, align_right};

use crate::session::Session;

const EXAMPLE: &str = "\
Example:
  discovery services --output json | jq -r '.services[] | select(.serving == 0) | .service'
      The services whose instances all drain, or do not serve.

A service is shown while it has an instance. What an operator wants of an instance is in force:
one that was drained counts as draining.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct ServicesArgs {}

/// The shape of `--output json`.
#[derive(Serialize)]
struct Shape<'a> {
    registry: &'a str,
    services: Vec<Counts>,
}

/// A service, and how many instances it has.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Counts {
    service: String,
    instances: usize,
    serving: usize,
    draining: usize,
    not_serving: usize,
}

impl ServicesArgs {
    pub(crate) async fn run(&self, session: &Session) -> Result<()> {
        let services = session.answer(session.registry.services()).await?;
        let listed = session.each(&services, async |service| {
            session.answer(session.registry.list(service)).await
        });
        let shape = Shape {
            registry: session.registry.url(),
            services: listed.await?.iter().map(Counts::of).collect(),
        };
        session.show(&shape, |look| draw(&shape, look)).map(drop)
    }
}

impl Counts {
    fn of(listed: &Snapshot) -> Self {
        let count = |status| {
            let with = listed.instances().filter(|one| one.status == status);
            with.count()
        };
        Self {
            service: listed.service().to_string(),
            instances: listed.len(),
            serving: count(Status::Serving),
            draining: count(Status::Draining),
            not_serving: count(Status::NotServing),
        }
    }
}

fn draw(shape: &Shape<'_>, look: Look) -> String {
    if shape.services.is_empty() {
        return format!("no service has an instance in {}", shape.registry);
    }
    let mut table = look.table(&["service", "instances", "serving", "draining", "not serving"]);
    for counts in &shape.services {
        let serving = Cell::new(counts.serving);
        table.add_row(vec![
            Cell::new(&counts.service),
            Cell::new(counts.instances),
            if counts.serving == 0 {
                serving.fg(Color::Red)
            } else {
                serving
            },
            Cell::new(counts.draining),
            Cell::new(counts.not_serving),
        ]);
    }
    align_right(&mut table, 1..5);
    table.to_string()
}
