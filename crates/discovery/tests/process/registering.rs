//! `register`.

use std::{fs, process::Command, sync::Arc};

use registry::{Instance, Snapshot, SnapshotWatch, Status};
use serde_json::json;
use testkit::{Port, Signal, etcd::Cluster, eventually, http, process::Process, tls::Authority};
use tokio::time::timeout;

use crate::place::{BOUND, Place, end, instance, service};

/// Waits until that is so of the instances of `web`.
async fn until(is_so: impl Fn(&Snapshot) -> bool, watch: &mut SnapshotWatch) {
    let reached = async {
        while !watch.view().snapshot.as_ref().is_some_and(&is_so) {
            watch.changed().await;
        }
    };
    let reached = timeout(BOUND, reached).await;
    reached.unwrap_or_else(|_| panic!("it is not so of {:?}", watch.view().snapshot));
}

/// Waits until so many instances are registered as `web`.
pub(crate) async fn until_there_are(count: usize, watch: &mut SnapshotWatch) {
    until(|list| list.len() == count, watch).await;
}

pub(crate) const AT: &str = "10.0.0.7:8080";
/// Checks often, and lets none fail and no lease end because the machine is busy.
pub(crate) const FAST: [&str; 8] = [
    "--ttl",
    "10m",
    "--check-interval",
    "50ms",
    "--check-timeout",
    "30s",
    "--drain-notice",
    "0s",
];

pub(crate) fn register<'a>(further: &[&'a str]) -> Vec<&'a str> {
    [&["register", "web", AT], &FAST[..], further].concat()
}

/// It ends as it should, and leaves nobody behind.
pub(crate) async fn leaves(process: &Process, place: &Place) {
    let ended = end(process).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let listed = place.registry.list(&service("web")).await;
    assert!(listed.expect("a list").is_empty());
}

#[tokio::test]
async fn what_cannot_register_itself_is_registered_until_ctrl_c() {
    for place in Place::each().await {
        let mut watch = place.registry.watch(&service("web"));
        let said = [
            "--weight",
            "3",
            "--zone",
            "eu-1",
            "--label",
            "tier=gold",
            "--label",
            "a=b=c",
        ];
        let more = ["--service-version", "v2"];
        let process = place.start(&register(&[&said[..], &more].concat()));
        until_there_are(1, &mut watch).await;
        let shown = place.json(&["list", "web"]).await;
        let one = &shown["instances"][0];
        for (field, value) in [
            ("id", json!(AT)),
            ("weight", json!(3)),
            ("zone", json!("eu-1")),
            ("version", json!("v2")),
            ("labels", json!({"tier": "gold", "a": "b=c"})),
        ] {
            assert_eq!(one[field], value, "{one}");
        }
        process.signal(Signal::SIGINT).expect("it runs");
        leaves(&process, &place).await;
    }
}

#[tokio::test]
async fn a_command_is_registered_while_it_answers_and_taken_out_before_it_is_told_to_end() {
    for place in Place::each().await {
        let port = Port::free().expect("a port");
        let address = port.address();
        let mut watch = place.registry.watch(&service("web"));
        let binary = env!("CARGO_BIN_EXE_discovery");
        let url = format!("DISCOVERY__REGISTRY__URL={}", place.url);
        let server = ["--", "env", &url, binary, "server", "--listen", &address];
        let arguments = ["register", "web", &address, "--check", "grpc"];
        let process = place.start(&[&arguments[..], &FAST, &server].concat());
        until_there_are(1, &mut watch).await;
        let calls = [
            "client",
            "--target",
            "web",
            "--count",
            "5",
            "--timeout",
            "30s",
        ];
        assert_eq!(place.json(&calls).await["failures"], 0);
        process.signal(Signal::SIGTERM).expect("it runs");
        leaves(&process, &place).await;
    }
}

