//! Calls the greeter by its name, and shows what came of it: what `greeter-client` does, for a binary that does it under
//! another name.

mod args;
mod call;
mod counts;
mod json;
mod live;
mod load;
mod pace;
mod progress;
mod report;
mod run;
mod table;
mod text;

use std::{convert::Infallible, process::ExitCode};

use anyhow::{Result, bail};
use balance::{Channel, ConnectivityState};
use service_kit::{
    Admin, ClientConfig, Sections as _, Signals, Telemetry, channel_to,
    config::Flags,
    terminal::{Look, Output, print},
};

pub use crate::args::{Args, default_service_config};
use crate::{call::Greeter, progress::Goal, report::Report, run::Run};

/// Makes the calls, and prints what came of them; the exit code says whether one failed.
pub fn run(args: &Args) -> ExitCode {
    let defaults = Ok::<_, Infallible>(ClientConfig::default());
    service_kit::run(
        &args.kit,
        defaults,
        Flags::new(),
        async |config, telemetry| greet(args, &config, telemetry).await,
    )
}

async fn greet(args: &Args, config: &ClientConfig, telemetry: Telemetry) -> Result<ExitCode> {
    let signals = Signals::listen()?;
    let channel = connect(args, config, &telemetry).await?;
    let _admin = admin(args, &channel, telemetry)
        .serve(config.admin())
        .await?;
    let run = Run {
        greeter: Greeter::new(channel, args.kind(), args.timeout, args.fail_fast),
        service: args.service(),
        plan: args.plan(),
        goal: args.goal(),
        print_each: args.prints_each_call(),
    };
    let report = run.until_the_end(signals).await;
    let in_vain = report.calls == 0 && args.goal() != Goal::Never;
    if !in_vain || args.output == Output::Json {
        show(&report, args.output);
    }
    if in_vain {
        let why = run.greeter.why_nobody();
        bail!(
            "no call was made: {}",
            why.as_deref()
                .unwrap_or("the time was over before the first")
        );
    }
    Ok(if report.failures == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn connect(args: &Args, config: &ClientConfig, telemetry: &Telemetry) -> Result<Channel> {
    let mut channel = channel_to(&args.target, config, telemetry)
        .await?
        .user_agent(concat!(
            env!("CARGO_PKG_NAME"),
            "/",
            env!("CARGO_PKG_VERSION")
        ))
        .descriptors(proto::DESCRIPTORS)
        .service_config(args.service_config()?)
        // It calls one service, and shows who was called.
        .measure_endpoints(true);
    if let Some(policy) = &args.policy {
        channel = channel.policy(policy);
    }
    Ok(channel.build()?)
}

/// The page for operators: ready when there is somebody to call.
fn admin(args: &Args, channel: &Channel, telemetry: Telemetry) -> Admin {
    let (explained, asked) = (channel.clone(), channel.clone());
    Admin::new(telemetry)
        .channel(args.target.clone(), move || {
            serde_json::to_value(explained.explain())
                .unwrap_or_else(|error| error.to_string().into())
        })
        .ready(move || match asked.state() {
            ConnectivityState::Ready => Ok(()),
            state => Err(format!("the channel is {state}")),
        })
}

/// Prints the figures; whoever has closed stdout does not want them.
fn show(report: &Report, output: Output) {
    let text = match output {
        Output::Json => format!("{}\n", json::object(report)),
        Output::Table => table::draw(report, Look::of_stdout()),
    };
    if let Err(error) = print(&text) {
        tracing::debug!(%error, "the report cannot be written");
    }
}
