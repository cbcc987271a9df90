//! What a channel is told before it runs.

mod build;
mod error;

use std::time::Duration;

use opentelemetry::metrics::Meter;
use registry::{Registry, Zone};
use serde_json::Value;

pub use error::BuildError;

use super::observed::Measuring;
#[cfg(feature = "tls")]
use crate::transport::ClientTls;
use crate::{
    policy::{Policies, Policy},
    service_config,
    single_answers::SingleAnswers,
    telemetry::{Labels, Named, OptionalLabel},
    trace::Tracing,
    transport::{ConnectOptions, KeepAlive},
};

/// gRPC's own (grpc/grpc-java and grpc-go).
const IDLE_TIMEOUT: Duration = Duration::from_mins(30);

/// A channel in the making.
#[derive(Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    target: String,
    registries: Vec<Registry>,
    policy: Option<String>,
    service_config: Option<String>,
    policies: Policies,
    /// The first name that a policy was to be registered by, and that means something else.
    taken: Option<String>,
    connect: ConnectOptions,
    #[cfg(feature = "tls")]
    tls: Option<ClientTls>,
    max_calls_in_flight: Option<usize>,
    user_agent: Option<String>,
    single_answers: SingleAnswers,
    /// Why descriptors that it was given are none.
    undescribed: Option<prost::DecodeError>,
    idle_timeout: Option<Duration>,
    zone: Option<Zone>,
    registry_service_config: bool,
    measuring: Measuring,
    tracing: Option<Tracing>,
}

impl Builder {
    pub(super) fn new(target: String) -> Self {
        Self {
            target,
            registries: Vec::new(),
            policy: None,
            service_config: None,
            policies: Policies::default(),
            taken: None,
            connect: ConnectOptions::default(),
            #[cfg(feature = "tls")]
            tls: None,
            max_calls_in_flight: None,
            user_agent: None,
            single_answers: SingleAnswers::default(),
            undescribed: None,
            idle_timeout: Some(IDLE_TIMEOUT),
            zone: None,
            registry_service_config: true,
            measuring: Measuring::default(),
            tracing: None,
        }
    }

    /// Finds services in `registry`. Of several, the first finds those that are named alone, and a target with a
    /// scheme goes to the first of that scheme.
    pub fn registry(mut self, registry: &Registry) -> Self {
        self.registries.push(registry.clone());
        self
    }

    /// Balances by the policy of that name (`pick_first`, `round_robin`), whatever the service config says. Without
    /// either it is `round_robin`.
    pub fn policy(mut self, name: impl Into<String>) -> Self {
        self.policy = Some(name.into());
        self
    }

    /// Where this caller runs, for `zone_preference` of the service config.
    pub fn zone(mut self, zone: Zone) -> Self {
        self.zone = Some(zone);
        self
    }

    /// Whether a service config that the registry has for the service ([`Registry::set_document`]) is put in force, live,
    /// in place of the one given here. By default it is.
    pub fn registry_service_config(mut self, wanted: bool) -> Self {
        self.registry_service_config = wanted;
        self
    }

    /// Makes calls as gRPC's service config says, in JSON; `docs/service-config.md` is its reference. It holds while the
    /// registry has none.
    pub fn service_config(mut self, json: impl Into<String>) -> Self {
        self.service_config = Some(json.into());
        self
    }

    /// Knows methods by their descriptors: an encoded `google.protobuf.FileDescriptorSet`, such as `tonic_prost_build` writes for
    /// `file_descriptor_set_path`, and servers have for reflection. Those of several may be given one after the other.
    ///
    /// Calls of a method that answers once, and that the service config has attempted again (`retryPolicy`, `hedgingPolicy`),
    /// are then committed to an answer only when it is whole: where a server goes away in the middle of it, the policy says what
    /// follows, as if the server had gone before. About 256 KiB of an answer are kept back; of a larger one, the
    /// caller gets the beginning before the rest has come. Without descriptors, calls are committed as gRFC A6 says, by the
    /// response's headers, and so are those whose answer is a stream.
    ///
    /// [`build`](Self::build) refuses what cannot be decoded.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let channel = balance::Channel::builder("static:///10.0.0.1:1,10.0.0.2:1")
    ///     .descriptors(proto::DESCRIPTORS)
    ///     .service_config(
    ///         r#"{"methodConfig": [{
    ///             "name": [{"service": "helloworld.Greeter"}],
    ///             "retryPolicy": {
    ///                 "maxAttempts": 4, "initialBackoff": "0.01s", "maxBackoff": "1s", "backoffMultiplier": 2,
    ///                 "retryableStatusCodes": ["UNAVAILABLE"]
    ///             }
    ///         }]}"#,
    ///     )
    ///     .build()?;
    /// # drop(channel);
    /// # Ok(())
    /// # }
    /// ```
    pub fn descriptors(mut self, set: &[u8]) -> Self {
        if let Err(error) = self.single_answers.learn(set) {
            self.undescribed.get_or_insert(error);
        }
        self
    }

    /// Speaks TLS with every endpoint, as `tls` says. Without it nothing is encrypted.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Asks endpoints for signs of life as `keep_alive` says.
    pub fn keep_alive(mut self, keep_alive: KeepAlive) -> Self {
        self.connect = self.connect.with_keep_alive(keep_alive);
        self
    }

