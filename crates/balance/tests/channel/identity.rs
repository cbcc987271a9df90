//! Servers that say who they are with a URI in their certificate.

use std::{fs, path::Path, sync::Arc};

use balance::{BuildError, Channel, ClientTls, ConnectivityState};
use rcgen::{BasicConstraints, IsCa, KeyUsagePurpose, SanType, date_time_ymd};
use registry::tls::{CredentialFiles, Followed};

use crate::{
    client, greeter, hello, patient, register, registry,
    tls::{Authority, Identity, Secured, ask, pem, refusal},
    until,
};

const GREETER: &str = "spiffe://example.org/greeter";
const BASKET: &str = "spiffe://example.org/basket";

impl Authority {
    /// A certificate with these URIs, for a host that is nobody's.
    fn identify(&self, uris: &[&str]) -> Identity {
        self.issue_with("nowhere", |params| {
            let uris = uris.iter().map(|uri| (*uri).try_into().expect("ASCII"));
            params.subject_alt_names.extend(uris.map(SanType::URI));
        })
    }

    /// A client of the trust domain's.
    fn domain(&self) -> ClientTls {
        let domain = "example.org".parse().expect("a trust domain");
        self.trusted().with_trust_domain(domain)
    }
}

#[tokio::test]
async fn a_server_is_called_that_proves_to_be_the_service_whatever_its_host_is() {
    let authority = Authority::new();
    let secured = Secured::start(&authority.identify(&[GREETER])).await;
    ask(&secured.address, authority.domain())
        .await
        .expect("an answer");
    // Of those without a trust domain the host counts.
    let message = refusal(&secured.address, authority.trusted()).await;
    assert!(message.contains("is for nowhere"), "{message}");
}

#[tokio::test]
async fn another_service_s_certificate_is_refused_with_both_identities_and_explained() {
    let authority = Authority::new();
    // Its host's name is the service's, and does not count.
    let other = authority.issue_with("greeter", |params| {
        let uri = BASKET.try_into().expect("ASCII");
        params.subject_alt_names.push(SanType::URI(uri));
    });
    let secured = Secured::start(&other).await;
    let told = format!("is for {BASKET} and not for {GREETER}");
    let message = refusal(&secured.address, authority.domain()).await;
    assert!(message.contains(&told), "{message}");

    let registry = registry();
    let _registration = register(&registry, &secured.address).await;
    let channel = Channel::builder(greeter().as_str())
        .registry(&registry)
        .tls(authority.domain())
        .build()
        .expect("a channel");
    client(&channel)
        .say_hello(hello("world"))
        .await
        .expect_err("refused");
    let explained = serde_json::to_string(&channel.explain()).expect("JSON");
    assert!(explained.contains(&told), "{explained}");

    // It is found by who asks for it.
    let named = authority.domain().with_server_name("basket");
    ask(&secured.address, named).await.expect("an answer");
}

#[tokio::test]
async fn what_does_not_say_who_it_is_or_is_vouched_for_by_nobody_is_refused() {
    let authority = Authority::new();
    let of_an_authority = authority.issue_with("nowhere", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let uri = GREETER.try_into().expect("ASCII");
        params.subject_alt_names.push(SanType::URI(uri));
    });
    let signs_others = authority.issue_with("nowhere", |params| {
        params.key_usages = vec![KeyUsagePurpose::CrlSign];
        let uri = GREETER.try_into().expect("ASCII");
        params.subject_alt_names.push(SanType::URI(uri));
    });
    let expired = authority.issue_with("nowhere", |params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        let uri = GREETER.try_into().expect("ASCII");
        params.subject_alt_names.push(SanType::URI(uri));
    });
    for (shown, told) in [
        (
            authority.identify(&[]),
            "is for nobody (the certificate has 0",
        ),
        (
            authority.identify(&[GREETER, BASKET]),
            "is for nobody (the certificate has 2",
        ),
        (
            authority.identify(&["spiffe://example.com/greeter"]),
            "spiffe://example.com/greeter",
        ),
        (of_an_authority, "not usable"),
        (
            signs_others,
            "is for nobody (the certificate is an authority's",
        ),
        (expired, "has expired"),
        (Authority::new().identify(&[GREETER]), "not vouched for"),
    ] {
        let secured = Secured::start(&shown).await;
        let message = refusal(&secured.address, authority.domain()).await;
        assert!(message.contains(told), "{message}");
    }
}

