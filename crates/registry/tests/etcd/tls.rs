//! TLS with a cluster: whom we trust, whom it trusts, and what becomes of certificates that change.

use std::{fmt::Debug, fs, path::PathBuf, time::Duration};

use registry::{
    RegistrationState, Registry, Store as _, StoreError,
    backend::etcd::{EtcdError, EtcdOptions, EtcdStore, EtcdTls, TlsFailure},
};
use tempfile::TempDir;
use testkit::{
    etcd::{Cluster, ClusterOptions, ClusterTls},
    eventually,
    tls::{Authority, Identity, Signed},
};

use crate::support::{instance, service, soon};

const HOST: &str = "127.0.0.1";
/// More than anything here takes on a busy machine.
const BOUND: Duration = Duration::from_mins(1);

/// A cluster of one that asks for certificates, and the files of its certificates and a client's.
struct Secured {
    cluster: Cluster,
    authority: Authority,
    files: Files,
}

struct Files {
    directory: TempDir,
    /// Whom clients trust.
    authorities: PathBuf,
    /// Whom members trust.
    clients: PathBuf,
    server: Identity,
    client: Identity,
}

impl Files {
    fn signed_by(authority: &Authority) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let files = Self {
            authorities: directory.path().join("ca.pem"),
            clients: directory.path().join("clients.pem"),
            server: written(&directory, "server", authority.sign(HOST)),
            client: written(&directory, "client", authority.sign("ann")),
            directory,
        };
        files.trust(authority);
        files
    }

    fn trust(&self, authority: &Authority) {
        for file in [&self.authorities, &self.clients] {
            fs::write(file, authority.certificate()).expect("it is written");
        }
    }

    /// As a client that shows what was signed.
    fn client<E: Debug>(&self, signed: Result<Signed, E>) -> EtcdTls {
        let identity = written(&self.directory, "another", signed);
        self.tls().with_identity(identity.certificate, identity.key)
    }

    fn tls(&self) -> EtcdTls {
        EtcdTls::new()
            .with_authorities(&self.authorities)
            .with_identity(&self.client.certificate, &self.client.key)
    }
}

fn written<E: Debug>(directory: &TempDir, name: &str, signed: Result<Signed, E>) -> Identity {
    let signed = signed.expect("a certificate");
    signed.write(directory.path(), name).expect("it is written")
}

impl Secured {
    async fn start() -> Self {
        let authority = Authority::new().expect("an authority");
        let files = Files::signed_by(&authority);
        let tls = ClusterTls {
            identity: files.server.clone(),
            client_authority: Some(files.clients.clone()),
        };
        let options = ClusterOptions {
            tls: Some(tls),
            ..ClusterOptions::default()
        };
        let cluster = Cluster::start_like(1, options).await.expect("an etcd");
        Self {
            cluster,
            authority,
            files,
        }
    }

    fn store(&self, tls: EtcdTls) -> EtcdStore {
        let options: EtcdOptions = self.cluster.url("").parse().expect("a URL");
        EtcdStore::new(options.with_tls(tls))
    }

    async fn refusal(&self, tls: EtcdTls) -> TlsFailure {
        let refused = self.store(tls).services().await.expect_err("no TLS");
        tls_failure(&refused)
    }
}

fn tls_failure(error: &StoreError) -> TlsFailure {
    match EtcdError::of(error) {
        Some(EtcdError::Tls(failure)) => failure.clone(),
        other => panic!("{other:?}: {}", registry::one_line(error)),
    }
}

#[tokio::test]
async fn who_shows_a_certificate_to_members_that_are_trusted_registers_and_is_seen() {
    let secured = Secured::start().await;
    let store = || Registry::new(secured.store(secured.files.tls()));
    let registration = store().register(instance("secured", 1), Duration::from_secs(5));
    let mut watch = store().watch(&service("secured"));
    let seen = async {
        while watch
            .changed()
            .await
            .snapshot
            .is_none_or(|all| all.is_empty())
        {}
    };
    soon("the instance", seen).await;
    registration.deregister().await.expect("it is ours");
}

#[tokio::test]
async fn a_member_that_is_not_to_be_trusted_is_told_by_what_is_wrong_with_its_certificate() {
    let secured = Secured::start().await;
    let tls = secured.files.tls();
    let named = tls.clone().with_server_name("etcd.internal");
    let wrong_name = TlsFailure::WrongName {
        wanted: "etcd.internal".into(),
        presented: names_of_host(),
    };
    assert_eq!(secured.refusal(named.expect("a name")).await, wrong_name);

    let strangers = secured.files.directory.path().join("strangers.pem");
    let stranger = Authority::new().expect("an authority");
    fs::write(&strangers, stranger.certificate()).expect("it is written");
    let trusting_others = tls.clone().with_authorities(strangers);
    assert_eq!(
        secured.refusal(trusting_others).await,
        TlsFailure::UnknownAuthority
    );

    // etcd reads its certificate again for each connection.
    let expired = secured.authority.sign_expired(HOST);
    written(&secured.files.directory, "server", expired);
    assert_eq!(secured.refusal(tls).await, TlsFailure::Expired);
}

/// As rustls writes it.
fn names_of_host() -> String {
    format!("IpAddress({HOST})")
}

#[tokio::test]
async fn a_member_that_refuses_our_certificate_is_told_with_the_reason() {
    let secured = Secured::start().await;
    // It is not even shown.
    let expired = secured.files.client(secured.authority.sign_expired("ann"));
    let refused = secured.refusal(expired).await;
    assert!(
        matches!(&refused, TlsFailure::Unusable(why) if why.ends_with("another.pem has expired")),
        "{refused}"
    );

    let stranger = Authority::new().expect("an authority");
    let refused = secured
        .refusal(secured.files.client(stranger.sign("ann")))
        .await;
    assert!(matches!(refused, TlsFailure::OursRefused(_)), "{refused}");

    let nameless = EtcdTls::new().with_authorities(&secured.files.authorities);
    assert_eq!(secured.refusal(nameless).await, TlsFailure::NoCertificate);
}

