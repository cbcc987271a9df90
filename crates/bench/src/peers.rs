//! The channels that are compared.

use anyhow::{Context, Result};
use balance::ConnectivityState;
use clap::ValueEnum;
use tonic::transport::{Channel, Endpoint};

/// A channel to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// tonic's `Channel` to one server: the yardstick.
    TonicOne,
    /// tonic's `Channel::balance_list` over three servers.
    TonicBalance,
    /// `balance::Channel`, round robin over three servers.
    Balance,
    /// The same with a deadline for each call and a retry policy.
    BalanceFull,
}

impl Peer {
    pub(crate) const ALL: [Self; 4] = [
        Self::TonicOne,
        Self::TonicBalance,
        Self::Balance,
        Self::BalanceFull,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TonicOne => "tonic Channel, one server",
            Self::TonicBalance => "tonic balance_list, three servers",
            Self::Balance => "balance::Channel, round robin, three servers",
            Self::BalanceFull => "the same with deadline and retry policy",
        }
    }

    /// The word by which the command line names it.
    pub(crate) fn word(self) -> String {
        self.to_possible_value()
            .expect("no peer is skipped")
            .get_name()
            .to_owned()
    }
}

const SERVICE_CONFIG: &str = r#"{"methodConfig":[{"name":[{}],"timeout":"10s","retryPolicy":{"maxAttempts":3,
    "initialBackoff":"0.05s","maxBackoff":"1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]}"#;

pub(crate) async fn tonic_one(addresses: &[String]) -> Result<Channel> {
    Endpoint::from_shared(format!("http://{}", addresses[0]))?
        .connect()
        .await
        .context("cannot connect")
}

pub(crate) fn tonic_balance(addresses: &[String]) -> Result<Channel> {
    let endpoints = addresses
        .iter()
        .map(|address| Endpoint::from_shared(format!("http://{address}")));
    Ok(Channel::balance_list(
        endpoints.collect::<Result<Vec<_>, _>>()?.into_iter(),
    ))
}

pub(crate) async fn balanced(addresses: &[String], full: bool) -> Result<balance::Channel> {
    let mut builder = balance::Channel::builder(format!("static:///{}", addresses.join(",")));
    if full {
        builder = builder.service_config(SERVICE_CONFIG);
    }
    let channel = builder.build()?;
    let mut state = channel.state();
    while state != ConnectivityState::Ready {
        state = channel.wait_for_state_change(state).await;
    }
    Ok(channel)
}
