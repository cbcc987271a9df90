//! `discovery watch`: what happens, as it happens.

mod event;

use std::{collections::BTreeMap, future, time::Duration};

use anyhow::{Context, Result};
use clap::Args;
use futures_util::{
    FutureExt, Stream, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream, SelectAll},
};
use registry::{Registry, ServiceName, View, one_line};
use service_kit::{
    config::AdminListen,
    terminal::{Look, Output, Readers, print},
};
use tokio::{
    select,
    time::{Instant, sleep, sleep_until},
};

use self::event::{Event, Known};
use crate::{session::Session, telling::ADMIN_HELP};

const EXAMPLE: &str = "\
Examples:
  discovery watch greeter
      Begins with the instances that are there, and goes on with what becomes of them.
  discovery watch --output json | jq -r 'select(.event == \"removed\") | .instance.id'
      A JSON object a line.

An event is listed (it was there), empty (nobody was), added, changed, removed, stale (the
registry cannot be followed; what is known goes on to hold) or live (it can again). Without
SERVICE all services are followed, each by a watch of its own unless registry.shared_watch is
set; a new service is looked for each two seconds, and less often where a look takes long. It
ends by Ctrl-C, with exit code 0.";

/// How long from one look for new services to the next, at least.
const LOOK: Duration = Duration::from_secs(2);
/// A look reads all keys, those of others too where there is no namespace: for so many times as long as one has taken there is
/// none, so that looks take a fiftieth of the time at most.
const REST: u32 = 49;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct WatchArgs {
    /// The service's name; without it, all services
    #[arg(value_parser = ServiceName::new)]
    service: Option<ServiceName>,

    #[arg(long, value_name = "IP:PORT", help = ADMIN_HELP)]
    pub(super) admin: Option<AdminListen>,
}

/// What is known of a service, each time that this changes.
type Views = BoxStream<'static, (ServiceName, View)>;

impl WatchArgs {
    /// Waits until the registry has been read, and gives what follows it from then on.
    pub(crate) async fn begin<'a>(
        &self,
        session: &'a Session,
    ) -> Result<BoxFuture<'a, Result<()>>> {
        Ok(match &self.service {
            Some(service) => one(session, service).await?.boxed(),
            None => all(session).await?.boxed(),
        })
    }
}

async fn one<'a>(
    session: &'a Session,
    service: &ServiceName,
) -> Result<impl Future<Output = Result<()>> + use<'a>> {
    let mut following = One {
        session,
        views: views(&session.registry, service.clone()),
        known: Known::default(),
    };
    let first_read_by = Instant::now() + session.patience;
    let mut readers = Readers::Reading;
    while readers == Readers::Reading && !following.known.is_read() {
        readers = select! {
            told = following.next() => told?,
            () = sleep_until(first_read_by) => return session.no_answer(),
        };
    }
    Ok(async move {
        while readers == Readers::Reading {
            readers = following.next().await?;
        }
        Ok(())
    })
}

/// A service that is followed.
struct One<'a> {
    session: &'a Session,
    views: Views,
    known: Known,
}

impl One<'_> {
    /// Tells what happens next.
    async fn next(&mut self) -> Result<Readers> {
        let next = self.views.next().await;
        let (service, view) = next.context("what follows a service does not end")?;
        tell(self.session, &self.known.take(&service, &view))
    }
}

async fn all(session: &Session) -> Result<impl Future<Output = Result<()>>> {
    let first = session.answer(session.registry.services()).await?;
    Ok(follow_all(session, first))
}

async fn follow_all(session: &Session, first: Vec<ServiceName>) -> Result<()> {
    let mut followed = BTreeMap::<ServiceName, Known>::new();
    let mut views = SelectAll::<Views>::new();
    let mut registry = Known::default();
    let mut looks = looks(session);
    let mut listed = Some(first);
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

/// The services that there are, looked for again and again, after a rest each time.
fn looks(session: &Session) -> BoxStream<'_, Result<Vec<ServiceName>>> {
    repeated(move || session.answer(session.registry.services())).boxed()
}

/// What `look` gives, again and again: [`LOOK`] after it has given something, or [`REST`] times as long as that took.
fn repeated<T, F: Future<Output = T>>(look: impl Fn() -> F) -> impl Stream<Item = T> {
    stream::unfold((look, LOOK), |(look, rest)| async move {
        sleep(rest).await;
        let begun = Instant::now();
        let found = look().await;
        let rest = LOOK.max(begun.elapsed() * REST);
        Some((found, (look, rest)))
    })
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

#[cfg(test)]
mod tests {
    use std::{pin::pin, time::Duration};

    use futures_util::StreamExt;
    use tokio::time::{Instant, sleep};

    use super::{LOOK, REST, repeated};

    #[tokio::test(start_paused = true)]
    async fn looks_take_a_fiftieth_of_the_time_at_most() {
        for (takes, apart) in [
            (Duration::from_millis(5), LOOK),
            (Duration::from_secs(1), Duration::from_secs(1) * REST),
        ] {
            let looks = repeated(|| async move {
                sleep(takes).await;
                Instant::now()
            });
            let mut looks = pin!(looks);
            let first = looks.next().await.expect("it goes on");
            let second = looks.next().await.expect("it goes on");
            assert_eq!(second - first, apart + takes);
        }
    }
}
