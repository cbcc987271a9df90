//! `discovery import`: puts what `export` has written into a registry.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use registry::Registration;
use serde::Serialize;
use service_kit::{Signals, config::AdminListen};
use tokio::select;

use super::INTERRUPTED;
use crate::{
    exported::{Contents, Exported},
    holding, input,
    session::Session,
    telling::ADMIN_HELP,
    words::count,
};

const EXAMPLE: &str = "\
Examples:
  discovery --registry etcd://old:2379 export | discovery --registry etcd://new:2379 import --hold
      Callers of the new cluster find all instances, for as long as it runs. One that registers
      there itself takes its place back; one that has done so already is left alone. When all
      have, it ends.
  discovery import --without-instances registry.json
      Service configs and what operators want, which stay.

All of the file is checked before anything is written. An instance goes with whoever registers it:
so a file with instances needs --hold, which registers them until Ctrl-C, or --without-instances.";

/// More than any registry has that people move by a file.
const LARGEST: u64 = 256 * 1024 * 1024;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct ImportArgs {
    /// The file that `export` has written; without it, or as `-`, stdin
    file: Option<PathBuf>,

    /// Registers the instances that nobody has registered, and holds each until somebody does or Ctrl-C
    #[arg(long)]
    hold: bool,

    /// Leaves the instances out
    #[arg(long, conflicts_with = "hold")]
    without_instances: bool,

    #[arg(long, value_name = "IP:PORT", help = ADMIN_HELP, requires = "hold")]
    pub(super) admin: Option<AdminListen>,
}

/// The shape of `--output json`.
#[derive(Serialize)]
struct Shape<'a> {
    registry: &'a str,
    service_configs: usize,
    intents: usize,
    /// Instances that are held.
    held: usize,
    /// Instances that were registered by others, and are left alone.
    already_there: usize,
}

impl ImportArgs {
    pub(crate) async fn run(&self, session: &Session, mut signals: Signals) -> Result<ExitCode> {
        let (mut written, mut held) = (Written::default(), Vec::new());
        let imported = select! {
            imported = self.import(session, &mut written, &mut held) => Some(imported),
            _ = signals.next() => None,
        };
        let done = match imported {
            Some(Ok(())) => hold(session, &held, signals)
                .await
                .map(|()| ExitCode::SUCCESS),
            Some(Err(error)) => Err(error),
            None => {
                written.tell_interrupted(session);
                Ok(ExitCode::from(INTERRUPTED))
            }
        };
        // Also when something has failed meanwhile: no instance stays behind.
        let left = holding::leave(held).await;
        done.and_then(|code| left.map(|()| code))
    }

    async fn import(
        &self,
        session: &Session,
        written: &mut Written,
        held: &mut Vec<Registration>,
    ) -> Result<()> {
        let text = input::read(self.file.clone(), LARGEST).await?;
        let contents = Exported::parse(&text).and_then(|exported| exported.contents());
        let contents = contents.context("nothing was imported")?;
        let all = contents.instances.len();
        ensure!(
            all == 0 || self.hold || self.without_instances,
            "it has {}, and an instance goes with whoever registers it: give --hold, to register them until \
             Ctrl-C, or --without-instances; nothing was imported",
            count(all, "instance")
        );
        if self.hold {
            session
                .ensure_takes_instances()
                .context("nothing was imported")?;
        }
        let done = written.write(session, &contents).await;
        done.with_context(|| written.in_words(session).unwrap_or_default())?;
        let mut already_there = 0;
        if self.hold {
            let register = |one| session.registry.register_if_absent(one, session.ttl);
            held.extend(contents.instances.iter().cloned().map(register));
            let mut is_ours = Vec::new();
            for registration in &*held {
                let is_held = holding::is_held(session, registration).await;
                let is_held = is_held.with_context(|| {
                    let written = written.in_words(session);
                    let written = written.map(|written| format!("{written}, and "));
                    written.unwrap_or_default() + "no instance is held"
                });
                is_ours.push(is_held?);
            }
            let mut is_ours = is_ours.into_iter();
            held.retain(|_| is_ours.next().unwrap_or_default());
            already_there = all - held.len();
        }
        let shape = Shape {
            registry: session.registry.url(),
            service_configs: contents.service_configs.len(),
            intents: contents.intents.len(),
            held: held.len(),
            already_there,
        };
        session.show(&shape, |_| shape.in_words())?;
        Ok(())
    }
}

/// Holds them until others do or somebody asks for the end, and tells of it meanwhile.
async fn hold(session: &Session, held: &[Registration], mut signals: Signals) -> Result<()> {
    let states: Vec<_> = held.iter().map(Registration::states).collect();
    let _page = session.tell(None, move || holding::ready(&states)).await?;
    select! {
        () = holding::taken_over(held) => {}
        _ = signals.next() => {}
    }
    Ok(())
}

impl Shape<'_> {
    fn in_words(&self) -> String {
        let Self {
            registry,
            service_configs,
            intents,
            held,
            already_there,
        } = self;
        let instances = match (held, already_there) {
            (0, 0) => String::new(),
            (held, 0) => format!(", and holds {} until Ctrl-C", count(*held, "instance")),
            (held, there) => format!(
                ", and holds {} until Ctrl-C; left alone, since already there: {there}",
                count(*held, "instance")
            ),
        };
        let configs = count(*service_configs, "service config");
        let intents = count(*intents, "intent");
        format!("wrote {configs} and {intents} to {registry}{instances}")
    }
}

/// How much of a file is in the registry.
#[derive(Default)]
struct Written {
    service_configs: Part,
    intents: Part,
}

/// So many of all that there are in the file.
#[derive(Default)]
struct Part {
    written: usize,
    all: usize,
}

impl Part {
    fn in_words(&self, thing: &str) -> Option<String> {
        let Self { written, all } = *self;
        (all > 0).then(|| format!("{written} of {}", count(all, thing)))
    }
}

impl Written {
    async fn write(&mut self, session: &Session, contents: &Contents) -> Result<()> {
        let registry = &session.registry;
        self.service_configs.all = contents.service_configs.len();
        self.intents.all = contents.intents.len();
        for (service, document) in &contents.service_configs {
            let written = registry.set_document(service, document.clone());
            session.answer(written).await?;
            self.service_configs.written += 1;
        }
        for (service, id, intent) in &contents.intents {
            let written = registry.set_intent(service, id, intent.clone());
            session.answer(written).await?;
            self.intents.written += 1;
        }
        Ok(())
    }

    /// What is there although not all has gone well; nothing where instances are all that was to be.
    fn in_words(&self, session: &Session) -> Option<String> {
        let configs = self.service_configs.in_words("service config");
        let intents = self.intents.in_words("intent");
        let written = [configs, intents].into_iter().flatten().collect::<Vec<_>>();
        let url = session.registry.url();
        (!written.is_empty()).then(|| format!("wrote {} to {url}", written.join(" and ")))
    }

    /// Whoever interrupts it has to know what is there all the same.
    fn tell_interrupted(&self, session: &Session) {
        let written = self.in_words(session).map_or_else(
            || "nothing was imported".to_owned(),
            |written| format!("{written}; what was on its way may be there as well"),
        );
        // A stderr that is closed is no reason to end otherwise.
        let _ = writeln!(io::stderr(), "interrupted: {written}");
    }
}
