//! `discovery drain`, `undrain`, `weight`, `deregister`: what is wanted of an instance, written beside it.

mod ask;

use anyhow::{Result, ensure};
use clap::Args;
use registry::{Intent, Status, Weight};
use serde::Serialize;
use service_kit::terminal::printable;

use crate::{
    form::IntentForm,
    instance_name::{Found, InstanceName},
    session::Session,
};

const DRAIN: &str = "\
Example:
  discovery drain greeter/10.0.0.7:50051
      Callers give it nothing new, from now on; what it has it finishes.

It is kept beside the instance, and outlives its restarts, until `discovery undrain`. Other
software than this project's reads no intents: its callers go on calling the instance.";

const UNDRAIN: &str = "\
Example:
  discovery undrain greeter/10.0.0.7:50051
      Callers may give it new calls again, with the weight that is wanted of it, if one is.";

const WEIGHT: &str = "\
Examples:
  discovery weight greeter/10.0.0.7:50051 3
      Three calls for each that an instance of weight 1 gets, whatever it says itself.
  discovery weight greeter/10.0.0.7:50051 own
      As much as it says itself.";

const DEREGISTER: &str = "\
Example:
  discovery deregister --yes greeter/10.0.0.7:50051
      Callers give it nothing new, for good. Without --yes it asks first, on a terminal.

It is drained, and so is whoever takes its id later. Its record stays for as long as its process is
there to hold it: stop that. `discovery undrain` takes it back.";

/// Which instance: one of which the registry has something.
#[derive(Debug, Args)]
struct Whom {
    /// The instance: SERVICE/ID, or its ID where one service alone has it
    #[arg(value_name = "INSTANCE")]
    name: InstanceName,
}

/// Which instance, and whether it has to be there.
#[derive(Debug, Args)]
struct Whoever {
    #[command(flatten)]
    whom: Whom,

    /// Also one of which the registry has nothing: it holds for who comes under that name
    #[arg(long)]
    absent: bool,
}

impl Whoever {
    async fn find(&self, session: &Session) -> Result<Found> {
        let name = &self.whom.name;
        if self.absent {
            return name.look_up(session).await;
        }
        let meant = "; --absent says that one is meant which is not there";
        name.find(session, meant).await
    }
}

#[derive(Debug, Args)]
#[command(after_help = DRAIN)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    whom: Whoever,
}

#[derive(Debug, Args)]
#[command(after_help = UNDRAIN)]
pub(crate) struct UndrainArgs {
    #[command(flatten)]
    whom: Whom,
}

#[derive(Debug, Args)]
#[command(after_help = WEIGHT)]
pub(crate) struct WeightArgs {
    #[command(flatten)]
    whom: Whoever,

    /// Its share of the calls relative to the others, 1 to 1,000,000; `own` takes back what was wanted
    #[arg(value_name = "N|own", value_parser = weight)]
    weight: WantedWeight,
}

#[derive(Debug, Args)]
#[command(after_help = DEREGISTER)]
pub(crate) struct DeregisterArgs {
    #[command(flatten)]
    whom: Whoever,

    /// Does not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Clone, Copy)]
enum WantedWeight {
    Of(Weight),
    Own,
}

fn weight(text: &str) -> Result<WantedWeight, String> {
    if text == "own" {
        return Ok(WantedWeight::Own);
    }
    let number: Result<u32, _> = text.parse();
    let number = number.map_err(|_| "a weight is a whole number from 1 to 1000000, or own")?;
    let weight = Weight::new(number).map_err(|refused| refused.to_string())?;
    Ok(WantedWeight::Of(weight))
}

impl DrainArgs {
    pub(crate) async fn run(&self, session: &Session) -> Result<()> {
        let found = self.whom.find(session).await?;
        let name = found.name();
        let done =
            format!("{name} drains: callers give it nothing new, until `discovery undrain {name}`");
        want(session, found, Change::DRAINING, &done).await
    }
}

impl DeregisterArgs {
    pub(crate) async fn run(&self, session: &Session) -> Result<()> {
        let found = self.whom.find(session).await?;
        let name = found.name();
        let question = format!("Deregister {name} in {}?", session.registry.url());
        ensure!(
            self.yes || ask::is_agreed_to(question).await?,
            "{name} was left as it is"
        );
        let done = format!(
            "{name} drains for good, and so does whoever takes its id; `discovery undrain {name}` takes it back"
        );
        want(session, found, Change::DRAINING, &done).await
    }
}

impl UndrainArgs {
    pub(crate) async fn run(&self, session: &Session) -> Result<()> {
        let found = self.whom.name.find(session, "").await?;
        let name = found.name();
        if let Some(one) = &found.instance {
            let own = one.own_status();
            ensure!(
                own == Status::Serving
                    || found.wanted.as_ref().is_some_and(|i| i.status().is_some()),
                "{name} says itself that it is {own}, and no operator wants that: it is for its process to change"
            );
        }
        let done = format!("{name} is left to itself: it takes calls while it says that it does");
        want(session, found, Change::Status(None), &done).await
    }
}

impl WeightArgs {
    pub(crate) async fn run(&self, session: &Session) -> Result<()> {
        let found = self.whom.find(session).await?;
        let name = found.name();
        let (weight, done) = match self.weight {
            WantedWeight::Of(weight) => {
                let number = weight.get();
                let done =
                    format!("{name} has the weight {number}, until `discovery weight {name} own`");
                (Some(weight), done)
            }
            WantedWeight::Own => (None, format!("{name} has the weight that it says itself")),
        };
        want(session, found, Change::Weight(weight), &done).await
    }
}

/// What is wanted otherwise than before; `None` leaves it to the instance.
#[derive(Debug, Clone, Copy)]
enum Change {
    Status(Option<Status>),
    Weight(Option<Weight>),
}

impl Change {
    const DRAINING: Self = Self::Status(Some(Status::Draining));

