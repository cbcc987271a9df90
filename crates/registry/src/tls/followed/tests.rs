use std::{fs, path::Path};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyUsagePurpose, date_time_ymd};
use tempfile::TempDir;
use testkit::tls::{Authority, Signed};
use tokio::time::{Instant, sleep};
use tokio_rustls::rustls::{
    RootCertStore,
    pki_types::{CertificateDer, TrustAnchor, pem::PemObject},
};

use super::{
    Arc, CredentialFiles, Credentials, Followed, LOOK_EVERY, Looking, MOMENT, PATIENCE, Validity,
};

const GREETER: &str = "spiffe://example.org/greeter";

/// An authority, and a directory with what it has signed.
struct Scene {
    directory: TempDir,
    authority: Authority,
}

impl Scene {
    fn new() -> Self {
        let scene = Self {
            directory: tempfile::tempdir().expect("a directory"),
            authority: Authority::new().expect("an authority"),
        };
        scene.write("ca.pem", scene.authority.certificate());
        scene.show(GREETER);
        scene
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).expect("it is written");
    }

    fn trust(&self, authorities: &[&Authority]) {
        self.write("ca.pem", &pem(authorities));
    }

    fn sign(&self, id: &str) -> Signed {
        self.authority.sign_spiffe(id).expect("a certificate")
    }

    fn show(&self, id: &str) {
        let written = self.sign(id).write(self.path(), "own");
        written.expect("it is written");
    }

    fn follow(&self) -> Arc<Followed> {
        CredentialFiles::new()
            .with_authorities(self.path().join("ca.pem"))
            .with_identity(self.path().join("own.pem"), self.path().join("own-key.pem"))
            .with_spiffe_id(GREETER.parse().expect("an id"))
            .for_server()
            .follow()
    }
}

fn pem(authorities: &[&Authority]) -> String {
    authorities.iter().map(|one| one.certificate()).collect()
}

/// As they are trusted.
fn roots(authorities: &[&Authority]) -> Vec<TrustAnchor<'static>> {
    let pem = pem(authorities);
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
    let mut roots = RootCertStore::empty();
    for certificate in certificates.map(|one| one.expect("a certificate")) {
        roots.add(certificate).expect("an authority");
    }
    roots.roots
}

async fn in_force(files: &Arc<Followed>) -> Arc<Credentials> {
    files.in_force().await.expect("something is in force")
}

async fn refusal(files: &Arc<Followed>) -> String {
    files.in_force().await.expect_err("nothing can be used")
}

#[tokio::test(start_paused = true)]
async fn a_file_that_becomes_unusable_is_noticed_within_a_minute_and_counted_once() {
    let scene = Scene::new();
    let files = scene.follow();
    let first = in_force(&files).await;
    let looking = tokio::spawn(Arc::clone(&files).look_on());
    let minutes = async |count| sleep(LOOK_EVERY * count).await;
    minutes(2).await;
    assert_eq!(files.refused(), 0);
    scene.write("ca.pem", "no certificate");
    minutes(5).await;
    assert_eq!(files.refused(), 1);
    fs::remove_file(scene.path().join("ca.pem")).expect("it is removed");
    minutes(5).await;
    assert_eq!(files.refused(), 2);
    assert!(Arc::ptr_eq(&first, &in_force(&files).await));
    looking.abort();
}

