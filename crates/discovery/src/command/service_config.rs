//! `discovery config`: the service config that a service's callers go by.

mod canary;

use std::{path::PathBuf, slice};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use registry::{Document, Origin, ServiceName};
use serde::Serialize;
use serde_json::Value;

use self::canary::Left;
use crate::{input, session::Session};

const EXAMPLE: &str = "\
Examples:
  discovery config set greeter greeter.json
      All callers of greeter go by it from now on, unless it is none: then it is refused.
  echo '{\"loadBalancingConfig\": [{\"least_request\": {}}]}' | discovery config set greeter
  discovery config get greeter
  discovery config delete greeter
      Callers go by their own again.
  discovery config canary greeter 5 --version v2
      The instances of version v2 get 5 % of the calls, however many there are.
  discovery config canary greeter off --version v2
      They are like any other again.

docs/service-config.md is the reference of what may be in it.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct ServiceConfigArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Prints it as it was written
    Get(Whose),
    /// Checks it as callers do, and writes it in place of what was there
    Set {
        #[command(flatten)]
        whose: Whose,
        /// The file that has it; without it, or as `-`, stdin
        file: Option<PathBuf>,
    },
    /// Takes it away
    Delete(Whose),
    /// Gives the instances of a version a share of the calls; all else that is in it stays
    Canary {
        #[command(flatten)]
        whose: Whose,
        /// Percent of the calls, 0 to 100; `off` takes the share back: what was there before is there again
        #[arg(value_name = "PERCENT|off", value_parser = share)]
        share: Share,
        /// The version that those instances say they are
        #[arg(long, default_value = "canary")]
        version: String,
        /// What the callers go by otherwise, where the registry has nothing for them: a file, or `-` for stdin
        #[arg(long, value_name = "FILE")]
        base: Option<PathBuf>,
    },
}

/// A share of the calls; `None` takes it back.
type Share = Option<u8>;

fn share(text: &str) -> Result<Share, String> {
    match text.parse() {
        Ok(percent @ 0..=100) => Ok(Some(percent)),
        _ if text == "off" => Ok(None),
        _ => Err("0 to 100, or off, is expected".into()),
    }
}

#[derive(Debug, Args)]
struct Whose {
    /// The service's name
    #[arg(value_parser = ServiceName::new)]
    service: ServiceName,
}

/// The shape of `--output json`.
#[derive(Serialize)]
struct Shape<'a> {
    registry: &'a str,
    service: &'a str,
    /// What is there now; `None` where nothing is, or what is there is no JSON.
    config: Option<Value>,
    /// The same as it was written.
    text: Option<&'a str>,
    key: Option<&'a str>,
    revision: Option<u64>,
}

impl ServiceConfigArgs {
    pub(crate) async fn run(&self, session: &Session) -> Result<()> {
        match &self.action {
            Action::Get(whose) => get(session, &whose.service).await,
            Action::Set { whose, file } => set(session, &whose.service, file.clone()).await,
            Action::Delete(whose) => delete(session, &whose.service).await,
            Action::Canary {
                whose,
                share,
                version,
                base,
            } => {
                let Some(percent) = *share else {
                    return take_share(session, &whose.service, version).await;
                };
                let otherwise = match base {
                    Some(file) => input::read(Some(file.clone()), LONGEST).await?,
                    None => "{}".to_owned(),
                };
                give_share(session, &whose.service, version, percent, &otherwise).await
            }
        }
    }
}

/// In bytes.
const LONGEST: u64 = Document::MAX_BYTES as u64;

async fn get(session: &Session, service: &ServiceName) -> Result<()> {
    let registry = &session.registry;
    let Some(document) = session.answer(registry.read_document(service)).await? else {
        let url = registry.url();
        bail!("{service} has no service config in {url}; its callers go by their own");
    };
    show(session, service, Some(&document), document.as_str())
}

async fn set(session: &Session, service: &ServiceName, file: Option<PathBuf>) -> Result<()> {
    let text = input::read(file, LONGEST).await?;
    let url = session.registry.url();
    let done = format!("the callers of {service} in {url} go by it");
    write(session, service, &text, &done).await
}

async fn write(session: &Session, service: &ServiceName, text: &str, done: &str) -> Result<()> {
    balance::check_service_config(text).context("it is no service config, and was not written")?;
    let document = Document::new(text)?;
    let registry = &session.registry;
    let written = registry.set_document(service, document.clone());
    session.answer(written).await?;
    let there = session.answer(registry.read_document(service)).await?;
    let url = registry.url();
    ensure!(
        there.as_ref() == Some(&document),
        "somebody else has written the service config of {service} in {url} meanwhile; see `discovery config get {service}`"
    );
    show(session, service, there.as_ref(), done)
}

/// Gives the version its share, around what is there or what callers go by `otherwise`.
async fn give_share(
    session: &Session,
    service: &ServiceName,
    version: &str,
    percent: u8,
    otherwise: &str,
) -> Result<()> {
    let document = session
        .answer(session.registry.read_document(service))
        .await?;
    let there = document.as_ref().map(Document::as_str);
    let given = canary::give(there, otherwise, version, percent)?.to_string();
    let url = session.registry.url();
    let done = format!("version {version} of {service} in {url} gets {percent} % of the calls");
    write(session, service, &given, &done).await
}

async fn take_share(session: &Session, service: &ServiceName, version: &str) -> Result<()> {
    let document = session
        .answer(session.registry.read_document(service))
        .await?;
    let left = match &document {
        Some(document) => canary::take(document.as_str(), version)?,
        None => Left::Same,
    };
    let url = session.registry.url();
    match left {
        Left::Same => {
            session.ensure_known(slice::from_ref(service)).await?;
            // What is there, if anything is, is not ours to take away.
            let done = format!("version {version} of {service} in {url} has no share of its own");
            show(session, service, document.as_ref(), &done)
        }
        Left::Nothing => delete(session, service).await,
        Left::Text(text) => {
            let done = format!("version {version} of {service} in {url} is called like any other");
            write(session, service, &text, &done).await
        }
    }
}

/// Where there is none that is so already, unless nobody knows the service.
async fn delete(session: &Session, service: &ServiceName) -> Result<()> {
    let registry = &session.registry;
    match session.answer(registry.read_document(service)).await {
        Ok(None) => session.ensure_known(slice::from_ref(service)).await?,
        // Also what cannot be read.
        Ok(Some(_)) | Err(_) => session.answer(registry.delete_document(service)).await?,
    }
    let url = session.registry.url();
    let done = format!("{service} has no service config in {url}; its callers go by their own");
    show(session, service, None, &done)
}

fn show(
    session: &Session,
    service: &ServiceName,
    document: Option<&Document>,
    said: &str,
) -> Result<()> {
    let origin = document.and_then(Document::origin);
    let text = document.map(Document::as_str);
    let shape = Shape {
        registry: session.registry.url(),
        service: service.as_str(),
        config: text.and_then(|text| serde_json::from_str(text).ok()),
        text,
        key: origin.map(|Origin { key, .. }| &**key),
        revision: origin.map(|origin| origin.revision.0),
    };
    session.show(&shape, |_| said.to_owned()).map(drop)
}
