//! A scene all of which is told to a collector.

use std::io::{Seek, Write};

use testkit::{otlp::Collector, process::Process};
use tokio::time::timeout;

use crate::running::{BOUND, Running, Scene};

/// A scene in which every call is traced, and metrics are pushed, in fractions of a second.
pub(crate) struct Telling {
    pub(crate) scene: Scene,
    pub(crate) collector: Collector,
    log_level: &'static str,
}

impl Telling {
    /// Whose processes log by that filter.
    pub(crate) async fn begin(log_level: &'static str) -> Self {
        Self {
            scene: Scene::new(),
            collector: Collector::start().await.expect("a collector"),
            log_level,
        }
    }

    fn environment(&self) -> [(&str, &str); 5] {
        [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", self.collector.endpoint()),
            // In milliseconds.
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "100"),
            ("DISCOVERY__TRACE__SAMPLE_RATIO", "1"),
            ("DISCOVERY__LOG__LEVEL", self.log_level),
        ]
    }

    pub(crate) async fn user_service(&self) -> Running {
        self.scene.user_service_with("", &self.environment()).await
    }

    pub(crate) async fn greeter(&self) -> Process {
        let mut command = self.scene.command("greeter-server", &[]);
        command.envs(self.environment());
        let greeter = Process::spawn("greeter-server", command).expect("it starts");
        let registered = greeter.wait_for_line("registered", BOUND).await;
        registered.expect("it registers");
        greeter
    }

    /// Runs `user-service admin` with these arguments and that line on its stdin, as the service `admin` of its telemetry, to its
    /// good end; gives what it prints on both streams.
    pub(crate) async fn admin(&self, arguments: &[&str], line: &str) -> Vec<u8> {
        let mut stdin = tempfile::tempfile().expect("a file");
        writeln!(stdin, "{line}").expect("written");
        stdin.rewind().expect("at its start");
        let mut command = self
            .scene
            .command("user-service", &["admin", "--timeout", "30s"]);
        command.args(arguments).envs(self.environment());
        command.env("OTEL_SERVICE_NAME", "admin").stdin(stdin);
        let mut command = tokio::process::Command::from(command);
        let output = timeout(BOUND, command.kill_on_drop(true).output()).await;
        let output = output.expect("it ends").expect("it starts");
        let printed = [output.stdout, output.stderr].concat();
        let shown = String::from_utf8_lossy(&printed);
        assert!(output.status.success(), "{shown}");
        printed
    }
}
