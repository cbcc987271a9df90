//! `discovery watch`: what happens, as it happens.

mod event;

use std::{collections::BTreeMap, future, time::Duration};

use anyhow::{Context, Result};
use clap::Args;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream, SelectAll},
};
use registry::{Registry, ServiceName, View, one_line};
use service_kit::terminal::{Look, Output, Readers, print};
use tokio::{
    select,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use self::event::{Event, Known};
use crate::session::Session;

const EXAMPLE: &str = "\
Examples:
  discovery watch greeter
      Begins with the instances that are there, and goes on with what becomes of them.
  discovery watch --output json | jq -r 'select(.event == \"removed\") | .instance.id'
      A JSON object a line.

An event is listed (it was there), empty (nobody was), added, changed, removed, stale (the
registry cannot be followed; what is known goes on to hold) or live (it can again). Without
SERVICE all services are followed, each by a watch of its own unless registry.shared_watch is
set; a new service is looked for each two seconds. It ends by Ctrl-C, with exit code 0.";

/// How often to look for new services.
const LOOK: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct WatchArgs {
    /// The service's name; without it, all services
    #[arg(value_parser = ServiceName::new)]
    service: Option<ServiceName>,
}

/// What is known of a service, each time that this changes.
type Views = BoxStream<'static, (ServiceName, View)>;

impl WatchArgs {
    pub(crate) async fn run(&self, session: &Session) -> Result<()> {
        match &self.service {
            Some(service) => one(session, service).await,
            None => all(session).await,
        }
    }
}

async fn one(session: &Session, service: &ServiceName) -> Result<()> {
    let mut views = views(&session.registry, service.clone());
    let mut known = Known::default();
    let first_read_by = Instant::now() + session.patience;
    loop {
        let next = select! {
            next = views.next() => next,
            () = sleep_until(first_read_by), if !known.is_read() => return session.no_answer(),
        };
        let (service, view) = next.context("what follows a service does not end")?;
        if tell(session, &known.take(&service, &view))? == Readers::Gone {
            return Ok(());
        }
    }
}

async fn all(session: &Session) -> Result<()> {
    let mut followed = BTreeMap::<ServiceName, Known>::new();
    let mut views = SelectAll::<Views>::new();
    let mut registry = Known::default();
    let mut looks = looks(session);
    let mut listed = Some(session.answer(session.registry.services()).await?);
    loop {
        for service in listed.take().into_iter().flatten() {
            followed.entry(service).or_insert_with_key(|service| {
                views.push(self::views(&session.registry, service.clone()));
                Known::default()
            });
        }
        let next = async {
            match views.next().await {
                Some(next) => next,
                // Nobody is followed yet.
                None => future::pending().await,
            }
        };
        let events = select! {
            (service, view) = next => {
                let known = followed.entry(service.clone()).or_default();
                known.take(&service, &view)
            }
            Some(services) = looks.next() => match services {
                Ok(services) => {
                    listed = Some(services);
                    registry.reached()
                }
                Err(error) => registry.lost(&one_line(error.as_ref())),
            },
        };
        if tell(session, &events)? == Readers::Gone {
            return Ok(());
        }
    }
}

/// The services that there are, looked for again and again.
fn looks(session: &Session) -> BoxStream<'_, Result<Vec<ServiceName>>> {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let looks = stream::unfold(ticks, move |mut ticks| async move {
        ticks.tick().await;
        Some((session.answer(session.registry.services()).await, ticks))
    });
    looks.boxed()
}

/// What is known of a service now, and each time that this changes.
fn views(registry: &Registry, service: ServiceName) -> Views {
    let watch = registry.watch(&service);
    let now = stream::once(future::ready((service.clone(), watch.view())));
    let changes = stream::unfold(watch, move |mut watch| {
        let service = service.clone();
        async move {
            let view = watch.changed().await;
            Some(((service, view), watch))
        }
    });
    now.chain(changes).boxed()
}

fn tell(session: &Session, events: &[Event]) -> Result<Readers> {
    let look = Look::of_stdout();
    let line = |event: &Event| match session.output {
        Output::Json => serde_json::to_string(event).map(|line| line + "\n"),
        Output::Table => Ok(event.line(look)),
    };
    let lines: Result<String, _> = events.iter().map(line).collect();
    print(&lines?)
}