    /// Whether it is made, where that is wanted now.
    fn is_made(self, now: Option<&Intent>) -> bool {
        match self {
            Self::Status(wanted) => wanted == now.and_then(Intent::status),
            Self::Weight(wanted) => wanted == now.and_then(Intent::weight),
        }
    }

    /// What is wanted after it: what else was wanted still is.
    fn of(self, before: Option<&Intent>) -> Intent {
        let (mut status, mut weight) = (
            before.and_then(Intent::status),
            before.and_then(Intent::weight),
        );
        match self {
            Self::Status(wanted) => status = wanted,
            Self::Weight(wanted) => weight = wanted,
        }
        Intent::new(status, weight).unwrap_or_else(|_| Intent::nothing())
    }
}

/// The shape of `--output json`.
#[derive(Serialize)]
struct Shape<'a> {
    registry: &'a str,
    service: &'a str,
    id: &'a str,
    /// Whether the instance is there.
    registered: bool,
    /// All that is wanted of it now.
    intent: Option<IntentForm>,
}

/// Makes the change, and shows what the registry has of the instance then.
async fn want(session: &Session, found: Found, change: Change, done: &str) -> Result<()> {
    let (registry, service, id) = (&session.registry, &found.service, &found.id);
    let intent = change.of(found.wanted.as_ref());
    if intent.is_nothing() {
        // Where nothing was wanted there is nothing to take back, and nothing to write that it is so.
        if found.wanted.is_some() {
            session.answer(registry.clear_intent(service, id)).await?;
        }
    } else {
        let set = registry.set_intent(service, id, intent);
        session.answer(set).await?;
    }
    let now = Found::of(session, service, id).await?;
    let wanted = now.wanted.as_ref();
    ensure!(
        change.is_made(wanted),
        "somebody else has changed what is wanted of {} meanwhile; that is now: {}",
        now.name(),
        wanted.map_or_else(|| "nothing".to_owned(), Intent::to_string)
    );
    let shape = Shape {
        registry: registry.url(),
        service: service.as_str(),
        id: id.as_str(),
        registered: now.instance.is_some(),
        intent: wanted.map(IntentForm::from),
    };
    let absent = if shape.registered {
        ""
    } else {
        " (it is not registered)"
    };
    let said = session.show(&shape, |_| printable(done) + absent);
    said.map(drop)
}

#[cfg(test)]
mod tests {
    use super::{Change, Intent, Status, WantedWeight, Weight, weight};

    #[test]
    fn what_else_was_wanted_still_is() {
        let light = Weight::new(2).expect("a weight");
        let drained = Change::Status(Some(Status::Draining)).of(Some(&light.into()));
        assert_eq!(drained, Intent::from(light).with_status(Status::Draining));
        let undrained = Change::Status(None).of(Some(&drained));
        assert_eq!(undrained, Intent::from(light));
        assert!(Change::Weight(None).of(Some(&undrained)).is_nothing());
        assert!(Change::Status(None).of(None).is_nothing());
    }

    #[test]
    fn a_change_is_made_when_that_is_wanted_whatever_else_is() {
        let light = Weight::new(2).expect("a weight");
        let both = Intent::from(light).with_status(Status::Draining);
        assert!(Change::DRAINING.is_made(Some(&both)));
        assert!(Change::Weight(Some(light)).is_made(Some(&both)));
        assert!(!Change::Status(None).is_made(Some(&both)));
        assert!(!Change::DRAINING.is_made(Some(&light.into())));
        assert!(!Change::DRAINING.is_made(None));
        assert!(Change::Weight(None).is_made(None));
    }

    #[test]
    fn a_weight_that_cannot_be_is_refused_with_what_can() {
        assert!(matches!(weight("3"), Ok(WantedWeight::Of(three)) if three.get() == 3));
        assert!(matches!(weight("own"), Ok(WantedWeight::Own)));
        for bad in ["0", "1000001", "-1", "much", ""] {
            let refused = weight(bad).expect_err(bad);
            assert!(refused.contains("1 to 1000000"), "{refused}");
        }
    }
}
