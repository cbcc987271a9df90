//! gRPC's health service, driven by the life cycle: every service of the process has the process's status.

use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

/// The whole server, in gRPC's health protocol.
const WHOLE: &str = "";

/// What the health service answers.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    reporter: HealthReporter,
    services: Vec<&'static str>,
}

impl Health {
    /// The health of `services` and of the server as a whole: not serving yet.
    pub(crate) async fn new(services: Vec<&'static str>) -> Self {
        let services = services.into_iter().chain([WHOLE]).collect();
        let health = Self {
            reporter: HealthReporter::new(),
            services,
        };
        health.set(false).await;
        health
    }

    /// The service that answers.
    pub(crate) fn server(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }

    /// `SERVING` or `NOT_SERVING`, from now on.
    pub(crate) async fn set(&self, serving: bool) {
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for service in &self.services {
            self.reporter.set_service_status(*service, status).await;
        }
    }

    /// Ends every watch: one that goes on would keep its connection, and the server's end, waiting.
    pub(crate) async fn end(mut self) {
        for service in self.services {
            self.reporter.clear_service_status(service).await;
        }
    }
}