#[tokio::test]
async fn grpc_is_asked_by_tls_and_only_of_the_service_that_is_registered() {
    let files = tempfile::tempdir().expect("a directory");
    let authority = Authority::new().expect("an authority");
    let file = |name: &str| files.path().join(name).display().to_string();
    fs::write(file("ca.pem"), authority.certificate()).expect("it is written");
    for name in ["web", "basket"] {
        let signed = authority.sign_spiffe(&format!("spiffe://example.org/{name}"));
        let written = signed.expect("one").write(files.path(), name);
        written.expect("it is written");
    }
    let environment = |service: &str| {
        [
            ("CA", file("ca.pem")),
            ("CERTIFICATE", file(&format!("{service}.pem"))),
            ("KEY", file(&format!("{service}-key.pem"))),
            ("DOMAIN", "example.org".into()),
        ]
        .map(|(key, value)| (format!("DISCOVERY__TLS__{key}"), value))
    };
    for is_web in [true, false] {
        let place = Place::directory();
        let port = Port::free().expect("a port");
        let address = port.address();
        let mut watch = place.registry.watch(&service("web"));
        let name = if is_web { "web" } else { "basket" };
        let mut server = vec!["--".to_owned(), "env".into()];
        let own = environment(name).map(|(key, value)| format!("{key}={value}"));
        server.extend(own);
        server.push(format!("DISCOVERY__SERVER__SERVICE={name}"));
        server.push(format!("DISCOVERY__REGISTRY__URL={}", place.url));
        server.push(env!("CARGO_BIN_EXE_discovery").into());
        server.extend(["server", "--listen", &address].map(Into::into));
        let server: Vec<_> = server.iter().map(String::as_str).collect();
        let register = ["register", "web", &address, "--id", "checked"];
        let page = Port::free().expect("a port");
        let check = ["--check", "grpc", "--admin", &page.address()];
        let mut command = place.command(&[&register[..], &check, &FAST, &server].concat());
        command.envs(environment("web"));
        let process = Process::spawn("discovery register", command).expect("it starts");
        if is_web {
            let is_checked =
                |list: &Snapshot| list.instances().any(|one| one.id.as_str() == "checked");
            until(is_checked, &mut watch).await;
        } else {
            let told = "is for spiffe://example.org/basket and not for spiffe://example.org/web";
            // What it says on stderr may be that nobody listened there yet.
            let found = async || {
                let ready = http::text(page.number(), "/readyz").await;
                ready.is_err_and(|refused| format!("{refused:#}").contains(told))
            };
            eventually(BOUND, "who was found to be told", found).await;
        }
        process.signal(Signal::SIGTERM).expect("it runs");
        end(&process).await;
    }
}

#[tokio::test]
async fn it_exits_with_the_code_of_its_command() {
    let place = Place::directory();
    for (script, code) in [("exit 7", 7), ("exit 0", 0), ("kill -KILL $$", 137)] {
        let ended = place
            .run(&register(&[
                "--check",
                "exec=true",
                "--",
                "sh",
                "-c",
                script,
            ]))
            .await;
        assert_eq!(ended.code, Some(code), "{script}: {ended:?}");
        assert!(
            place
                .registry
                .list(&service("web"))
                .await
                .expect("a list")
                .is_empty()
        );
    }
    let line = place.refusal(&register(&["--", "/nowhere/program"])).await;
    assert!(line.contains("/nowhere/program"), "{line}");
}

