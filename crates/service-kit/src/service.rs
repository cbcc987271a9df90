//! A gRPC service from its configuration to its end.

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use anyhow::Context;
use axum::response::IntoResponse;
use balance::ClientTls;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use http::Request;
use registry::{Address, Instance, Registry};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{
    body::Body,
    server::NamedService,
    service::{Routes, RoutesBuilder},
};
use tonic_health::{pb::health_server::HealthServer, server::HealthService};
use tower::Service as TowerService;

use crate::{
    admin::Admin,
    advertise,
    config::{AdminConfig, ServerConfig, ServiceSections, Tls, as_usize},
    health::Health,
    lifecycle::{Lifecycle, Readiness, Server, Standing},
    server::{Admission, Calls, MessageMemory, Serving, Traces, check_rules},
    signals::Signals,
    systemd::Manager,
    telemetry::{Telemetry, credentials::Followers},
};

/// A gRPC service that listens, and does not serve yet.
///
/// [`bind`](Self::bind) takes the address, [`add_service`](Self::add_service) says what is served there, and [`serve`](Self::serve)
/// registers it and serves until a signal comes.
pub struct Service {
    /// Gives an item each time that it is asked to end.
    asked: BoxStream<'static, &'static str>,
    manager: Option<Manager>,
    server: ServerConfig,
    admin_config: AdminConfig,
    ttl: Duration,
    listener: TcpListener,
    address: Address,
    registry: Registry,
    telemetry: Telemetry,
    tls: Option<Tls>,
    admin: Admin,
    routes: RoutesBuilder,
    names: Vec<&'static str>,
    descriptors: Vec<&'static [u8]>,
    readiness: Readiness,
    standing: Standing,
    closes_within: Duration,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("server", &self.server)
            .field("address", &self.address)
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

impl Service {
    /// Listens where the configuration says, finds out which address callers are told, and logs both. From here on SIGTERM
    /// and SIGINT end nothing but [`serve`](Self::serve).
    ///
    /// # Errors
    /// When the address is taken, the registry's URL leads nowhere, or no address can be advertised.
    pub async fn bind(config: &impl ServiceSections, telemetry: Telemetry) -> anyhow::Result<Self> {
        // Before anything is said or done: a signal that comes early is not lost, and does not end the process unasked.
        let signals = stream::unfold(Signals::listen()?, async |mut signals| {
            Some((signals.next().await, signals))
        });
        Self::bound(config, telemetry, signals.boxed()).await
    }

    /// The same for a process that has signals of its own: it serves until `asked` is over.
    pub async fn bind_until(
        config: &impl ServiceSections,
        telemetry: Telemetry,
        asked: impl Future<Output = ()> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let once = stream::once(asked).map(|()| "request");
        Self::bound(config, telemetry, once.chain(stream::pending()).boxed()).await
    }

    async fn bound(
        config: &impl ServiceSections,
        telemetry: Telemetry,
        asked: BoxStream<'static, &'static str>,
    ) -> anyhow::Result<Self> {
        let mut server = config.server().clone();
        let tls = config.tls().of_service(&server.service).await?;
        if tls.is_some() {
            server.limits = Tls::limits(&server.limits);
        }
        let registry = config.registry().connect()?;
        let listener = TcpListener::bind(server.listen.0)
            .await
            .with_context(|| format!("cannot listen on {}", server.listen))?;
        let listening = listener
            .local_addr()
            .context("the listener has no address")?;
        let address = advertise::address(&server.advertise, listening, registry.url()).await?;
        tracing::info!(
            registry = registry.url(),
            service = %server.service,
            address = %address,
            tls = Tls::described(tls.as_ref()),
            "listening on {listening}",
        );
        let readiness = Readiness::new();
        Ok(Self {
            asked,
            manager: Manager::of_process(),
            server,
            admin_config: config.admin().clone(),
            ttl: config.registry().ttl,
            listener,
            address,
            registry,
            admin: Admin::new(telemetry.clone()),
            telemetry,
            tls,
            routes: Routes::builder(),
            names: Vec::new(),
            descriptors: Vec::new(),
            standing: Standing::new(readiness.clone()),
            readiness,
            closes_within: Duration::ZERO,
        })
    }

    /// The address that callers are told.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The registry that it registers at: the one to call other services by.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// TLS for the channels by which the service calls others, where it is configured: with the certificate that its own callers
    /// are shown.
    pub fn client_tls(&self) -> Option<ClientTls> {
        self.tls.as_ref().map(Tls::client)
    }

    /// By which the service reports whether it is ready.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// The longest message that callers may send, in bytes: for `max_decoding_message_size` of each server that is added.
    pub fn message_size(&self) -> usize {
        as_usize(self.server.limits.message_size)
    }

    /// Serves this as well: a server that tonic has generated, told the [longest message](Self::message_size).
    pub fn add_service<S>(mut self, service: S) -> Self
    where
        S: TowerService<Request<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.names.push(S::NAME);
        self.routes.add_service(service);
        self
    }