#[tokio::test(start_paused = true)]
async fn a_certificate_for_somebody_else_cannot_be_used_and_takes_nothing_away() {
    let scene = Scene::new();
    scene.show("spiffe://example.org/basket");
    let files = scene.follow();
    let refusal = refusal(&files).await;
    let told = format!("own.pem is for spiffe://example.org/basket and not for {GREETER}");
    assert!(refusal.ends_with(&told), "{refusal}");

    scene.show(GREETER);
    let ours = in_force(&files).await;
    scene.show("spiffe://example.org/basket");
    assert!(Arc::ptr_eq(&ours, &in_force(&files).await));
    assert_eq!(files.refused(), 1);
    scene.show(GREETER);
    assert!(!Arc::ptr_eq(&ours, &in_force(&files).await));
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_is_taken_out_is_trusted_no_more_though_it_is_ours() {
    let scene = Scene::new();
    let files = scene.follow();
    let before = in_force(&files).await;
    let next = Authority::new().expect("an authority");
    scene.write("ca.pem", next.certificate());
    let now = in_force(&files).await;
    assert_eq!(now.authorities.roots, roots(&[&next]));
    assert_eq!(now.certificate(), before.certificate(), "there is no other");
    for _ in 0..3 {
        assert!(Arc::ptr_eq(&now, &in_force(&files).await));
    }
    assert_eq!(files.refused(), 1);

    // Nobody starts with it.
    let refused = refusal(&scene.follow()).await;
    assert!(refused.contains("none of the authorities"), "{refused}");

    let renewed = next.sign_spiffe(GREETER).expect("a certificate");
    renewed.write(scene.path(), "own").expect("it is written");
    let renewed = in_force(&files).await;
    assert_eq!(renewed.authorities.roots, roots(&[&next]));
    assert_ne!(renewed.certificate(), before.certificate());
    assert_eq!(files.refused(), 1);
}

#[tokio::test(start_paused = true)]
async fn whatever_is_wrong_with_our_certificate_the_authorities_are_those_of_the_file() {
    let scene = Scene::new();
    let files = scene.follow();
    let shown = in_force(&files).await;
    let unusable: [(&str, &dyn Fn()); 4] = [
        ("own.pem", &|| scene.write("own.pem", "no certificate")),
        ("own-key.pem", &|| scene.write("own-key.pem", "no key")),
        ("expired", &|| {
            let expired = scene.authority.sign_spiffe_expired(GREETER);
            let expired = expired.expect("a certificate");
            expired.write(scene.path(), "own").expect("it is written");
        }),
        ("no file", &|| {
            fs::remove_file(scene.path().join("own-key.pem")).expect("it is removed");
        }),
    ];
    for (what, spoil) in unusable {
        let another = Authority::new().expect("an authority");
        scene.trust(&[&scene.authority, &another]);
        scene.show(GREETER);
        let good = in_force(&files).await;
        spoil();
        scene.trust(&[&another]);
        let now = in_force(&files).await;
        assert_eq!(now.authorities.roots, roots(&[&another]), "{what}");
        assert_eq!(now.certificate(), good.certificate(), "{what}");
        assert_ne!(now.certificate(), shown.certificate(), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn authorities_that_are_half_written_or_none_take_nobody_s_trust_away() {
    let scene = Scene::new();
    let files = scene.follow();
    let first = in_force(&files).await;
    let next = Authority::new().expect("an authority");
    let pem = next.certificate();
    let nonsense = "-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n";
    let both = format!("{pem}{nonsense}");
    for (times, half) in ["", &pem[..pem.len() / 2], nonsense, &both]
        .into_iter()
        .enumerate()
    {
        scene.write("ca.pem", half);
        for _ in 0..2 {
            assert!(Arc::ptr_eq(&first, &in_force(&files).await), "{half}");
        }
        assert_eq!(files.refused(), times as u64 + 1, "{half}");
    }
    // Our own certificate is renewed meanwhile, as those vouch for it who are trusted.
    scene.show(GREETER);
    let renewed = in_force(&files).await;
    assert_ne!(renewed.certificate(), first.certificate());
    assert_eq!(renewed.authorities.roots, first.authorities.roots);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_everything_file_by_file_refuses_nothing() {
    let scene = Scene::new();
    let files = scene.follow();
    in_force(&files).await;
    for is_trusted_last in [false, true] {
        let next = Authority::new().expect("an authority");
        let renewed = next.sign_spiffe(GREETER).expect("a certificate");
        let mut changes = [
            ("ca.pem", next.certificate()),
            ("own.pem", &renewed.certificate),
            ("own-key.pem", &renewed.key),
        ];
        if is_trusted_last {
            changes.reverse();
        }
        let [(first, text), rest @ ..] = changes;
        scene.write(first, text);
        let looking = files.in_force();
        let writing = async {
            for (file, text) in rest {
                sleep(MOMENT).await;
                scene.write(file, text);
            }
        };
        let (now, ()) = tokio::join!(looking, writing);
        let now = now.expect("it is in force");
        assert_eq!(now.authorities.roots, roots(&[&next]));
        let shown = CertificateDer::from_pem_slice(renewed.certificate.as_bytes());
        assert_eq!(now.certificate(), Some(&shown.expect("a certificate")));
        assert_eq!(files.refused(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_in_the_middle_of_a_renewal_waits_for_the_rest_of_it() {
    let scene = Scene::new();
    let next = scene.sign(GREETER);
    // The certificate is the new one already, and its key is yet to come.
    scene.write("own.pem", &next.certificate);
    let files = scene.follow();
    let start = files.in_force();
    let rest = async {
        sleep(MOMENT * 3).await;
        scene.write("own-key.pem", &next.key);
    };
    let (started, ()) = tokio::join!(start, rest);
    started.expect("the renewal is over");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_nobody_finishes_fails_the_start_with_both_files() {
    let scene = Scene::new();
    let next = scene.sign(GREETER);
    scene.write("own.pem", &next.certificate);
    let began = Instant::now();
    let refused = refusal(&scene.follow()).await;
    assert!(began.elapsed() <= PATIENCE, "it is bounded");
    assert!(began.elapsed() > MOMENT, "it is looked at again");
    for file in ["own.pem", "own-key.pem"] {
        assert!(refused.contains(file), "{refused}");
    }
    fs::remove_file(scene.path().join("own-key.pem")).expect("it is removed");
    let refused = refusal(&scene.follow()).await;
    for file in ["own.pem", "own-key.pem"] {
        assert!(refused.contains(file), "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_keeps_nobody_from_what_is_in_force() {
    let scene = Scene::new();
    let files = scene.follow();
    let first = in_force(&files).await;
    // A look that has begun and does not end.
    let turn = Arc::clone(&files.turn).acquire_owned().await;
    assert!(!files.known().has_begun_after(1));

    let began = Instant::now();
    assert!(Arc::ptr_eq(&first, &in_force(&files).await));
    assert_eq!(began.elapsed(), PATIENCE);
    for _ in 0..100 {
        assert!(Arc::ptr_eq(&first, &in_force(&files).await));
    }
    assert_eq!(began.elapsed(), PATIENCE, "nobody waits again");
    let is_overdue = |looking: &Looking| looking.is_overdue;
    assert!(files.known().looking.as_ref().is_some_and(is_overdue));
    assert_eq!(files.refused(), 0, "nothing has changed");

    drop(turn);
    files.known().looking = None;
    scene.show(GREETER);
    assert!(!Arc::ptr_eq(&first, &in_force(&files).await));
}

#[tokio::test(start_paused = true)]
async fn who_has_less_time_is_not_kept_by_a_disk_that_hangs() {
    let scene = Scene::new();
    let files = scene.follow();
    let first = in_force(&files).await;
    let _turn = Arc::clone(&files.turn).acquire_owned().await;
    assert!(!files.known().has_begun_after(1));
    let began = Instant::now();
    let short = PATIENCE / 5;
    let still = files.in_force_within(short).await.expect("it is in force");
    assert!(Arc::ptr_eq(&first, &still));
    assert_eq!(began.elapsed(), short);
}

#[tokio::test(start_paused = true)]
async fn a_look_that_has_just_begun_is_not_overdue_for_the_one_before_it() {
    let scene = Scene::new();
    let files = scene.follow();
    in_force(&files).await;
    let _turn = Arc::clone(&files.turn).acquire_owned().await;
    assert!(!files.known().has_begun_after(1));
    let waiting = files.in_force();
    let next = async {
        sleep(PATIENCE / 2).await;
        assert!(!files.known().has_begun_after(2));
    };
    let (waited, ()) = tokio::join!(waiting, next);
    waited.expect("it is in force");
    let is_overdue = |looking: &Looking| looking.is_overdue;
    assert!(!files.known().looking.as_ref().is_some_and(is_overdue));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_at_the_start_is_waited_for_no_longer_than_that() {
    let scene = Scene::new();
    let files = scene.follow();
    let _turn = Arc::clone(&files.turn).acquire_owned().await;
    let began = Instant::now();
    let refused = refusal(&files).await;
    assert_eq!(began.elapsed(), PATIENCE);
    for file in ["ca.pem", "own.pem", "own-key.pem"] {
        assert!(refused.contains(file), "{refused}");
    }
}

#[tokio::test]
async fn however_many_ask_at_a_time_the_files_are_looked_at_once() {
    let scene = Scene::new();
    let files = scene.follow();
    in_force(&files).await;
    let turn = Arc::clone(&files.turn).acquire_owned().await;
    let asking: Vec<_> = (0..1000)
        .map(|_| {
            let files = Arc::clone(&files);
            tokio::spawn(async move { files.looked_after(1).await })
        })
        .collect();
    drop(turn);
    for asked in asking {
        asked.await.expect("it is answered");
    }
    assert_eq!(files.known().looks, 2);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_others_would_refuse_does_not_displace_a_good_one() {
    let scene = Scene::new();
    let files = scene.follow();
    let good = in_force(&files).await;
    let stranger = Authority::new().expect("an authority");
    let authority = &scene.authority;
    let signs_others = |params: &mut CertificateParams| {
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    };
    let serves_nobody = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    let unusable = [
        (
            authority.sign_spiffe_expired(GREETER),
            "own.pem has expired",
        ),
        (
            authority.sign_spiffe_not_yet_valid(GREETER),
            "own.pem is not valid yet",
        ),
        (
            stranger.sign_spiffe(GREETER),
            "own.pem is vouched for by none of the authorities",
        ),
        (
            authority.sign_spiffe_with(GREETER, signs_others),
            "keyCertSign",
        ),
        (
            authority.sign_spiffe_with(GREETER, serves_nobody),
            "own.pem is not for servers: its extended key usage, or that of one that vouches for it, has no serverAuth",
        ),
        (authority.sign_uris(&[GREETER, GREETER]), "2 URI names"),
    ];
    for (refused, (signed, told)) in unusable.into_iter().enumerate() {
        let written = signed.expect("a certificate").write(scene.path(), "own");
        written.expect("it is written");
        for _ in 0..3 {
            assert!(Arc::ptr_eq(&good, &in_force(&files).await), "{told}");
        }
        assert_eq!(files.refused(), refused as u64 + 1, "{told}");
        // Who starts with it does not.
        let refusal = refusal(&scene.follow()).await;
        assert!(refusal.contains(told), "{refusal}");
    }
    scene.show(GREETER);
    assert!(!Arc::ptr_eq(&good, &in_force(&files).await));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_has_to_be_for_what_it_is_shown_as() {
    let scene = Scene::new();
    let files = || {
        CredentialFiles::new()
            .with_authorities(scene.path().join("ca.pem"))
            .with_identity(
                scene.path().join("own.pem"),
                scene.path().join("own-key.pem"),
            )
            .with_vouched_identity()
    };
    for (usage, server, client) in [
        (
            ExtendedKeyUsagePurpose::ServerAuth,
            None,
            Some("not for clients"),
        ),
        (
            ExtendedKeyUsagePurpose::ClientAuth,
            Some("not for servers"),
            None,
        ),
    ] {
        let signed = scene.authority.sign_spiffe_with(GREETER, |params| {
            params.extended_key_usages = vec![usage];
        });
        let written = signed.expect("a certificate").write(scene.path(), "own");
        written.expect("it is written");
        for (files, refused) in [(files().for_server(), server), (files(), client)] {
            let outcome = files.follow().in_force().await;
            assert_eq!(outcome.is_err(), refused.is_some(), "{outcome:?}");
            if let (Err(problem), Some(told)) = (outcome, refused) {
                assert!(problem.contains(told), "{problem}");
                assert!(!problem.contains("none of the authorities"), "{problem}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_used_is_told_with_its_own_file() {
    let scene = Scene::new();
    let nonsense = "-----BEGIN PRIVATE KEY-----\nbm9uc2Vuc2U=\n-----END PRIVATE KEY-----\n";
    scene.write("own-key.pem", nonsense);
    let refused = refusal(&scene.follow()).await;
    assert!(
        refused.contains("own-key.pem: the private key cannot be used"),
        "{refused}"
    );
    assert!(!refused.contains("bm9u"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_shows_a_certificate_of_its_trust_domain_or_one_that_is_vouched_for() {
    let scene = Scene::new();
    let files = || {
        CredentialFiles::new()
            .with_authorities(scene.path().join("ca.pem"))
            .with_identity(
                scene.path().join("own.pem"),
                scene.path().join("own-key.pem"),
            )
    };
    let of = |domain: &str| files().with_trust_domain(domain.parse().expect("a domain"));
    in_force(&of("example.org").follow()).await;
    let refused = refusal(&of("example.com").follow()).await;
    let told = format!("own.pem is for {GREETER} and not for a service of example.com");
    assert!(refused.ends_with(&told), "{refused}");

    let stranger = Authority::new().expect("an authority");
    let signed = stranger.sign_spiffe(GREETER).expect("a certificate");
    signed.write(scene.path(), "own").expect("it is written");
    let refused = refusal(&files().with_vouched_identity().follow()).await;
    assert!(refused.contains("none of the authorities"), "{refused}");
    // Those who are shown it may trust others than we do.
    in_force(&files().follow()).await;
}

#[tokio::test(start_paused = true)]
async fn it_is_known_until_when_the_certificate_in_force_is_valid() {
    let scene = Scene::new();
    let signed = scene.authority.sign_spiffe_with(GREETER, |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2100, 1, 1);
    });
    let written = signed.expect("a certificate").write(scene.path(), "own");
    written.expect("it is written");
    let files = scene.follow();
    assert_eq!(files.validity(), None, "nothing is in force yet");
    in_force(&files).await;
    let known = Validity {
        not_before: 1_577_836_800,
        not_after: 4_102_444_800,
    };
    assert_eq!(files.validity(), Some(known));
    scene.write("own.pem", "no certificate");
    in_force(&files).await;
    assert_eq!(files.validity(), Some(known));
}