#[tokio::test]
async fn what_has_ended_is_not_left_to_its_lease() {
    let cluster = Cluster::start_one().await.expect("an etcd");
    let place = Place::of(cluster.url("shop"));
    let mut watch = place.registry.watch(&service("web"));
    let directory = tempfile::tempdir().expect("a directory");
    let over = directory.path().join("over");
    let script = format!(
        "until test -e {}; do sleep 0.05; done; exit 7",
        over.display()
    );
    let command = ["--check", "exec=true", "--", "sh", "-c", &script];
    let process = place.start(&register(&command));
    until_there_are(1, &mut watch).await;
    fs::write(&over, "").expect("a file");
    let ended = end(&process).await;
    assert_eq!(ended.code, Some(7), "{ended:?}");
    let said = ended.stderr.join("\n");
    let told = "is taken out: the command has ended";
    assert!(said.contains(told), "{said}");
    let left = cluster.keys("shop/").await.expect("the keys");
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn it_is_held_under_a_lease_of_as_long_as_was_asked_for() {
    let place = Place::etcd().await;
    let mut watch = place.registry.watch(&service("web"));
    let process = place.start(&["register", "web", AT, "--ttl", "7m", "--drain-notice", "0s"]);
    until_there_are(1, &mut watch).await;
    let shown = place.json(&["why", "web", AT]).await;
    let lease = &shown["instances"][0]["places"][0]["lease"];
    assert_eq!(lease["ttl_s"], 420, "{shown}");
    process.signal(Signal::SIGTERM).expect("it runs");
    leaves(&process, &place).await;
}

#[tokio::test]
async fn signals_are_passed_on_to_the_command() {
    let place = Place::directory();
    let script =
        "trap 'echo reloaded' HUP; trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let process = place.start(&register(&["--", "sh", "-c", script]));
    process
        .wait_for_line("ready", BOUND)
        .await
        .expect("it runs");
    process.signal(Signal::SIGHUP).expect("it runs");
    process
        .wait_for_line("reloaded", BOUND)
        .await
        .expect("it is told");
    process.signal(Signal::SIGTERM).expect("it runs");
    assert_eq!(end(&process).await.code, Some(5));
}

#[tokio::test]
async fn while_callers_are_told_signals_are_passed_on_and_who_asks_again_does_not_wait() {
    let place = Place::directory();
    let mut watch = place.registry.watch(&service("web"));
    let script = "trap 'echo noted' USR1; trap 'exit 5' TERM; while :; do sleep 0.05; done";
    let checked = FAST.map(|argument| if argument == "0s" { "1h" } else { argument });
    let command = ["--check", "exec=true", "--", "sh", "-c", script];
    let process = place.start(&[&["register", "web", AT][..], &checked, &command].concat());
    until_there_are(1, &mut watch).await;
    process.signal(Signal::SIGTERM).expect("it runs");
    let drains = |one: &Arc<Instance>| one.status == Status::Draining;
    until(|list| list.instances().any(drains), &mut watch).await;
    process.signal(Signal::SIGUSR1).expect("it runs");
    let noted = process.wait_for_line("noted", BOUND).await;
    noted.expect("it is told");
    process.signal(Signal::SIGTERM).expect("it runs");
    assert_eq!(end(&process).await.code, Some(5));
}

#[tokio::test]
async fn who_is_started_to_outlive_a_terminal_does() {
    let place = Place::directory();
    let mut watch = place.registry.watch(&service("web"));
    let registering = register(&["--registry", &place.url]).join(" ");
    let binary = env!("CARGO_BIN_EXE_discovery");
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(format!("trap '' HUP; exec {binary} {registering}"));
    let process = Process::spawn("discovery under nohup", shell).expect("it starts");
    until_there_are(1, &mut watch).await;
    process.signal(Signal::SIGHUP).expect("it runs");
    process.signal(Signal::SIGINT).expect("it runs");
    let ended = end(&process).await;
    assert!(
        ended.stderr.iter().any(|line| line.ends_with("SIGINT")),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_command_that_does_not_end_is_killed() {
    let place = Place::directory();
    let script = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let process = place.start(&register(&[
        "--stop-limit",
        "100ms",
        "--",
        "sh",
        "-c",
        script,
    ]));
    process
        .wait_for_line("ready", BOUND)
        .await
        .expect("it runs");
    process.signal(Signal::SIGTERM).expect("it runs");
    let ended = end(&process).await;
    assert_eq!(ended.code, Some(137), "{ended:?}");
    assert!(ended.stderr.join("\n").contains("is killed"), "{ended:?}");
}

/// A command that starts another, which holds stdout for as long as it lives, and neither ends when it is told to.
const STUBBORN: &str = "trap '' TERM; sleep 1000 & echo ready; while :; do sleep 0.05; done";

#[tokio::test]
async fn what_a_command_has_started_is_killed_with_it() {
    let place = Place::directory();
    let limit = ["--stop-limit", "100ms", "--", "sh", "-c", STUBBORN];
    let process = place.start(&register(&limit));
    let ready = process.wait_for_line("ready", BOUND).await;
    ready.expect("it runs");
    process.signal(Signal::SIGTERM).expect("it runs");
    // Its output ends with the last process that has it.
    let ended = timeout(BOUND, end(&process)).await;
    let ended = ended.expect("nothing is left of the command");
    assert_eq!(ended.code, Some(137), "{ended:?}");
}

#[tokio::test]
async fn a_command_that_ends_leaves_nothing_running() {
    let place = Place::directory();
    let leaves = "sleep 1000 & exit 3";
    let process = place.start(&register(&["--", "sh", "-c", leaves]));
    let ended = timeout(BOUND, end(&process)).await;
    let ended = ended.expect("nothing is left of the command");
    assert_eq!(ended.code, Some(3), "{ended:?}");
}

#[tokio::test]
async fn a_check_that_takes_too_long_is_killed_with_what_it_has_started() {
    let place = Place::directory();
    let directory = tempfile::tempdir().expect("a directory");
    let held = directory.path().join("held");
    // Whoever waits for the lock gets it when the last process that has it is gone.
    let check = format!(
        "exec=flock {0} sh -c 'echo > {0}.begun; sleep 1000'",
        held.display()
    );
    let checked = [
        "register",
        "web",
        AT,
        "--check",
        &check,
        "--check-timeout",
        "1s",
        "--check-interval",
        "50ms",
    ];
    let process = place.start(&checked);
    let has_begun = directory.path().join("held.begun");
    eventually(BOUND, "the check", async || has_begun.exists()).await;
    let free = tokio::process::Command::new("flock")
        .arg(&held)
        .arg("true")
        .status();
    let free = timeout(BOUND, free)
        .await
        .expect("nothing is left of the check");
    assert!(free.expect("flock is there").success());
    process.signal(Signal::SIGTERM).expect("it runs");
    end(&process).await;
}

#[tokio::test]
async fn any_signal_that_ends_a_program_ends_it_in_order() {
    for signal in [Signal::SIGHUP, Signal::SIGQUIT] {
        let place = Place::directory();
        let mut watch = place.registry.watch(&service("web"));
        let process = place.start(&register(&[]));
        until_there_are(1, &mut watch).await;
        process.signal(signal).expect("it runs");
        leaves(&process, &place).await;
    }
    let place = Place::directory();
    let script = "trap 'exit 5' QUIT; echo ready; while :; do sleep 0.05; done";
    let process = place.start(&register(&["--", "sh", "-c", script]));
    let ready = process.wait_for_line("ready", BOUND).await;
    ready.expect("it runs");
    process.signal(Signal::SIGQUIT).expect("it runs");
    assert_eq!(end(&process).await.code, Some(5));
}

#[tokio::test]
async fn what_was_never_registered_is_no_success() {
    let place = Place::directory();
    let process = place.start(&register(&["--check", "exec=exit 9"]));
    let told = process.wait_for_line("is not registered yet", BOUND).await;
    assert!(told.expect("it says so").contains("exit 9"));
    process.signal(Signal::SIGINT).expect("it runs");
    let ended = end(&process).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = ended.stderr.join("\n");
    assert!(
        said.contains("error: web/10.0.0.7:8080 was never registered"),
        "{said}"
    );

    // A registry that is not there.
    let port = Port::free().expect("a port");
    let url = format!("etcd://{}/shop", port.address());
    let process = place.start(&register(&["--registry", &url]));
    let tries = process.wait_for_line("cannot register", BOUND).await;
    tries.expect("it says so");
    process.signal(Signal::SIGINT).expect("it runs");
    let ended = end(&process).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = ended.stderr.join("\n");
    assert!(
        said.contains("was never registered") && said.contains(&port.address()),
        "{said}"
    );
}

#[tokio::test]
async fn who_comes_back_in_health_pushes_out_nobody() {
    for place in Place::each().await {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("healthy");
        fs::write(&file, "").expect("a file");
        let check = format!("exec=test -e {}", file.display());
        let mut watch = place.registry.watch(&service("web"));
        let process = place.start(&register(&["--check", &check]));
        until_there_are(1, &mut watch).await;
        fs::remove_file(&file).expect("it is there");
        until_there_are(0, &mut watch).await;
        let later = place.register(instance("web", AT)).await;
        fs::write(&file, "").expect("a file");
        let ended = end(&process).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let said = ended.stderr.join("\n");
        assert!(said.contains("is held by a later process"), "{said}");
        assert!(later.state().is_held(), "{:?}", later.state());
        assert_eq!(
            place.json(&["list", "web"]).await["instances"]
                .as_array()
                .map(Vec::len),
            Some(1)
        );
    }
}

#[tokio::test]
async fn it_is_registered_only_while_it_is_healthy() {
    for place in Place::each().await {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("healthy");
        let check = format!("exec=test -e {}", file.display());
        let mut watch = place.registry.watch(&service("web"));
        let process = place.start(&register(&["--check", &check, "--unhealthy-after", "2"]));
        for _ in 0..2 {
            until_there_are(0, &mut watch).await;
            fs::write(&file, "").expect("a file");
            until_there_are(1, &mut watch).await;
            fs::remove_file(&file).expect("it is there");
        }
        until_there_are(0, &mut watch).await;
        let out = process.wait_for_line("is taken out", BOUND).await;
        let out = out.expect("it says so");
        assert!(out.contains("test -e"), "{out}");
        process.signal(Signal::SIGTERM).expect("it runs");
        assert_eq!(end(&process).await.code, Some(0));
    }
}

#[tokio::test]
async fn so_many_checks_in_a_row_as_were_asked_for_put_it_in_and_take_it_out() {
    let place = Place::directory();
    let directory = tempfile::tempdir().expect("a directory");
    let made = directory.path().join("made");
    // The third check fails, and the seventh.
    let check = format!(
        "exec=echo >> {0}; case $(wc -l < {0}) in 3|7) exit 1;; esac",
        made.display()
    );
    let counts = ["--healthy-after", "3", "--unhealthy-after", "1"];
    let process = place.start(&register(&[&["--check", &check][..], &counts].concat()));
    let said = process.wait_for("what becomes of it", |line| line.starts_with("web/"), BOUND);
    let said = said.await.expect("it says so");
    assert!(said.contains("is not registered yet"), "{said}");
    let out = process.wait_for_line("is taken out", BOUND).await;
    out.expect("it was in after the sixth");
    process.signal(Signal::SIGTERM).expect("it runs");
    leaves(&process, &place).await;
}

#[tokio::test]
async fn who_is_registered_later_wins_and_it_is_told() {
    for place in Place::each().await {
        let mut watch = place.registry.watch(&service("web"));
        let process = place.start(&register(&[]));
        until_there_are(1, &mut watch).await;
        let later = place.register(instance("web", AT)).await;
        let ended = end(&process).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let said = ended.stderr.join("\n");
        assert!(
            said.contains("error: web/10.0.0.7:8080 is held by a later process"),
            "{said}"
        );
        assert!(later.state().is_held());
    }
}

#[tokio::test]
async fn what_cannot_be_registered_is_refused_with_what_can() {
    let place = Place::directory();
    for (further, named) in [
        (&["--check", "ping"][..], "exec=COMMAND"),
        (&["--weight", "0"], "1 to 1000000"),
        (&["--label", "gold"], "tier=gold"),
        (&["--ttl", "1s"], "from 2s to 10m"),
    ] {
        let ended = place
            .run(&[&["register", "web", AT], further].concat())
            .await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        let said = ended.stderr.join("\n");
        assert!(said.contains(named), "{said}");
    }
}
