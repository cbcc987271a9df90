//! Greets, and is found by its name: what `greeter-server` does, for a binary that does it under another name.

mod greeter;

use std::process::ExitCode;

use clap::Parser;
use greeter::Greeter;
use proto::helloworld::greeter_server::GreeterServer;
use service_kit::{KitArgs, ServerArgs, Service, ServiceConfig};

const EXAMPLES: &str = "\
Examples:
  greeter-server
      A greeter on a free port of 127.0.0.1, in this user's file registry.
      Start as many as you like: `greeter-client` finds them all.
  greeter-server --listen 0.0.0.0:50051 --registry etcd://h1:2379,h2:2379
      A greeter for other hosts, in an etcd. It advertises the address by
      which this host reaches etcd.
  greeter-server --listen 0.0.0.0:50051 --advertise greeter-0.example:50051
      The same behind a name of its own.
  greeter-server --config greeter.toml --print-config
      What is in force, from every layer: defaults, file, arguments, and
      DISCOVERY__SECTION__KEY in the environment.

On SIGTERM or Ctrl-C callers are told to go elsewhere and calls in flight
are finished; a second one ends it at once.";

/// Greets: answers `Hello NAME from ADDRESS`, and is found by its service's name.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    kit: KitArgs,
}

/// Greets until it is told to end.
pub fn run(args: &Args) -> ExitCode {
    let (defaults, flags) = (ServiceConfig::named("greeter"), args.server.flags());
    service_kit::run(&args.kit, defaults, flags, async |config, telemetry| {
        let service = Service::bind(&config, telemetry).await?;
        let greeter = GreeterServer::new(Greeter::new(service.address()))
            .max_decoding_message_size(service.message_size());
        service
            .add_service(greeter)
            .reflect(proto::DESCRIPTORS)
            .serve()
            .await
    })
}
