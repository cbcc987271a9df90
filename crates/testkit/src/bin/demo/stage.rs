//! Where the greeters register.

use anyhow::{Context, Result};
use tempfile::TempDir;
use testkit::etcd::Cluster;

use crate::narrator::Narrator;

/// A registry of the demo's own, gone with it.
pub(crate) enum Stage {
    File(TempDir),
    Etcd(Cluster),
}

impl Stage {
    pub(crate) fn file() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("demo-").tempdir();
        Ok(Self::File(
            directory.context("cannot make a directory for the registry")?,
        ))
    }

    pub(crate) async fn etcd(narrator: &Narrator) -> Result<Self> {
        narrator.step("start an etcd cluster of three members on this machine");
        Ok(Self::Etcd(Cluster::start(3).await?))
    }

    /// The registry's URL.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::File(directory) => format!("file://{}/registry", directory.path().display()),
            Self::Etcd(cluster) => cluster.url("demo"),
        }
    }

    /// What kind of place that is.
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Self::File(_) => "a directory of this machine: no server, no etcd",
            Self::Etcd(_) => "three etcd members on this machine",
        }
    }
}
