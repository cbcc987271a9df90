//! An operator, the user service and a greeter, each with a certificate of its own: who may call whom.

use std::{fs, path::Path, process::ExitStatus};

use tempfile::TempDir;
use testkit::{process::Process, tls::Authority};

use crate::running::{BOUND, Scene};

/// A trust domain's files.
struct Domain {
    files: TempDir,
}

impl Domain {
    fn of(services: &[&str]) -> Self {
        let files = tempfile::tempdir().expect("a directory");
        let authority = Authority::new().expect("an authority");
        fs::write(files.path().join("ca.pem"), authority.certificate()).expect("it is written");
        for service in services {
            let id = format!("spiffe://example.org/{service}");
            let signed = authority.sign_spiffe(&id).expect("a certificate");
            signed.write(files.path(), service).expect("it is written");
        }
        Self { files }
    }

    /// The environment of that service, which lets those call what is begun so.
    fn environment(&self, service: &str, allow: &str) -> Vec<(String, String)> {
        let file = |name: &str| Path::join(self.files.path(), name).display().to_string();
        [
            ("CA", file("ca.pem")),
            ("CERTIFICATE", file(&format!("{service}.pem"))),
            ("KEY", file(&format!("{service}-key.pem"))),
            ("DOMAIN", "example.org".into()),
            ("ALLOW", allow.into()),
        ]
        .map(|(key, value)| (format!("DISCOVERY__TLS__{key}"), value))
        .into()
    }
}

/// `user-service admin` with these arguments, as that caller: how it ended, and all that it said.
async fn admin(
    scene: &Scene,
    domain: &Domain,
    caller: &str,
    arguments: &[&str],
) -> (ExitStatus, String) {
    let arguments = [&["admin", "--timeout", "30s"], arguments].concat();
    let mut command = scene.command("user-service", &arguments);
    command.envs(domain.environment(caller, "[]"));
    let process = Process::spawn(format!("admin as {caller}"), command).expect("it starts");
    let status = process.wait(BOUND).await.expect("it ends");
    let mut lines = process.lines();
    let mut said = Vec::new();
    while let Some(line) = lines.next().await {
        said.push(line.text.to_string());
    }
    (status, said.join("\n"))
}

#[tokio::test]
async fn each_hop_is_made_as_oneself_and_only_by_who_may_make_it() {
    let scene = Scene::new();
    let domain = Domain::of(&["greeter", "user", "operator"]);
    let mut greeter = scene.command("greeter-server", &[]);
    let only_users = r#"[{ method = "helloworld.Greeter/*", callers = ["user"] }]"#;
    greeter.envs(domain.environment("greeter", only_users));
    let greeter = Process::spawn("greeter-server", greeter).expect("it starts");
    let registered = greeter.wait_for_line("registered", BOUND).await;
    registered.expect("it registers");
    let only_operators = r#"[{ method = "user.v1.*", callers = ["operator"] }]"#;
    let environment = domain.environment("user", only_operators);
    let environment = environment.iter().map(|(key, value)| (&**key, &**value));
    let environment: Vec<_> = environment.collect();
    let _users = scene.user_service_with("", &environment).await;

    let create = [
        "create",
        "ann",
        "--email",
        "ann@example.com",
        "--display-name",
        "Ann",
    ];
    let (status, said) = admin(&scene, &domain, "operator", &create).await;
    assert!(status.success(), "{said}");
    let (status, said) = admin(&scene, &domain, "operator", &["greet", "ann"]).await;
    assert!(
        status.success() && said.contains("Hello Ann from"),
        "{said}"
    );
    // The greeter's certificate is as good, and it may not.
    let (status, said) = admin(&scene, &domain, "greeter", &["get", "ann"]).await;
    let told = "spiffe://example.org/greeter may not call user.v1.UserService/GetUser of spiffe://example.org/user";
    assert!(!status.success() && said.contains(told), "{said}");
}