#[tokio::test]
async fn a_member_without_tls_and_files_that_cannot_be_used_are_told_apart() {
    let plain = Cluster::start_one().await.expect("an etcd");
    let authority = Authority::new().expect("an authority");
    let files = Files::signed_by(&authority);
    let url = plain.url("").replace("etcd://", "etcds://");
    let refusal = async |tls: &EtcdTls| {
        let options: EtcdOptions = url.parse().expect("a URL");
        let store = EtcdStore::new(options.with_tls(tls.clone()));
        tls_failure(&store.services().await.expect_err("no TLS"))
    };
    let without_tls = refusal(&files.tls()).await;
    assert!(
        matches!(without_tls, TlsFailure::Closed | TlsFailure::NotTls),
        "{without_tls}"
    );

    let key = fs::read_to_string(&files.client.key).expect("a key");
    let absent = files.directory.path().join("absent.pem");
    let (certificate, key_file) = (&files.client.certificate, &files.client.key);
    for (tls, part) in [
        (
            files.tls().with_authorities(&absent),
            "absent.pem: No such file",
        ),
        (
            files.tls().with_authorities(key_file),
            "client-key.pem: there is no certificate",
        ),
        (
            files.tls().with_identity(certificate, certificate),
            "client.pem: there is no private key",
        ),
        (
            files
                .tls()
                .with_identity(&files.server.certificate, key_file),
            "server.pem: ",
        ),
    ] {
        let told = refusal(&tls).await.to_string();
        assert!(told.contains(part), "{part:?} is not in: {told}");
        let secret = key.lines().nth(1).expect("a line");
        assert!(!told.contains(secret), "{told}");
    }
}

/// Ends the connections that there are.
async fn restarted(cluster: &mut Cluster) {
    cluster.stop(0).await.expect("it is stopped");
    cluster.restart(0).await.expect("it is started");
}

#[tokio::test]
async fn certificates_are_rotated_under_a_registration_and_a_watch_that_lose_nothing() {
    let mut secured = Secured::start().await;
    let (owner, caller) = (
        Registry::new(secured.store(secured.files.tls())),
        Registry::new(secured.store(secured.files.tls())),
    );
    let registration = owner.register(instance("rotated", 1), Duration::from_secs(20));
    let mut states = registration.states();
    soon("a hold", states.wait_for(RegistrationState::is_held))
        .await
        .expect("it goes on");
    states.mark_unchanged();
    let mut watch = caller.watch(&service("rotated"));
    let count = watch.clone();
    let count = || count.view().snapshot.map_or(0, |all| all.len());
    while count() == 0 {
        soon("the instance", watch.changed()).await;
    }

    // Everything is new, down to whom either side trusts.
    let next = Authority::new().expect("an authority");
    let directory = &secured.files.directory;
    secured.files.trust(&next);
    written(directory, "server", next.sign(HOST));
    written(directory, "client", next.sign("ann"));
    restarted(&mut secured.cluster).await;
    let newcomer = owner.register(instance("rotated", 2), Duration::from_secs(20));
    while count() < 2 {
        soon("the newcomer", watch.changed()).await;
    }
    assert_eq!(owner.refused_files() + caller.refused_files(), 0);

    // What cannot be used changes nothing, and is counted: whom to trust, and who we are.
    fs::write(&secured.files.authorities, "no certificate").expect("it is written");
    fs::remove_file(&secured.files.client.key).expect("it is removed");
    restarted(&mut secured.cluster).await;
    newcomer.deregister().await.expect("it is ours");
    while count() > 1 {
        soon("that it is gone", watch.changed()).await;
    }
    // A disk that is slow keeps nobody from connecting, so that they may be counted later.
    let refused = || (owner.refused_files(), caller.refused_files());
    eventually(BOUND, "both to be counted", async || refused() == (2, 2)).await;
    let never_lost = !states.has_changed().expect("it goes on");
    assert!(never_lost, "{:?}", registration.state());
}

#[tokio::test]
async fn a_member_whose_authority_was_taken_out_is_trusted_no_more_whoever_we_are() {
    let mut secured = Secured::start().await;
    let store = secured.store(secured.files.tls());
    store.services().await.expect("it is trusted");
    let next = Authority::new().expect("an authority");
    fs::write(&secured.files.authorities, next.certificate()).expect("it is written");
    fs::write(&secured.files.client.key, "no key").expect("it is written");
    restarted(&mut secured.cluster).await;
    eventually(BOUND, "it to be refused", async || {
        let asked = store.services().await;
        let failure = asked.as_ref().err().and_then(|error| EtcdError::of(error));
        matches!(failure, Some(EtcdError::Tls(TlsFailure::UnknownAuthority)))
    })
    .await;

    // The certificate before is shown to the member that is trusted now.
    written(&secured.files.directory, "server", next.sign(HOST));
    restarted(&mut secured.cluster).await;
    eventually(BOUND, "an answer", async || store.services().await.is_ok()).await;
    assert_eq!(store.refused_files(), 1);
}

#[tokio::test]
async fn who_does_not_speak_tls_with_members_that_do_is_told_what_to_write() {
    let secured = Secured::start().await;
    let url = secured.cluster.url("").replace("etcds://", "etcd://");
    let store = EtcdStore::new(url.parse().expect("a URL"));
    let error = store.services().await.expect_err("it is refused");
    let told = registry::one_line(&error);
    assert!(told.contains("etcds://"), "{told}");
}