    /// Lets callers ask for these contracts: an encoded `FileDescriptorSet`, served by gRPC's reflection.
    pub fn reflect(mut self, descriptors: &'static [u8]) -> Self {
        self.descriptors.push(descriptors);
        self
    }

    /// Shows a channel on the admin page; see [`Admin::channel`].
    pub fn channel(
        mut self,
        name: impl Into<String>,
        explain: impl Fn() -> Value + Send + Sync + 'static,
    ) -> Self {
        self.admin = self.admin.channel(name, explain);
        self
    }

    /// How long the process still takes when [`serve`](Self::serve) has come back, to close a storage for instance. A service manager
    /// that waits for the end is told of it; nothing is bounded by it here.
    pub fn closes_within(mut self, limit: Duration) -> Self {
        self.closes_within = limit;
        self
    }

    /// Serves until it is asked to end, and then ends in order; asked a second time it ends at once, with an error.
    ///
    /// # Errors
    /// When it cannot start, or cannot go on.
    pub async fn serve(self) -> anyhow::Result<()> {
        if let Some(tls) = &self.tls {
            check_rules(&tls.allow, &self.names, &self.descriptors)?;
        }
        let instance = self.instance();
        let message_size = self.message_size();
        self.observe_registry();
        let standing = self.standing.clone();
        let shown = standing.clone();
        let admin = self.admin.ready(move || shown.ready());
        let admin = admin.serve(&self.admin_config).await?;
        let reflection = Reflection {
            descriptors: &self.descriptors,
            names: &self.names,
            message_size,
        };
        let routes = reflection.added_to(self.routes.routes())?;
        let health = Health::new(self.names).await;
        let routes = routes.add_service(health.server().max_decoding_message_size(message_size));
        let meter = self.telemetry.meter("service-kit");
        let calls = Calls::new(&meter);
        let admission = Admission::new(&self.server.limits, &meter);
        let memory = MessageMemory::new(&self.server.limits, &meter);
        let traces = Traces::new(self.telemetry.tracing("service-kit"), &self.address);
        let stop = CancellationToken::new();
        let routes = routes.prepare();
        let serving = Serving {
            listener: self.listener,
            routes,
            calls: calls.clone(),
            traces,
            admission,
            memory,
            config: self.server.clone(),
            tls: self.tls,
        };
        let server = Server {
            task: tokio::spawn(serving.until(stop.clone())),
            stop,
        };
        let lifecycle = Lifecycle {
            registry: self.registry,
            instance,
            ttl: self.ttl,
            require_registry: self.server.require_registry,
            drain_notice: self.server.drain_notice,
            drain_limit: self.server.drain_limit,
            closes_within: self.closes_within,
            health,
            standing: self.standing,
            calls,
        };
        let _told = self.manager.map(|manager| {
            let telling = manager.keep_told(standing, lifecycle.ends_within());
            AbortOnDropHandle::new(tokio::spawn(telling))
        });
        let outcome = lifecycle.run(server, self.asked).await;
        drop(admin);
        outcome
    }

    fn instance(&self) -> Instance {
        let config = &self.server;
        let mut instance =
            Instance::new(config.service.clone(), self.address.clone()).with_weight(config.weight);
        instance.zone.clone_from(&config.zone);
        instance.version = config.version.as_deref().map(Into::into);
        for (name, value) in &config.labels {
            instance = instance.with_label(name.as_str(), value.as_str());
        }
        instance
    }

    fn observe_registry(&self) {
        self.telemetry.observe_registry(&self.registry);
        let (registered, standing) = (self.standing.clone(), self.standing.clone());
        self.telemetry.observe_instance(
            move || registered.registration(),
            move || standing.ready().is_ok(),
        );
        let followers = Followers {
            tls: self.tls.as_ref().map(|tls| Arc::clone(&tls.files)),
            registry: Some(self.registry.clone()),
        };
        followers.observe(&self.telemetry.meter("service-kit"));
    }
}

/// gRPC's reflection in both of its versions: tools in the field still ask the older one. It lists what is served, whatever
/// else the descriptors describe.
struct Reflection<'a> {
    descriptors: &'a [&'static [u8]],
    names: &'a [&'static str],
    message_size: usize,
}

impl Reflection<'_> {
    fn added_to(&self, routes: Routes) -> anyhow::Result<Routes> {
        if self.descriptors.is_empty() {
            return Ok(routes);
        }
        let failed = "cannot serve reflection of these descriptors";
        let v1 = self.builder().build_v1().context(failed)?;
        let v1alpha = self.builder().build_v1alpha().context(failed)?;
        Ok(routes
            .add_service(v1.max_decoding_message_size(self.message_size))
            .add_service(v1alpha.max_decoding_message_size(self.message_size)))
    }

    fn builder(&self) -> tonic_reflection::server::Builder<'static> {
        let described = self.descriptors.iter().fold(
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .with_service_name(HealthServer::<HealthService>::NAME),
            |builder, set| builder.register_encoded_file_descriptor_set(set),
        );
        self.names
            .iter()
            .fold(described, |builder, name| builder.with_service_name(*name))
    }
}
