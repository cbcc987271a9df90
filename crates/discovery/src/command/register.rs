//! `discovery register`: registers what cannot do it itself, for as long as it lives and is healthy.

mod check;
mod checks;
mod child;
mod health;
mod held;
mod job;
mod signals;
mod standing;

use std::{
    ffi::OsString,
    io::{self, Write},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, bail};
use balance::ClientTls;
use clap::Args;
use nix::sys::signal::Signal;
use registry::{Address, Instance, InstanceId, ServiceName, Weight, Zone};
use service_kit::{AdminServer, config::AdminListen};
use tokio::{
    select,
    time::{Instant, timeout_at},
};

use self::{
    check::{Check, CheckKind},
    checks::Checks,
    child::Child,
    health::Monitor,
    held::Held,
    signals::{Heard, Signals},
    standing::Standing,
};
use crate::{args::positive_time, session::Session, telling::ADMIN_HELP};

const EXAMPLE: &str = "\
Examples:
  discovery register web 10.0.0.7:8080 --check http=http://10.0.0.7:8080/healthz
      Holds web/10.0.0.7:8080 while that page answers with 2xx, until Ctrl-C.
  discovery register legacy 10.0.0.7:9000 --label tier=gold -- ./legacy --port 9000
      Starts it, registers it once it takes connections, passes signals on, takes it out before it
      is told to end or when it has ended, and exits with its code.

What becomes of the registration is said on stderr. With --admin 127.0.0.1:9100 there is a page,
whose /readyz says whether it is registered, and /metrics what its checks have come to. The command
is in a process group of its own and has no stdin. A check that fails three times in a row takes the
instance out; one that succeeds puts it back.";

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

    #[arg(long, value_name = "IP:PORT", help = ADMIN_HELP)]
    pub(super) admin: Option<AdminListen>,

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
    Asked(Signal),
    /// The command has ended, and this is its code.
    Ended(ExitCode),
    /// A later process has registered the instance.
    Superseded(String),
}

impl RegisterArgs {
    pub(crate) async fn run(
        &self,
        session: &Session,
        signals: service_kit::Signals,
    ) -> Result<ExitCode> {
        session.ensure_takes_instances()?;
        let mut signals = Signals::listen(signals, !self.command.is_empty())?;
        let kind = self.check_kind();
        let tls = match kind {
            Some(CheckKind::Grpc(_)) => session.tls().await?,
            _ => None,
        };
        let standing = Standing::new();
        let _page = self.tell(session, tls.as_ref(), &standing).await?;
        let mut child = Child::start(&self.command)?;
        let mut monitor = self.monitor(session, kind, tls, standing.clone());
        let mut held = Held::new(session, self.instance(), self.ttl, standing);
        let mut asked = None;
        let over = loop {
            select! {
                turn = monitor.turned() => {
                    let followed = held.follow(turn);
                    unless_asked_again(followed, &mut asked, &mut signals, &child).await;
                    if let Some(signal) = asked {
                        break Over::Asked(signal);
                    }
                }
                code = child.ended() => break Over::Ended(code?),
                holder = held.followed() => break Over::Superseded(holder),
                heard = signals.next() => match heard {
                    Heard::End(signal) => break Over::Asked(*asked.insert(signal)),
                    Heard::PassOn(signal) => child.signal(signal),
                },
            }
        };
        match over {
            Over::Ended(code) => {
                let left = held.leave("the command has ended");
                unless_asked_again(left, &mut asked, &mut signals, &child).await;
                Ok(code)
            }
            Over::Asked(signal) => {
                // However long the registry takes: the command is still to be told, and has a time of its own.
                let by = Instant::now() + self.drain_notice + session.patience;
                let drained = timeout_at(by, held.drain(self.drain_notice));
                unless_asked_again(drained, &mut asked, &mut signals, &child).await;
                let left = timeout_at(by, held.leave(signal.as_str()));
                unless_asked_again(left, &mut asked, &mut signals, &child).await;
                match child.stop(signal, self.stop_limit, &mut signals).await? {
                    Some(code) => Ok(code),
                    None => held.outcome(monitor.failure()).map(|()| ExitCode::SUCCESS),
                }
            }
            Over::Superseded(holder) => {
                let stopped = child.stop(Signal::SIGTERM, self.stop_limit, &mut signals);
                stopped.await?;
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

    /// What is checked, if anything is.
    fn check_kind(&self) -> Option<CheckKind> {
        let unless_told = (!self.command.is_empty()).then_some(CheckKind::Tcp);
        self.check.clone().or(unless_told)
    }

    fn monitor(
        &self,
        session: &Session,
        kind: Option<CheckKind>,
        tls: Option<ClientTls>,
        standing: Standing,
    ) -> Monitor {
        let telemetry = &session.telling.telemetry;
        let check = kind.map(|kind| {
            let tracing = telemetry.tracing("balance");
            let check = Check::new(kind, &self.service, &self.address, tls, tracing);
            Checks::new(check, self.check_timeout, &telemetry.meter("discovery"))
        });
        Monitor::new(
            check,
            self.check_interval,
            self.healthy_after,
            self.unhealthy_after,
            standing,
        )
    }

    /// Tells how the instance stands: it is what the process is ready by.
    async fn tell(
        &self,
        session: &Session,
        tls: Option<&ClientTls>,
        standing: &Standing,
    ) -> Result<Option<AdminServer>> {
        let (measured, shown) = (standing.clone(), standing.clone());
        let telemetry = &session.telling.telemetry;
        telemetry.observe_registration(move || measured.registration());
        session.tell(tls, move || shown.ready()).await
    }
}

/// Waits until that is done or somebody asks for the end who is not the first to have `asked`, and passes on to the command what
/// is its own.
async fn unless_asked_again(
    done: impl Future,
    asked: &mut Option<Signal>,
    signals: &mut Signals,
    child: &Child,
) {
    let mut done = pin!(done);
    loop {
        select! {
            _ = &mut done => return,
            heard = signals.next() => match heard {
                Heard::End(_) if asked.is_some() => return,
                Heard::End(signal) => *asked = Some(signal),
                Heard::PassOn(signal) => child.signal(signal),
            },
        }
    }
}

/// Tells whoever still listens: a stderr that is closed is no reason to end.
fn say(line: &str) {
    let _nobody_listens = writeln!(io::stderr(), "{line}");
}
