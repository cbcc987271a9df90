//! `certs`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};
use tempfile::TempDir;
use x509_parser::{
    extensions::GeneralName,
    pem::{Pem, parse_x509_pem},
    prelude::X509Certificate,
};

use crate::place::{BOUND, Place};

/// A directory to write certificates into, and a command line that needs no registry for it.
struct Desk {
    place: Place,
    directory: TempDir,
}

impl Desk {
    fn new() -> Self {
        Self {
            place: Place::directory(),
            directory: tempfile::tempdir().expect("a directory"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn arguments<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        let directory = self.directory.path().to_str().expect("a path");
        [&["certs", directory], arguments].concat()
    }

    async fn certs(&self, arguments: &[&str]) -> Value {
        self.place.json(&self.arguments(arguments)).await
    }

    async fn refusal(&self, arguments: &[&str]) -> String {
        self.place.refusal(&self.arguments(arguments)).await
    }

    /// All files with their contents.
    fn files(&self) -> Vec<(PathBuf, String)> {
        let entries = fs::read_dir(&self.directory).expect("a directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let mut files: Vec<_> = paths.map(|path| (path.clone(), text(&path))).collect();
        files.sort();
        files
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn pem(path: &Path) -> Pem {
    parse_x509_pem(text(path).as_bytes()).expect("PEM").1
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().expect("readable");
    let names = &names.expect("they are there").value.general_names;
    let said = names.iter().map(|name| match name {
        GeneralName::URI(name) | GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => format!("{bytes:?}"),
        other => panic!("{other:?}"),
    });
    said.collect()
}

fn mode(path: &Path) -> u32 {
    let metadata = fs::metadata(path).expect("it is there");
    metadata.permissions().mode() & 0o777
}

#[tokio::test]
async fn a_service_s_certificate_says_who_it_is_and_is_vouched_for() {
    let desk = Desk::new();
    let arguments = [
        "--domain",
        "shop.internal",
        "shop/basket=localhost,10.0.0.7",
    ];
    let told = desk.certs(&arguments).await;
    assert_eq!(told["domain"], "shop.internal");
    let one = &told["certificates"][0];
    assert_eq!(one["identity"], "spiffe://shop.internal/shop/basket");
    assert_eq!(
        one["names"],
        json!(["shop.basket", "localhost", "10.0.0.7"])
    );
    assert_eq!(one["outcome"], "made");

    let path = desk.path("shop.basket.pem");
    assert_eq!(one["certificate"], path.to_str().expect("a path"));
    let (ca, own) = (pem(&desk.path("ca.pem")), pem(&path));
    let (ca, own) = (
        ca.parse_x509().expect("one"),
        own.parse_x509().expect("one"),
    );
    assert_eq!(names(&ca), ["spiffe://shop.internal"]);
    assert!(ca.is_ca() && !own.is_ca());
    let identity = "spiffe://shop.internal/shop/basket";
    assert_eq!(
        names(&own),
        [identity, "shop.basket", "localhost", "[10, 0, 0, 7]"]
    );
    own.verify_signature(Some(ca.public_key())).expect("its");
    let usage = own.extended_key_usage().expect("readable").expect("there");
    assert!(usage.value.server_auth && usage.value.client_auth);
    let usage = own.key_usage().expect("readable").expect("there");
    assert!(usage.critical && usage.value.digital_signature() && !usage.value.key_cert_sign());

    for (certificate, name) in [(ca, "ca"), (own, "shop.basket")] {
        let path = desk.path(&format!("{name}-key.pem"));
        let key = KeyPair::try_from(pem(&path).contents).expect("a key");
        assert_eq!(certificate.public_key().raw, key.subject_public_key_info());
        assert_eq!(mode(&path), 0o600);
    }
}

#[tokio::test]
async fn a_second_run_renews_what_is_named_and_keeps_the_authority() {
    let desk = Desk::new();
    desk.certs(&["--domain", "shop.internal", "greeter", "user"])
        .await;
    let before = desk.files();
    // The domain is the authority's, unless it is said.
    let told = desk.certs(&["greeter", "client"]).await;
    assert_eq!(told["authority"]["outcome"], "kept");
    let outcomes: Vec<_> = told["certificates"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (one["identity"].clone(), one["outcome"].clone()))
        .collect();
    assert_eq!(
        outcomes,
        [
            (json!("spiffe://shop.internal/greeter"), json!("renewed")),
            (json!("spiffe://shop.internal/client"), json!("made")),
        ]
    );
    for (path, text_before) in before {
        let is_renewed = text(&path) != text_before;
        let name = path.file_name().expect("a name").to_string_lossy();
        assert_eq!(is_renewed, name.starts_with("greeter"), "{name}");
    }
    let nothing_else = desk.files().len();
    assert_eq!(nothing_else, 2 * 4, "an authority and three services");
}

#[tokio::test]
async fn a_certificate_is_valid_for_as_long_as_is_asked_and_no_longer_than_its_authority() {
    let desk = Desk::new();
    let arguments = ["--ca-valid-for", "10d", "--valid-for", "2h", "greeter"];
    let told = desk.certs(&arguments).await;
    let seconds = |of: &Value| {
        let until = of["valid_until"].as_str().expect("a time");
        let until = humantime::parse_rfc3339(until).expect("a time");
        let since = until.duration_since(std::time::UNIX_EPOCH);
        i64::try_from(since.expect("after 1970").as_secs()).expect("a time")
    };
    let first = (
        seconds(&told["authority"]),
        seconds(&told["certificates"][0]),
    );
    assert_eq!(first.0 - first.1, (10 * 24 - 2) * 3600);
    let shown = pem(&desk.path("greeter.pem"));
    let shown = shown.parse_x509().expect("one");
    assert_eq!(shown.validity().not_after.timestamp(), first.1);

    let told = desk.certs(&["--valid-for", "90d", "greeter"]).await;
    assert_eq!(seconds(&told["certificates"][0]), first.0);
}

#[tokio::test]
async fn what_is_not_its_own_is_never_overwritten() {
    let desk = Desk::new();
    desk.certs(&["greeter"]).await;
    let elsewhere = Desk::new();
    elsewhere
        .certs(&["--domain", "other.org", "user", "basket"])
        .await;
    let copy = |from: &str, to: &str| {
        fs::copy(elsewhere.path(from), desk.path(to)).expect("it is copied");
    };
    // Another authority's, another service's, half of a pair, and what is none.
    copy("user.pem", "user.pem");
    copy("user-key.pem", "user-key.pem");
    fs::copy(desk.path("greeter.pem"), desk.path("basket.pem")).expect("it is copied");
    copy("basket-key.pem", "basket-key.pem");
    copy("basket-key.pem", "half-key.pem");
    fs::write(desk.path("text.pem"), "no certificate").expect("it is written");
    fs::write(desk.path("text-key.pem"), "no key").expect("it is written");
    let before = desk.files();
    for (arguments, named) in [
        (&["greeter", "user"][..], "user.pem"),
        (&["basket"], "spiffe://example.org/basket"),
        (&["half"], "half-key.pem"),
        (&["text"], "text.pem"),
        (
            &["--domain", "other.org", "greeter"],
            "authority of example.org",
        ),
        (&["a/b", "a.b"], "a.b.pem"),
        (&["ca"], "ca.pem"),
        (&["ca-key"], "ca-key.pem"),
        (&["greeter", "greeter-key"], "greeter-key.pem"),
    ] {
        let line = desk.refusal(arguments).await;
        assert!(line.contains(named), "{line}");
        assert_eq!(desk.files(), before, "{arguments:?}");
    }
}

#[tokio::test]
async fn an_authority_that_cannot_sign_is_told_of() {
    let desk = Desk::new();
    desk.certs(&["greeter"]).await;
    let (ca, key) = (desk.path("ca.pem"), desk.path("ca-key.pem"));
    let (ca_text, key_text) = (text(&ca), text(&key));
    let other = text(&desk.path("greeter-key.pem"));
    let leaf = text(&desk.path("greeter.pem"));
    for (certificate, private, named) in [
        (&*ca_text, &*other, "not of one another"),
        (&leaf, &other, "no authority"),
        (&ca_text, "nonsense", "no private key"),
        ("nonsense", &key_text, "no certificate"),
    ] {
        fs::write(&ca, certificate).expect("it is written");
        fs::write(&key, private).expect("it is written");
        let line = desk.refusal(&["greeter"]).await;
        assert!(line.contains(named), "{line}");
        assert!(!line.contains("BEGIN"), "{line}");
    }
    fs::remove_file(&ca).expect("it is there");
    let line = desk.refusal(&["greeter"]).await;
    assert!(
        line.contains("ca-key.pem") && line.contains("without"),
        "{line}"
    );
    // A new one takes over what the one before it has signed.
    fs::remove_file(&key).expect("it is there");
    let told = desk.certs(&["greeter"]).await;
    assert_eq!(told["authority"]["outcome"], "made");
    assert_eq!(told["certificates"][0]["outcome"], "renewed");
}

#[tokio::test]
async fn an_authority_that_has_expired_signs_nothing_more() {
    let desk = Desk::new();
    desk.certs(&["--ca-valid-for", "1s", "greeter"]).await;
    let arguments = desk.arguments(&["greeter"]);
    let refused = async || desk.place.run(&arguments).await.code == Some(1);
    testkit::eventually(BOUND, "a refusal", refused).await;
    let line = desk.refusal(&["greeter"]).await;
    assert!(line.contains("ca.pem: has expired at"), "{line}");
}

#[tokio::test]
async fn a_wrong_name_or_domain_is_a_wrong_command_line() {
    let desk = Desk::new();
    for (arguments, named) in [
        (&[][..], "SERVICE"),
        (&["../etc"], "../etc"),
        (&["greeter=a b"], "a b"),
        (&["--domain", "Example.org", "greeter"], "Example.org"),
        (&["--valid-for", "soon", "greeter"], "10s"),
    ] {
        let ended = desk.place.run(&desk.arguments(arguments)).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        let said = ended.stderr.join("\n");
        assert!(said.contains(named), "{said}");
    }
    assert_eq!(desk.files(), []);
}