#[tokio::test]
async fn a_list_of_addresses_names_no_service_unless_it_is_said() {
    let authority = Authority::new();
    let secured = Secured::start(&authority.identify(&[GREETER])).await;
    let target = format!("static:///{}", secured.address);
    let build = |target: &str, tls| Channel::builder(target).tls(tls).build();
    let refused = build(&target, authority.domain()).expect_err("no service");
    assert!(matches!(refused, BuildError::Tls(_)), "{refused}");
    for said in ["example.org", "?service=NAME"] {
        assert!(refused.to_string().contains(said), "{refused}");
    }
    let by_name = authority.domain().with_server_name("greeter");
    let by_target = |service| format!("{target}?service={service}");
    for (target, tls) in [
        (target.clone(), by_name),
        (by_target("greeter"), authority.domain()),
    ] {
        let channel = build(&target, tls).expect("a channel");
        let answer = client(&channel).say_hello(hello("world")).await;
        answer.expect("an answer");
    }
    let other = build(&by_target("basket"), authority.domain()).expect("a channel");
    let refused = client(&other).say_hello(hello("world")).await;
    let refused = refused.expect_err("it is the greeter");
    let told = format!("is for {GREETER} and not for {BASKET}");
    assert!(refused.message().contains(&told), "{refused}");
}

/// Writes whom to trust and who we are.
fn write(files: &Path, authority: &Authority, own: &Identity) {
    let certificate = pem("CERTIFICATE", &own.certificate);
    for (name, text) in [
        ("ca.pem", authority.pem()),
        ("own.pem", certificate),
        ("own-key.pem", own.key_pem()),
    ] {
        fs::write(files.join(name), text).expect("it is written");
    }
}

fn follow(files: &Path) -> Arc<Followed> {
    CredentialFiles::new()
        .with_authorities(files.join("ca.pem"))
        .with_identity(files.join("own.pem"), files.join("own-key.pem"))
        .follow()
}

#[tokio::test]
async fn files_that_change_count_from_the_next_connection_on() {
    let (first, second) = (Authority::new(), Authority::new());
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), &first, &first.identify(&[BASKET]));
    let files = follow(directory.path());
    let domain = "example.org".parse().expect("a trust domain");
    let tls = ClientTls::new()
        .with_files(Arc::clone(&files))
        .with_trust_domain(domain);
    let registry = registry();
    let channel = Channel::builder(greeter().as_str())
        .registry(&registry)
        .tls(tls)
        .build()
        .expect("a channel");

    for authority in [&first, &second] {
        write(directory.path(), authority, &authority.identify(&[BASKET]));
        let shown = authority.identify(&[GREETER]);
        let secured = Secured::start_with(&shown, Some(authority), &[b"h2"]).await;
        let registration = register(&registry, &secured.address).await;
        let answer = client(&channel).say_hello(patient("world")).await;
        let wanted = format!("Hello world from {}", secured.server.address);
        assert_eq!(answer.expect("an answer").into_inner().message, wanted);
        registration.deregister().await.expect("it is ours");
        secured.server.shut_down();
        // Whoever has left is nobody's last resort once the connection has broken.
        let nobody = || channel.state() == ConnectivityState::TransientFailure;
        until("nobody is left", nobody).await;
    }
    assert_eq!(files.refused(), 0);

    // What cannot be used takes nothing away.
    fs::write(directory.path().join("own.pem"), "no certificate").expect("it is written");
    let shown = second.identify(&[GREETER]);
    let secured = Secured::start_with(&shown, Some(&second), &[b"h2"]).await;
    let _registration = register(&registry, &secured.address).await;
    client(&channel)
        .say_hello(patient("world"))
        .await
        .expect("an answer");
    assert_eq!(files.refused(), 1);
}

#[tokio::test]
async fn a_server_whose_authority_was_taken_out_is_trusted_no_more_though_ours_was_too() {
    let (first, second) = (Authority::new(), Authority::new());
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), &first, &first.identify(&[BASKET]));
    let files = CredentialFiles::new()
        .with_authorities(directory.path().join("ca.pem"))
        .with_identity(
            directory.path().join("own.pem"),
            directory.path().join("own-key.pem"),
        )
        .with_vouched_identity()
        .follow();
    let domain = "example.org".parse().expect("a trust domain");
    let tls = ClientTls::new()
        .with_files(Arc::clone(&files))
        .with_trust_domain(domain);
    // Both take callers of the first.
    let start = async |shown: &Authority| {
        let shown = shown.identify(&[GREETER]);
        Secured::start_with(&shown, Some(&first), &[b"h2"]).await
    };
    let (of_first, of_second) = (start(&first).await, start(&second).await);
    let answer = ask(&of_first.address, tls.clone()).await;
    answer.expect("it is trusted");

    fs::write(directory.path().join("ca.pem"), second.pem()).expect("it is written");
    let message = refusal(&of_first.address, tls.clone()).await;
    assert!(message.contains("not vouched for"), "{message}");
    let answer = ask(&of_second.address, tls).await;
    answer.expect("it is shown the certificate before");
    assert_eq!(files.refused(), 1);
}

#[tokio::test]
async fn files_that_cannot_be_used_at_the_start_are_told_of_then() {
    let directory = tempfile::tempdir().expect("a directory");
    let tls = ClientTls::new().with_files(follow(directory.path()));
    let built = Channel::builder("static:///localhost:1").tls(tls).build();
    let refused = built.expect_err("no file").to_string();
    assert!(refused.contains("ca.pem"), "{refused}");
}
