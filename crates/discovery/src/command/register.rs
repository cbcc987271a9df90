//! `discovery register`: registers what cannot do it itself, for as long as it lives and is healthy.

mod check;
mod child;
mod health;
mod relay;

use std::{
    ffi::OsString,
    future::pending,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, bail};
use clap::Args;
use registry::{
    Address, Instance, InstanceId, Registration, RegistrationState, ServiceName, Weight, Zone,
};
use service_kit::{Signals, terminal::printable};
use tokio::{
    select,
    time::{sleep, timeout},
};

use self::{
    check::{Check, CheckKind},
    child::Child,
    health::{Monitor, Turn},
    relay::Relay,
};
use crate::{args::positive_time, session::Session};

const EXAMPLE: &str = "\
Examples:
  discovery register web 10.0.0.7:8080 --check http=http://10.0.0.7:8080/healthz
      Holds web/10.0.0.7:8080 while that page answers with 2xx, until Ctrl-C.
  discovery register legacy 10.0.0.7:9000 --label tier=gold -- ./legacy --port 9000
      Starts it, registers it once it takes connections, passes signals on, takes it out before it
      is told to end or when it has ended, and exits with its code.

What becomes of the registration is said on stderr. The command is in a process group of its own
and has no stdin. A check that fails three times in a row takes the instance out; one that succeeds
puts it back.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct RegisterArgs {
    /// The service's name
    #[arg(value_parser = ServiceName::new)]
    service: ServiceName,

    /// Where it answers, as callers reach it: `HOST:PORT` or `unix:/PATH`
    #[arg(value_parser = Address::new)]
    address: Address,

    /// The instance's id [default: its address]
    #[arg(long, value_parser = InstanceId::new)]
    id: Option<InstanceId>,

    /// How long the registry keeps it when this program is not heard of any more [default: registry.ttl]
    #[arg(long, value_name = "TIME", value_parser = ttl)]
    ttl: Option<Duration>,

    /// Its share of the calls relative to the others, 1 to 1,000,000
    #[arg(long, value_name = "N", value_parser = weight)]
    weight: Option<Weight>,

    /// Where it runs
    #[arg(long, value_parser = Zone::new)]
    zone: Option<Zone>,

    /// Which version of the service it is
    #[arg(long, value_name = "VERSION")]
    service_version: Option<String>,

    /// What else callers may select by; more than one may be given
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    label: Vec<(String, String)>,

    /// Registers it only while it is healthy: grpc, grpc=SERVICE, tcp, http=URL or exec=COMMAND [default: tcp with a
    /// command, else none]
    #[arg(long, value_name = "CHECK")]
    check: Option<CheckKind>,

    /// How long from one check to the next
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = positive_time)]
    check_interval: Duration,

    /// How long a check may take
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = positive_time)]
    check_timeout: Duration,

    /// How many checks in a row have to succeed before it is registered
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    healthy_after: u32,

    /// How many checks in a row have to fail before it is taken out
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    unhealthy_after: u32,

    /// How long callers are given to see that it drains before it is taken out
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    drain_notice: Duration,

    /// How long the command may take to end once it is told to; then it is killed
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = positive_time)]
    stop_limit: Duration,

    /// The command to start, with its arguments
    #[arg(last = true)]
    command: Vec<OsString>,
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = positive_time(text)?;
    if (Duration::from_secs(2)..=Duration::from_mins(10)).contains(&ttl) {
        Ok(ttl)
    } else {
        Err("a ttl is from 2s to 10m".into())
    }
}

fn weight(text: &str) -> Result<Weight, String> {
    let number: Result<u32, _> = text.parse();
    let number = number.map_err(|_| "a weight is a whole number from 1 to 1000000")?;
    Weight::new(number).map_err(|refused| refused.to_string())
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a label is NAME=VALUE, such as tier=gold".into()),
    }
}

