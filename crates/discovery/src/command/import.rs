//! `discovery import`: puts what `export` has written into a registry.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, OnceLock},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use registry::{Registration, RegistrationState};
use serde::Serialize;
use service_kit::{Signals, config::AdminListen};
use tokio::{select, sync::watch};

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
        let states = Arc::new(OnceLock::new());
        // Before anything is written: a page that cannot be had is no reason to take it all back.
        let _page = if self.hold {
            session.tell(None, is_ready(Arc::clone(&states))).await?
        } else {
            None
        };
        let imported = select! {
            imported = self.import(session, &mut written, &mut held) => Some(imported),
            _ = signals.next() => None,
        };
        if let Some(Ok(())) = imported {
            let _ = states.set(held.iter().map(Registration::states).collect::<Vec<_>>());
            select! {
                () = holding::taken_over(&held) => {}
                _ = signals.next() => {}
            }
        }
        let had_instances = !held.is_empty();
        // Also when something has failed meanwhile: no instance stays behind.
        let left = holding::leave(held).await;
        let Some(imported) = imported else {
            written.tell_interrupted(session, had_instances && left.is_ok());
            return left.map(|()| ExitCode::from(INTERRUPTED));
        };
        imported.and(left).map(|()| ExitCode::SUCCESS)
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

/// Whether each instance is held, of which these are the states once they are known.
fn is_ready(
    states: Arc<OnceLock<Vec<watch::Receiver<RegistrationState>>>>,
) -> impl Fn() -> Result<(), String> {
    move || match states.get() {
        Some(states) => holding::ready(states),
        None => Err("it is being imported".to_owned()),
    }
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

    fn is_whole(&self) -> bool {
        [&self.service_configs, &self.intents]
            .iter()
            .all(|part| part.written == part.all)
    }

    /// Whoever interrupts it has to know what is there all the same, and of instances that were registered that they `have_left`.
    fn tell_interrupted(&self, session: &Session, have_left: bool) {
        let on_its_way = if self.is_whole() {
            ""
        } else {
            "; what was on its way may be there as well"
        };
        let written = self.in_words(session);
        let written = written.map(|written| written + on_its_way);
        let instances = have_left.then(|| "no instance is held".to_owned());
        let told: Vec<_> = [written, instances].into_iter().flatten().collect();
        let told = if told.is_empty() {
            "nothing was imported".to_owned()
        } else {
            told.join(", and ")
        };
        // A stderr that is closed is no reason to end otherwise.
        let _ = writeln!(io::stderr(), "interrupted: {told}");
    }
}
