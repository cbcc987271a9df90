//! What a binary that only calls others has of every channel.

use balance::Channel;

use crate::{Sections, Telemetry};

/// Begins a channel to `target` that goes by the `[registry]` and the `[tls]` of `config`, and measures and traces what it does with both. A
/// list of addresses (`static:`) is its own registry.
///
/// # Errors
/// When one of the two cannot be used; whether the registry answers is no error.
pub async fn channel_to(
    target: &str,
    config: &impl Sections,
    telemetry: &Telemetry,
) -> anyhow::Result<balance::Builder> {
    let mut channel = Channel::builder(target)
        .meter(&telemetry.meter("balance"))
        .tracing(&telemetry.tracing("balance"));
    let registry = (!target.starts_with("static:")).then(|| config.registry().connect());
    let registry = registry.transpose()?;
    let tls = config.tls().client().await?;
    telemetry.observe_credentials(registry.as_ref(), tls.as_ref());
    if let Some(registry) = &registry {
        telemetry.observe_registry(registry);
        channel = channel.registry(registry);
    }
    Ok(match tls {
        Some(tls) => channel.tls(tls),
        None => channel,
    })
}
