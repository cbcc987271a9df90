//! TLS and mutual TLS: a real greeter behind rustls.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use balance::{BuildError, Channel, ClientTls};
use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use registry::Address;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
        server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    },
};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status};

use crate::{
    client, greeter, hello,
    peer::{Peer, hang},
    register, registry,
    server::Server,
};

/// A certificate authority.
pub(crate) struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    fn issue(&self, name: &str) -> Identity {
        self.issue_with(name, |_| ())
    }

    pub(crate) fn issue_with(
        &self,
        name: &str,
        change: impl Fn(&mut CertificateParams),
    ) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("issued");
        Identity {
            certificate: certificate.der().clone(),
            key,
        }
    }

    fn vouches(&self) -> Arc<dyn ClientCertVerifier> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("an authority");
        let provider = Arc::new(default_provider());
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .expect("a verifier")
    }

    /// A client that trusts it.
    pub(crate) fn trusted(&self) -> ClientTls {
        ClientTls::new().with_authorities(self.pem())
    }
}

impl Identity {
    pub(crate) fn key_pem(&self) -> String {
        pem("PRIVATE KEY", self.key.serialized_der())
    }
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(64)
        .map(String::from_utf8_lossy)
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// A greeter behind TLS.
pub(crate) struct Secured {
    pub(crate) address: Address,
    pub(crate) server: Server,
    _task: AbortOnDropHandle<()>,
}

impl Secured {
    pub(crate) async fn start(identity: &Identity) -> Self {
        Self::start_with(identity, None, &[b"h2"]).await
    }

    /// `clients` are those whose certificates are asked for.
    pub(crate) async fn start_with(
        identity: &Identity,
        clients: Option<&Authority>,
        alpn: &[&[u8]],
    ) -> Self {
        let server = Server::start().await;
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = match clients {
            Some(authority) => builder.with_client_cert_verifier(authority.vouches()),
            None => builder.with_no_client_auth(),
        };
        let key = PrivatePkcs8KeyDer::from(identity.key.serialized_der().to_vec());
        let chain = vec![identity.certificate.clone()];
        let config = builder.with_single_cert(chain, PrivateKeyDer::from(key));
        let mut config = config.expect("a certificate and its key");
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = Address::from(listener.local_addr().expect("bound"));
        let to = server.address.socket_addr().expect("an IP address");
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut near = acceptor.accept(socket).await?;
                    let mut far = TcpStream::connect(to).await?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await
                });
            }
        });
        Self {
            address,
            server,
            _task: AbortOnDropHandle::new(task),
        }
    }
}

/// Calls the greeter that is registered at `address`.
pub(crate) async fn ask(address: &Address, tls: ClientTls) -> Result<String, Status> {
    let registry = registry();
    let _registration = register(&registry, address).await;
    let channel = Channel::builder(greeter().as_str())
        .registry(&registry)
        .tls(tls)
        .build()
        .expect("a channel");
    let answer = client(&channel).say_hello(hello("world")).await?;
    Ok(answer.into_inner().message)
}

/// What a call fails with.
pub(crate) async fn refusal(address: &Address, tls: ClientTls) -> String {
    let status = ask(address, tls).await.expect_err("no call is made");
    assert_eq!(status.code(), Code::Unavailable);
    let message = status.message().to_owned();
    assert!(message.contains(address.as_str()), "{message}");
    message
}

#[tokio::test]
async fn a_server_is_called_that_proves_to_be_the_service() {
    let authority = Authority::new();
    let secured = Secured::start(&authority.issue("greeter")).await;
    let answer = ask(&secured.address, authority.trusted()).await;
    let wanted = format!("Hello world from {}", secured.server.address);
    assert_eq!(answer.expect("an answer"), wanted);
}

#[tokio::test]
async fn a_client_is_called_back_to_prove_itself() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let identity = authority.issue("greeter");
    let secured = Secured::start_with(&identity, Some(&clients), &[b"h2"]).await;
    let own = clients.issue("caller");
    let tls = authority.trusted();
    let proven = tls
        .clone()
        .with_identity(pem("CERTIFICATE", &own.certificate), own.key_pem());
    ask(&secured.address, proven).await.expect("an answer");
    let message = refusal(&secured.address, tls.clone()).await;
    assert!(message.contains("CertificateRequired"), "{message}");
    let stranger = Authority::new().issue("caller");
    let unproven = tls.with_identity(
        pem("CERTIFICATE", &stranger.certificate),
        stranger.key_pem(),
    );
    let message = refusal(&secured.address, unproven).await;
    assert!(message.contains("alert"), "{message}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_with_both_names() {
    let authority = Authority::new();
    // The address is in it, and does not count: whoever writes the registry could name any.
    let both = authority.issue_with("basket", |params| {
        let ip = "127.0.0.1".parse().expect("an IP address");
        params.subject_alt_names.push(rcgen::SanType::IpAddress(ip));
    });
    let secured = Secured::start(&both).await;
    let message = refusal(&secured.address, authority.trusted()).await;
    assert!(message.contains("is for basket"), "{message}");
    assert!(message.contains("and not for greeter"), "{message}");
    let named = authority.trusted().with_server_name("basket");
    ask(&secured.address, named).await.expect("an answer");
}

