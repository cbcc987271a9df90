//! What every command has: the registry, how long it may take, and where to print.

use std::{future::Future, time::Duration};

use anyhow::{Result, bail, ensure};
use balance::ClientTls;
use futures_util::{StreamExt, TryStreamExt, stream};
use registry::{Registry, ServiceName, StoreError};
use serde::Serialize;
use service_kit::{
    ClientConfig, Sections as _, Telemetry,
    config::TlsConfig,
    terminal::{Look, Output, Readers, print},
};
use tokio::time::timeout;

use crate::telling::Telling;

/// How many answers a registry is waited for at a time: more would be a load on it.
const AT_A_TIME: usize = 16;

/// One run of the command line.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) registry: Registry,
    /// How long the registry may take for an answer.
    pub(crate) patience: Duration,
    pub(crate) output: Output,
    /// How long the registry is to keep what is registered and not heard of any more.
    pub(crate) ttl: Duration,
    pub(crate) telling: Telling,
    tls: TlsConfig,
}

impl Session {
    /// Needs no registry that answers; what is asked of it does.
    pub(crate) fn open(
        config: &ClientConfig,
        telemetry: Telemetry,
        output: Output,
        patience: Duration,
    ) -> Result<Self> {
        let tls = config.tls().clone();
        let telling = Telling {
            telemetry,
            admin: config.admin().clone(),
        };
        let config = config.registry();
        ensure!(
            config.url != "memory:",
            "the registry memory: is within one process, and nobody else is in this one's; name another with --registry URL"
        );
        let registry = config.connect()?;
        telling.telemetry.observe_registry(&registry);
        Ok(Self {
            registry,
            patience,
            output,
            ttl: config.ttl,
            telling,
            tls,
        })
    }

    /// As tests need it: on a registry of their own, without TLS.
    #[cfg(test)]
    pub(crate) fn on(registry: Registry, patience: Duration) -> Self {
        Self {
            registry,
            patience,
            output: Output::Table,
            ttl: Duration::from_secs(10),
            telling: Telling {
                telemetry: Telemetry::metrics_only().expect("metrics"),
                admin: service_kit::config::AdminConfig::default(),
            },
            tls: TlsConfig::default(),
        }
    }

    /// How instances are connected that want to know who calls.
    pub(crate) async fn tls(&self) -> Result<Option<ClientTls>> {
        self.tls.client().await
    }

    /// What the registry answers, for as long as it may take.
    pub(crate) async fn answer<T>(
        &self,
        asked: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T> {
        match timeout(self.patience, asked).await {
            Ok(answer) => Ok(answer?),
            Err(_) => self.no_answer(),
        }
    }

    /// That the registry has taken too long.
    pub(crate) fn no_answer<T>(&self) -> Result<T> {
        let (url, patience) = (self.registry.url(), self.patience);
        let patience = humantime::format_duration(patience);
        bail!(
            "{url} has not answered within {patience}; see whether it can be reached, or give it longer with --registry-timeout"
        )
    }

    /// What `ask` finds for each of the services, a few at a time, in their order.
    pub(crate) async fn each<'a, T>(
        &self,
        services: &'a [ServiceName],
        ask: impl AsyncFn(&'a ServiceName) -> Result<T>,
    ) -> Result<Vec<T>> {
        let asked: Vec<_> = services.iter().map(|service| ask(service)).collect();
        let answers = stream::iter(asked).buffered(AT_A_TIME);
        answers.try_collect().await
    }

    /// The services that are named; all that the registry has anything of, when none is.
    pub(crate) async fn services_or_all(&self, named: &[ServiceName]) -> Result<Vec<ServiceName>> {
        match named {
            [] => self.answer(self.registry.known_services()).await,
            named => Ok(named.to_vec()),
        }
    }

    /// Whether anything can be registered: not in a list that somebody else keeps.
    pub(crate) fn takes_instances(&self) -> bool {
        !self.registry.url().starts_with("fixed:")
    }

    /// Refuses a list that nothing can be registered in: a registration would try on for ever, as in an outage.
    pub(crate) fn ensure_takes_instances(&self) -> Result<()> {
        let url = self.registry.url();
        ensure!(
            self.takes_instances(),
            "{url} is a fixed list, in which nothing can be registered: write it into the list, or name another registry with --registry URL"
        );
        Ok(())
    }

    /// Refuses services of which the registry has nothing: most such names are typing errors.
    pub(crate) async fn ensure_known(&self, named: &[ServiceName]) -> Result<()> {
        let known = self.each(named, async |service| self.knows(service).await);
        let known = known.await?;
        let unknown = named.iter().zip(known).filter(|(_, known)| !known);
        let unknown: Vec<_> = unknown.map(|(service, _)| service.as_str()).collect();
        ensure!(
            unknown.is_empty(),
            "{} has nothing of {}: no instance, no intent and no service config; see `discovery services`",
            self.registry.url(),
            unknown.join(", ")
        );
        Ok(())
    }

    /// Asks about the service alone: who may read no more than its keys cannot ask which services there are.
    async fn knows(&self, service: &ServiceName) -> Result<bool> {
        let registry = &self.registry;
        Ok(!self.answer(registry.list(service)).await?.is_empty()
            || self
                .answer(registry.intents(service))
                .await?
                .iter()
                .next()
                .is_some()
            || self
                .answer(registry.read_document(service))
                .await?
                .is_some())
    }

    /// Prints `object` for a program, or what `drawn` says for a person.
    pub(crate) fn show(
        &self,
        object: &impl Serialize,
        drawn: impl FnOnce(Look) -> String,
    ) -> Result<Readers> {
        let text = match self.output {
            Output::Json => serde_json::to_string(object)?,
            Output::Table => drawn(Look::of_stdout()),
        };
        print(&format!("{}\n", text.trim_end()))
    }
}
