//! `user-service`: keeps users, knows them by their passwords, and has them greeted.

mod admin;
mod args;
mod config;
mod password;
mod service;
mod storage;
mod token;
mod upkeep;

use std::process::ExitCode;

use anyhow::Result;
use balance::Channel;
use clap::Parser;
use proto::user::v1::user_service_server::UserServiceServer;
use service_kit::{Service, Telemetry, config::Flags};
use tokio::select;

use crate::{
    args::{Args, Command},
    config::UserConfig,
    password::Passwords,
    service::Users,
    storage::Storage,
};

/// Far more than any request needs. A message is whole in memory before it can be refused, and takes a dozen times its length there when
/// it is a mask of paths without a letter.
const LONGEST_REQUEST: usize = 64 * 1024;

/// Each greeter in turn, and another one when one of them could not answer or takes long: a greeting changes nothing, and can be asked for
/// twice.
const GREETER_SERVICE_CONFIG: &str = r#"{
  "loadBalancingConfig": [{"round_robin": {}}],
  "methodConfig": [{
    "name": [{"service": "helloworld.Greeter"}],
    "hedgingPolicy": {"maxAttempts": 4, "hedgingDelay": "0.25s", "nonFatalStatusCodes": ["UNAVAILABLE"]}
  }]
}"#;

fn main() -> ExitCode {
    let args = Args::parse();
    match args.command {
        None => service_kit::run(
            &args.kit,
            UserConfig::of_service(),
            args.server.flags(),
            serve,
        ),
        Some(Command::Admin(admin)) => service_kit::run(
            &args.kit,
            UserConfig::of_admin(),
            Flags::new(),
            async |config, telemetry| admin::run(&admin, &config, &telemetry).await,
        ),
    }
}

async fn serve(config: UserConfig, telemetry: Telemetry) -> Result<()> {
    config.check()?;
    let storage = Storage::new(
        &config.storage.url,
        config.storage.connections.get(),
        config.storage.timeout,
    )?;
    let passwords = Passwords::new(config.auth.parallelism)?;
    let service = Service::bind(&config, telemetry.clone()).await?;
    let greeter = greeter(&config, &service, &telemetry)?;
    let readiness = service.readiness();
    readiness.not_ready("the storage has not been opened yet");
    let explained = greeter.clone();
    let users = UserServiceServer::new(Users::new(storage.clone(), passwords, greeter, &config))
        .max_decoding_message_size(service.message_size().min(LONGEST_REQUEST));
    let service = service
        .add_service(users)
        .reflect(proto::DESCRIPTORS)
        .channel(config.greeter.target.clone(), move || {
            serde_json::to_value(explained.explain())
                .unwrap_or_else(|error| error.to_string().into())
        })
        .closes_within(config.storage.timeout);
    let outcome = select! {
        outcome = service.serve() => outcome,
        never = upkeep::keep(&storage, &readiness) => match never {},
    };
    storage.close().await;
    outcome
}

fn greeter(config: &UserConfig, service: &Service, telemetry: &Telemetry) -> Result<Channel> {
    let mut channel = Channel::builder(&config.greeter.target)
        .user_agent(concat!(
            env!("CARGO_PKG_NAME"),
            "/",
            env!("CARGO_PKG_VERSION")
        ))
        .registry(service.registry())
        .descriptors(proto::DESCRIPTORS)
        .service_config(GREETER_SERVICE_CONFIG)
        .meter(&telemetry.meter("balance"))
        .tracing(&telemetry.tracing("balance"));
    if let Some(tls) = service.client_tls() {
        channel = channel.tls(tls);
    }
    Ok(channel.build()?)
}
