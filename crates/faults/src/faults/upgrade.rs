//! etcd is upgraded, member by member.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::{
    etcd::next_programs,
    process::{Process, binary},
    until,
};

use super::members::{created, none_was_lost};
use crate::{
    outcome::Seen,
    scene::{NAMESPACE, PATIENCE, Pace, Scene},
};

pub(super) async fn each_upgraded(pace: Pace) -> Result<Seen> {
    let next = next_programs()?;
    let mut scene = Scene::open(pace).await?;
    let before = created(&scene).await?;
    let (from, _) = scene.cluster.versions().await?;
    for member in 0..scene.cluster.len() {
        scene.cluster.upgrade(member, &next).await?;
        scene.calm().await;
        none_was_lost(&scene, &before).await?;
        doctor_sees_the_versions(&scene).await?;
    }
    let to = until(PATIENCE, "the cluster to be upgraded", async || {
        let (versions, together) = scene.cluster.versions().await?;
        let newest = minor(&versions[0]);
        ensure!(
            versions.iter().all(|version| minor(version) == newest) && minor(&together) == newest,
            "members run {versions:?}, and together they are {together}"
        );
        Ok(versions)
    });
    let to = to.await?;
    none_was_lost(&scene, &before).await?;
    let remark = format!("from etcd {} to {}", from[0], to[0]);
    let seen = Seen {
        remark,
        ..Seen::default()
    };
    scene.close(seen).await
}

/// `3.5` of `3.5.16`.
fn minor(version: &str) -> &str {
    version
        .match_indices('.')
        .nth(1)
        .map_or(version, |(at, _)| &version[..at])
}

/// That an operator is told of members with different versions while there are any.
async fn doctor_sees_the_versions(scene: &Scene) -> Result<()> {
    let (versions, _) = scene.cluster.versions().await?;
    let differ = versions.iter().any(|version| *version != versions[0]);
    let mut command = Command::new(binary("discovery")?);
    command
        .args(["--registry", &scene.cluster.url(NAMESPACE)])
        .args(["doctor", "--slow", "1m", "--output", "json"]);
    let doctor = Process::spawn("doctor", command)?;
    let (_status, printed) = doctor.printed(PATIENCE).await?;
    let said: Value = serde_json::from_str(printed.first().context("doctor says nothing")?)?;
    let findings = said["findings"].as_array().context("no findings")?;
    let told = findings.iter().any(|finding| {
        let found = finding["found"].as_str().unwrap_or_default();
        finding["level"] == "warning" && found.starts_with("run different versions: ")
    });
    ensure!(
        told == differ,
        "members run {versions:?}, and doctor says {said}"
    );
    Ok(())
}
