//! etcd asks who we are, and the answers change while calls are made.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use tempfile::TempDir;
use testkit::{
    etcd::{Cluster, ClusterOptions, ClusterTls},
    fleet::Fleet,
    tls::Authority,
};
use tokio::time::Instant;

use super::members::{created, none_was_lost};
use crate::{
    caller::{Caller, deadline},
    outcome::Seen,
    scene::{NAMESPACE, PATIENCE, Pace, Scene, fleet},
};

const USER: &str = "greeter";
const HOST: &str = "127.0.0.1";

pub(super) async fn change(pace: Pace) -> Result<Seen> {
    let secrets = Secrets::new()?;
    let mut cluster = secrets.cluster().await?;
    let prefix = format!("{NAMESPACE}/");
    cluster.add_user(USER, "first", &prefix).await?;
    cluster.enable_authentication().await?;
    let mut fleet = fleet(&cluster)?;
    secrets.tell(&mut fleet);
    fleet.add_many(3).await?;
    let caller = Caller::start(&mut fleet, deadline(pace))?;
    caller.until_it_calls(&fleet.addresses(), PATIENCE).await?;
    let mut scene = Scene {
        caller,
        fleet,
        cluster,
        pace,
    };
    let before = created(&scene).await?;

    // A member forgets the tokens that it has given when it ends.
    restart_each(&mut scene).await?;
    scene.cluster.change_password(USER, "second").await?;
    secrets.set_password("second")?;
    restart_each(&mut scene).await?;
    secrets.rotate()?;
    restart_each(&mut scene).await?;
    none_was_lost(&scene, &before).await?;

    scene.fleet.add().await?;
    scene.right_again(Instant::now()).await?;
    let freshness = scene.caller.channel().await?["freshness"].clone();
    ensure!(freshness == "live", "the caller says {freshness}");
    let seen = Seen {
        remark: "each change is followed by connections to every member".into(),
        ..Seen::default()
    };
    scene.close(seen).await
}

/// Has every connection made anew, one member after another.
async fn restart_each(scene: &mut Scene) -> Result<()> {
    for member in 0..scene.cluster.len() {
        scene.cluster.stop(member).await?;
        scene.cluster.restart(member).await?;
    }
    scene.calm().await;
    Ok(())
}

/// The files that both sides read.
struct Secrets {
    directory: TempDir,
    authority: Authority,
}

impl Secrets {
    fn new() -> Result<Self> {
        let secrets = Self {
            directory: tempfile::tempdir()?,
            authority: Authority::new()?,
        };
        fs::write(secrets.file("ca.pem"), secrets.authority.certificate())?;
        secrets.rotate()?;
        secrets.set_password("first")?;
        Ok(secrets)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Certificates with new keys, for the members and for those that call them.
    fn rotate(&self) -> Result<()> {
        self.authority
            .sign(HOST)?
            .write(self.directory.path(), "member")?;
        self.authority
            .sign("client")?
            .write(self.directory.path(), "client")?;
        Ok(())
    }

    fn set_password(&self, password: &str) -> Result<()> {
        Ok(fs::write(self.file("password"), password)?)
    }

    async fn cluster(&self) -> Result<Cluster> {
        let identity = self
            .authority
            .sign(HOST)?
            .write(self.directory.path(), "member")?;
        let options = ClusterOptions {
            tls: Some(ClusterTls {
                identity,
                client_authority: Some(self.file("ca.pem")),
            }),
            // Checking a password is made as cheap as it can be.
            arguments: vec!["--bcrypt-cost=4".into()],
            ..ClusterOptions::default()
        };
        Cluster::start_like(3, options).await
    }

    fn tell(&self, fleet: &mut Fleet) {
        let text = |path: &Path| path.display().to_string();
        for (key, value) in [
            ("TLS__CA", text(&self.file("ca.pem"))),
            ("TLS__CERTIFICATE", text(&self.file("client.pem"))),
            ("TLS__KEY", text(&self.file("client-key.pem"))),
            ("USER", USER.to_owned()),
            ("PASSWORD_FILE", text(&self.file("password"))),
        ] {
            fleet.set_env(&format!("DISCOVERY__REGISTRY__{key}"), &value);
        }
    }
}
