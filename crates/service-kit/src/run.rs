//! From the command line to the exit code: what every binary does before and after its own work.

use std::{
    error::Error,
    io::{self, Write},
    process::{ExitCode, Termination},
};

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{
    admin,
    args::KitArgs,
    config::{self, Flags, Sections, Sources},
    telemetry::Telemetry,
    terminal::print,
};

/// Runs a binary: reads its configuration, answers `--print-config`, `--health-check` and `--admin-page`, starts logs and metrics, and
/// runs `program` on a runtime of its own. An error is one line on stderr and exit code 1.
///
/// `defaults` is the lowest layer of the configuration, `flags` what the binary's own arguments set in it.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use clap::Parser;
/// use service_kit::{KitArgs, ServiceConfig, config::Flags};
///
/// /// Says where its registry is.
/// #[derive(Parser)]
/// #[command(version)]
/// struct Args {
///     #[command(flatten)]
///     kit: KitArgs,
/// }
///
/// fn main() -> ExitCode {
///     let args = Args::parse();
///     service_kit::run(&args.kit, ServiceConfig::named("greeter"), Flags::new(), async |config, _telemetry| {
///         println!("{}", config.registry.connect()?.url());
///         Ok(())
///     })
/// }
/// ```
pub fn run<C, E, T>(
    args: &KitArgs,
    defaults: Result<C, E>,
    flags: Flags,
    program: impl AsyncFnOnce(C, Telemetry) -> anyhow::Result<T>,
) -> ExitCode
where
    C: Sections,
    E: Error + Send + Sync + 'static,
    T: Termination,
{
    let outcome = defaults
        .map_err(anyhow::Error::from)
        .and_then(|defaults| configured(args, &defaults, flags, program));
    outcome.unwrap_or_else(|error| {
        // Stderr may be closed; the exit code still tells.
        let _ = writeln!(io::stderr(), "error: {}", in_one_line(&error));
        ExitCode::FAILURE
    })
}

fn configured<C: Sections, T: Termination>(
    args: &KitArgs,
    defaults: &C,
    flags: Flags,
    program: impl AsyncFnOnce(C, Telemetry) -> anyhow::Result<T>,
) -> anyhow::Result<ExitCode> {
    let sources = Sources::of_process(args.sources.config.clone(), args.flags().and(flags))?;
    let config = config::load(defaults, &sources)?;
    if args.sources.print_config {
        return printed(&config::to_toml(&config)?);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(async {
        if args.health_check {
            return printed(&admin::check(config.admin().listen).await?);
        }
        if let Some(path) = &args.admin_page {
            return printed(&admin::page(config.admin().listen, path).await?);
        }
        let telemetry = Telemetry::start(&config)?;
        allow_open_files();
        let outcome = program(config, telemetry.clone()).await;
        telemetry.flush().await;
        outcome.map(Termination::report)
    });
    // Whatever is left has been given its time already.
    runtime.shutdown_background();
    outcome
}

/// Lets this process have as many files open as it may at most (`RLIMIT_NOFILE`): each connection is one, and each
/// registration in a directory. The usual limit of 1,024 is for programs that call `select`, which none of ours does.
fn allow_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

fn printed(text: &str) -> anyhow::Result<ExitCode> {
    print(text).map(|_| ExitCode::SUCCESS)
}

/// The error and its causes in one line, whatever line breaks (a TOML parser's drawing, say) are in them.
fn in_one_line(error: &anyhow::Error) -> String {
    let text = registry::one_line(error.as_ref());
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join(" ")
}
