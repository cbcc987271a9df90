//! A server whose registry is an etcd behind TLS that asks for a password: all of it changes, and nobody notices.

use std::{fs, path::Path};

use registry::Status;
use tempfile::TempDir;
use testkit::{
    Signal,
    etcd::{Cluster, ClusterOptions, ClusterTls},
    eventually,
    tls::Authority,
};

use crate::running::{BOUND, Running, command, greeters, runtime, spawn};

const HOST: &str = "127.0.0.1";

/// Writes certificates of a new authority's, and whom to trust.
fn certify(files: &Path) -> ClusterTls {
    let authority = Authority::new().expect("an authority");
    let sign = |name, of| {
        let signed = authority.sign(of).expect("a certificate");
        signed.write(files, name).expect("it is written")
    };
    let ca = files.join("ca.pem");
    fs::write(&ca, authority.certificate()).expect("it is written");
    sign("greeter", "greeter");
    ClusterTls {
        identity: sign("etcd", HOST),
        client_authority: Some(ca),
    }
}

/// A cluster of one where `greeter` may use `shop/`.
async fn secured(files: &Path) -> Cluster {
    let options = ClusterOptions {
        tls: Some(certify(files)),
        arguments: vec!["--bcrypt-cost=4".into()],
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::start_like(1, options).await.expect("an etcd");
    let added = cluster.add_user("greeter", "first-secret", "shop/").await;
    added.expect("a user");
    let enabled = cluster.enable_authentication().await;
    enabled.expect("it asks for passwords");
    cluster
}

/// A server that is configured by its environment alone.
async fn start(runtime: &TempDir, files: &Path, url: &str) -> Running {
    let mut command = command(runtime.path(), &["--registry", url]);
    command.env("DISCOVERY__REGISTRY__USER", "greeter");
    for (key, file) in [
        ("PASSWORD_FILE", "password"),
        ("TLS__CA", "ca.pem"),
        ("TLS__CERTIFICATE", "greeter.pem"),
        ("TLS__KEY", "greeter-key.pem"),
    ] {
        command.env(format!("DISCOVERY__REGISTRY__{key}"), files.join(file));
    }
    spawn(command).await
}

#[tokio::test]
async fn certificates_and_passwords_change_under_a_server_that_stays_registered() {
    let (runtime, files) = (runtime(), tempfile::tempdir().expect("a directory"));
    let files = files.path();
    let write_password =
        |password| fs::write(files.join("password"), password).expect("it is written");
    write_password("first-secret\n");
    let mut cluster = secured(files).await;
    let server = start(&runtime, files, &cluster.url("shop")).await;
    // An operator's own way in.
    let operator = cluster.own_url("shop").replace("://", "://root:root@");
    let operator = registry::connect(&operator).expect("a registry");
    let serving = [(server.address.clone(), Status::Serving)];
    eventually(BOUND, "the greeter", async || {
        greeters(&operator).await == serving
    })
    .await;

    write_password("second-secret\n");
    let changed = cluster.change_password("greeter", "second-secret").await;
    changed.expect("it is changed");
    certify(files);
    cluster.stop(0).await.expect("it is stopped");
    cluster.restart(0).await.expect("it is started");
    let ready = async || server.admin_page("/readyz").await.contains("200 OK");
    eventually(BOUND, "a server that is ready", ready).await;

    server.process.signal(Signal::SIGTERM).expect("it runs");
    let status = server.process.wait(BOUND).await.expect("it ends");
    assert_eq!(status.code(), Some(0));
    assert_eq!(greeters(&operator).await, []);
    for line in server.process.output() {
        assert!(!line.text.contains("-secret"), "{}", line.text);
        assert!(!line.text.contains("registration lost"), "{}", line.text);
    }
}