/// Why it is over.
enum Over {
    /// Somebody has asked for the end, by that signal.
    Asked(&'static str),
    /// The command has ended, and this is its code.
    Ended(ExitCode),
    /// A later process has registered the instance.
    Superseded(String),
}

impl RegisterArgs {
    pub(crate) async fn run(&self, session: &Session, mut signals: Signals) -> Result<ExitCode> {
        let mut relay = Relay::listen()?;
        let mut child = Child::start(&self.command)?;
        let mut monitor = self.monitor();
        let mut held = Held {
            args: self,
            session,
            registration: None,
            is_told: false,
        };
        let over = loop {
            select! {
                turn = monitor.turned() => held.follow(turn).await,
                code = child.ended() => break Over::Ended(code?),
                name = signals.next() => break Over::Asked(name),
                signal = relay.next() => child.signal(signal),
                holder = held.followed() => break Over::Superseded(holder),
            }
        };
        match over {
            Over::Ended(code) => {
                held.leave("the command has ended").await;
                Ok(code)
            }
            Over::Asked(name) => {
                held.drain(&mut signals).await;
                held.leave(name).await;
                child.stop(name, self.stop_limit, &mut signals).await
            }
            Over::Superseded(holder) => {
                child.stop("SIGTERM", self.stop_limit, &mut signals).await?;
                bail!("{} is held by a later process ({holder})", held.name())
            }
        }
    }

    fn instance(&self) -> Instance {
        let mut one = Instance::new(self.service.clone(), self.address.clone());
        if let Some(id) = &self.id {
            one = one.with_id(id.clone());
        }
        if let Some(weight) = self.weight {
            one = one.with_weight(weight);
        }
        if let Some(zone) = &self.zone {
            one = one.with_zone(zone.clone());
        }
        if let Some(version) = &self.service_version {
            one = one.with_version(version.as_str());
        }
        let labels = self.label.iter();
        labels.fold(one, |one, (name, value)| {
            one.with_label(name.as_str(), value.as_str())
        })
    }

    fn monitor(&self) -> Monitor {
        let kind = match &self.check {
            None if self.command.is_empty() => None,
            None => Some(CheckKind::Tcp),
            Some(kind) => Some(kind.clone()),
        };
        Monitor::new(
            kind.map(|kind| Check::new(kind, &self.address)),
            self.check_interval,
            self.check_timeout,
            self.healthy_after,
            self.unhealthy_after,
        )
    }
}

/// Tells whoever still listens: a stderr that is closed is no reason to end.
fn say(line: &str) {
    let _nobody_listens = writeln!(io::stderr(), "{line}");
}

/// The registration, while there is to be one.
struct Held<'a> {
    args: &'a RegisterArgs,
    session: &'a Session,
    registration: Option<Registration>,
    /// Whether it was said that it is registered.
    is_told: bool,
}

impl Held<'_> {
    fn name(&self) -> String {
        let one = self.args.instance();
        format!("{}/{}", one.service, one.id)
    }

    async fn follow(&mut self, turn: Turn) {
        match turn {
            Turn::Healthy => self.enter(),
            Turn::Unhealthy(cause) => self.leave(&cause).await,
        }
    }

    fn enter(&mut self) {
        let ttl = self.args.ttl.unwrap_or(self.session.ttl);
        let registry = &self.session.registry;
        self.registration = Some(registry.register(self.args.instance(), ttl));
        self.is_told = false;
    }

    /// Takes the instance out, if it is in; that this fails is told, since its lease ends anyway.
    async fn leave(&mut self, why: &str) {
        let Some(registration) = self.registration.take() else {
            return;
        };
        match registration.deregister().await {
            Ok(()) => say(&format!("{} is taken out: {}", self.name(), printable(why))),
            Err(error) => {
                let error = registry::one_line(&error);
                say(&format!("{} is left to its lease: {error}", self.name()));
            }
        }
    }

    /// Tells callers to go elsewhere, and gives them the time; who asks for the end twice does not wait.
    async fn drain(&self, signals: &mut Signals) {
        let Some(registration) = &self.registration else {
            return;
        };
        // Whether or not the registry can be reached.
        let _ = timeout(self.session.patience, registration.drain()).await;
        select! {
            () = sleep(self.args.drain_notice) => {}
            _ = signals.next() => {}
        }
    }

    /// Says when it is registered, and waits until a later process has registered the instance: which one. Cancellation safe.
    async fn followed(&mut self) -> String {
        let Some(registration) = &self.registration else {
            return pending().await;
        };
        let mut states = registration.states();
        let is_over =
            |state: &RegistrationState| matches!(state, RegistrationState::Superseded { .. });
        if !self.is_told {
            let known = states.wait_for(|state| state.is_held() || is_over(state));
            if known.await.is_ok_and(|state| state.is_held()) {
                let url = self.session.registry.url();
                say(&format!("{} is registered in {url}", self.name()));
            }
            self.is_told = true;
        }
        match states.wait_for(is_over).await.as_deref() {
            Ok(RegistrationState::Superseded { holder }) => holder.to_string(),
            _ => pending().await,
        }
    }
}