#[tokio::test]
async fn an_ip_address_is_nobodys_name() {
    for target in ["static:///127.0.0.1:1", "static:///[::1]:1,127.0.0.1:1"] {
        let tls = Authority::new().trusted();
        let refused = Channel::builder(target).tls(tls.clone()).build();
        let refused = refused.expect_err("an address").to_string();
        assert!(refused.contains("?service=NAME"), "{refused}");
        let named = tls.with_server_name("greeter");
        let named = Channel::builder(target).tls(named).build();
        named.expect("a channel");
    }
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let secured = Secured::start(&Authority::new().issue("greeter")).await;
    let message = refusal(&secured.address, Authority::new().trusted()).await;
    assert!(message.contains("not vouched for"), "{message}");
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_refused() {
    let authority = Authority::new();
    let expired = authority.issue_with("greeter", |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let secured = Secured::start(&expired).await;
    let message = refusal(&secured.address, authority.trusted()).await;
    assert!(message.contains("has expired"), "{message}");
}

#[tokio::test]
async fn a_server_without_tls_or_without_http2_is_told_apart() {
    let authority = Authority::new();
    let plain = Server::start().await;
    let message = refusal(&plain.address, authority.trusted()).await;
    assert!(message.contains("does not speak TLS"), "{message}");
    let identity = authority.issue("greeter");
    for alpn in [&[][..], &[&b"http/1.1"[..]]] {
        let old = Secured::start_with(&identity, None, alpn).await;
        let message = refusal(&old.address, authority.trusted()).await;
        assert!(message.contains("not HTTP/2"), "{message}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_in_its_handshake_is_given_up_in_time() {
    let (tell, connected) = oneshot::channel();
    let tell = Mutex::new(Some(tell));
    let hung = Peer::start(move |_, socket, _| {
        let first = tell.lock().expect("no panic holds it").take();
        first.map(|tell| tell.send(()));
        hang(socket)
    })
    .await;
    let channel = Channel::builder(format!("static:///{}?service=greeter", hung.address))
        .tls(Authority::new().trusted())
        .build()
        .expect("a channel");
    connected.await.expect("it is connected to");
    tokio::time::pause();
    let mut request = hello("x");
    request.set_timeout(Duration::from_mins(1));
    let refused = client(&channel).say_hello(request).await;
    let status = refused.expect_err("no call is made");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let said = "no answer to a TLS handshake within 20s";
    assert!(status.message().contains(said), "{status}");
}

#[tokio::test]
async fn what_is_no_certificate_or_no_key_is_refused_and_never_shown() {
    let authority = Authority::new();
    let (one, other) = (authority.issue("a"), authority.issue("b"));
    let certificate = pem("CERTIFICATE", &one.certificate);
    let build = |tls: ClientTls| {
        let shown = format!("{tls:?}");
        assert!(
            !shown.contains("BEGIN") && !shown.contains("45, 45"),
            "{shown}"
        );
        let built = Channel::builder("static:///localhost:1").tls(tls).build();
        match built.expect_err("refused") {
            BuildError::Tls(invalid) => invalid.to_string(),
            other => panic!("{other}"),
        }
    };
    for (tls, says) in [
        (
            ClientTls::new().with_authorities("nonsense"),
            "there is no certificate",
        ),
        (authority.trusted().with_server_name("a b"), "\"a b\""),
        (
            authority.trusted().with_identity(&*certificate, "x"),
            "no private key",
        ),
        (
            authority.trusted().with_identity("x", one.key_pem()),
            "there is no certificate",
        ),
        (
            authority
                .trusted()
                .with_identity(&*certificate, other.key_pem()),
            "client's",
        ),
    ] {
        let message = build(tls);
        assert!(message.contains(says), "{message}");
        assert!(!message.contains("BEGIN"), "{message}");
    }
}