    /// Knows a policy of your own by `name`, for [`policy`](Self::policy) and for the service config.
    ///
    /// `make` is called with the policy's settings, an object of JSON: the service config's, or an empty one. Its error says
    /// what is wrong with them. A name that the crate has for a policy or for what goes around one, or that was registered
    /// before, is refused by [`build`](Self::build).
    ///
    /// ```
    /// use std::sync::Arc;
    /// use balance::policy::{CallInfo, Endpoint, Endpoints, Pick, Picker, Plan, Policy};
    ///
    /// /// All calls to the endpoint with the fewest in flight.
    /// struct LeastBusy;
    ///
    /// struct LeastBusyPicker(Arc<[Arc<Endpoint>]>);
    ///
    /// impl Policy for LeastBusy {
    ///     fn plan(&mut self, endpoints: &Endpoints<'_>) -> Plan {
    ///         endpoints.connect_all(|ready| Arc::new(LeastBusyPicker(ready)))
    ///     }
    /// }
    ///
    /// impl Picker for LeastBusyPicker {
    ///     fn pick(&self, call: &CallInfo<'_>) -> Pick<'_> {
    ///         let busy = |e: &&Arc<Endpoint>| (call.avoids(e), e.in_flight());
    ///         self.0.iter().min_by_key(busy).map_or(Pick::Queue, Pick::Ready)
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let channel = balance::Channel::builder("static:///10.0.0.1:1,10.0.0.2:1")
    ///     .register_policy("least_busy", |_settings| Ok(Box::new(LeastBusy)))
    ///     .policy("least_busy")
    ///     .build()?;
    /// # drop(channel);
    /// # Ok(())
    /// # }
    /// ```
    pub fn register_policy(
        mut self,
        name: impl Into<String>,
        make: impl Fn(&Value) -> Result<Box<dyn Policy>, String> + Send + Sync + 'static,
    ) -> Self {
        let name = name.into();
        if self.policies.has(&name) || service_config::goes_around(&name) {
            self.taken.get_or_insert(name);
        } else {
            self.policies.register(name, make);
        }
        self
    }

    /// Lets in at most so many calls at a time; those above fail at once with `RESOURCE_EXHAUSTED`, whose details are a
    /// `google.rpc.ErrorInfo` with the reason `CALLS_IN_FLIGHT_EXHAUSTED`. [`Priority`](crate::Priority) says who is
    /// refused first. Without this there is no budget.
    pub fn max_calls_in_flight(mut self, calls: usize) -> Self {
        self.max_calls_in_flight = Some(calls);
        self
    }

    /// Takes at most so many bytes of metadata in the headers of a response, and in its trailers as well, as HTTP/2 counts
    /// them: names, values and 32 bytes for each. A response with more fails its call with `RESOURCE_EXHAUSTED`. Without this
    /// it is 64 KiB.
    pub fn max_inbound_metadata_size(mut self, bytes: u32) -> Self {
        self.connect = self.connect.with_metadata_limit(bytes);
        self
    }

    /// Says in `user-agent` which program calls, before which library it calls by: `shop/7 grpc-rust-balance/0.1.0`. What a
    /// request says of itself in its metadata goes before both.
    ///
    /// [`build`](Self::build) refuses what is no value of a header.
    pub fn user_agent(mut self, program: impl Into<String>) -> Self {
        self.user_agent = Some(program.into());
        self
    }

    /// Lets the connections go after so long without a call; the next call connects again. `None` keeps them for ever;
    /// without this it is half an hour, as in other gRPC implementations.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = timeout.into();
        self
    }

    /// Measures the channel by `meter`: calls by the name that OpenTelemetry's RPC conventions have (`rpc.client.call.duration`),
    /// attempts by those of gRFC A66 (`grpc.client.attempt.duration`), further attempts by A96's, ejections by A91's, connections by
    /// A94's, weights by A78's, and endpoints, waiting calls and staleness as `balance.*`; `docs/debugging.md` lists them. Without this
    /// nothing is measured.
    ///
    /// `grpc.target` tells channels apart: of two to one target on one meter, what is `balance.*` is that of one of them.
    /// A meter holds its instruments for ever, so channels are to be shared, not made for each call.
    ///
    /// Attributes are bound to instruments once for each method and status (`bind`, which `opentelemetry_sdk` has, and which
    /// another implementation of OpenTelemetry's API has to have).
    pub fn meter(mut self, meter: &Meter) -> Self {
        self.measuring.meter = Some(meter.clone());
        self
    }

    /// Traces calls as `tracing` says: a CLIENT span a call, with a child for each of its attempts, and W3C's Trace Context in
    /// the headers of each. Without this none is made, and what a request says of a trace is sent as it is.
    ///
    /// A call belongs to what `tracing` says of the task that makes it, or else to what its own `traceparent` says; one that is
    /// not sampled makes no span.
    pub fn tracing(mut self, tracing: &Tracing) -> Self {
        self.tracing = Some(tracing.clone());
        self
    }

    /// Names just these methods in measurements (`helloworld.Greeter/SayHello`), and all others `other`, in OpenTelemetry's
    /// `rpc.method` `_OTHER`. Without this the first 256 methods that are called go by their names; who passes on the calls of others
    /// had better say which.
    pub fn measured_methods<S: Into<String>>(
        mut self,
        methods: impl IntoIterator<Item = S>,
    ) -> Self {
        self.measuring.methods = Named::Only(methods.into_iter().map(Into::into).collect());
        self
    }

    /// Tells these labels as well, each where its gRFC has it. By default none: each multiplies time series.
    pub fn optional_labels(mut self, labels: impl IntoIterator<Item = OptionalLabel>) -> Self {
        let labels = labels.into_iter();
        self.measuring.labels = labels.fold(self.measuring.labels, Labels::with);
        self
    }

    /// Whether to measure each endpoint's picks, by its id. By default not: each instance that ever was would stay a time
    /// series of its own.
    pub fn measure_endpoints(mut self, wanted: bool) -> Self {
        self.measuring.endpoints = wanted;
        self
    }
}
