//! `doctor`.

use std::{fs, net::TcpListener, path::Path};

use registry::MemberStatus;
use serde_json::{Value, json};
use testkit::{
    Port,
    clock::Clock,
    etcd::{Cluster, ClusterOptions, ClusterTls},
    process::Process,
    tls::Authority,
};

use crate::place::{BOUND, Ended, Place, end, instance};

/// From when on a member is slow to whom a machine that is busy is no finding.
const PATIENT: &str = "1m";

/// What a doctor has found, with its exit code.
async fn examined(place: &Place) -> (Option<i32>, Vec<Value>) {
    examined_with(place, PATIENT, &[]).await
}

/// The same for one with these variables, to whom an answer is slow from that time on.
async fn examined_with(
    place: &Place,
    slow: &str,
    variables: &[(&str, &Path)],
) -> (Option<i32>, Vec<Value>) {
    let patient = ["doctor", "--connect-timeout", "30s", "--slow", slow];
    let arguments = [&patient[..], &["--output", "json"]].concat();
    let mut command = place.command(&arguments);
    command.envs(variables.iter().copied());
    let doctor = Process::spawn("discovery doctor", command).expect("it starts");
    let Ended { code, stdout, .. } = end(&doctor).await;
    let shown: Value = serde_json::from_str(&stdout[0]).expect("an object");
    (code, shown["findings"].as_array().expect("a list").clone())
}

/// The findings of a check that are not fine, as `LEVEL SUBJECT`.
fn of(check: &str, findings: &[Value]) -> Vec<String> {
    let of_it = findings
        .iter()
        .filter(|one| one["check"] == check && one["level"] != "fine");
    let told = of_it.map(|one| {
        assert!(one["advice"].is_string(), "{one}");
        let text = |field: &str| one[field].as_str().expect("a text").to_owned();
        format!("{} {}", text("level"), text("subject"))
    });
    told.collect()
}

/// Somebody who takes connections, and the instance that says so.
fn listening(name: &str) -> (TcpListener, registry::Instance) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    (listener, instance(name, &address))
}

#[tokio::test]
async fn a_registry_that_is_well_has_no_findings_but_that_it_is_well() {
    for place in Place::each().await {
        let (_listener, one) = listening("greeter");
        let _registration = place.register(one).await;
        let (code, findings) = examined(&place).await;
        assert!(
            findings.iter().all(|one| one["level"] == "fine"),
            "{findings:?}"
        );
        assert_eq!(code, Some(0));
        let table = place
            .text(&["doctor", "--connect-timeout", "30s", "--slow", PATIENT])
            .await;
        assert!(table.contains("0 problems and 0 warnings."), "{table}");
    }
}

#[tokio::test]
async fn clocks_that_are_an_hour_apart_are_a_warning_of_each_member_and_no_problem() {
    let cluster = Cluster::start_one().await.expect("an etcd");
    let place = Place::of(cluster.url("shop"));
    let clock = Clock::new().expect("a clock");
    clock.set("+1h").expect("it is set");
    let variables = clock.environment();
    let variables: Vec<_> = variables
        .iter()
        .map(|(name, value)| (*name, Path::new(value)))
        .collect();
    let (code, findings) = examined_with(&place, PATIENT, &variables).await;
    let member = cluster.endpoints().remove(0);
    assert_eq!(of("clock", &findings), [format!("warning {member}")]);
    let found = findings.iter().find(|one| one["check"] == "clock");
    let found = found.expect("a finding")["found"].as_str().expect("a text");
    // What an answer takes is not known better.
    assert!(found.contains("and ours are 3"), "{found}");
    assert_eq!(code, Some(0), "calls go on");
}

#[tokio::test]
async fn a_member_that_is_down_is_a_problem_and_the_others_are_told_of() {
    let mut cluster = Cluster::start(3).await.expect("an etcd");
    let place = Place::of(cluster.url("shop"));
    // One that leads would leave the others without a leader for a while, which is a problem of theirs.
    let victim = (cluster.leader().await.expect("a leader") + 1) % 3;
    cluster.kill(victim).await.expect("it is killed");
    let (code, findings) = examined(&place).await;
    assert_eq!(code, Some(1));
    let down = format!("problem {}", cluster.endpoints()[victim]);
    assert_eq!(of("member", &findings), [down]);
    let fine = findings
        .iter()
        .filter(|one| one["check"] == "member" && one["level"] == "fine");
    let versions: Vec<_> = fine
        .map(|one| one["found"].as_str().expect("a text"))
        .collect();
    assert_eq!(versions.len(), 2, "{findings:?}");
    assert!(
        versions.iter().all(|found| found.starts_with("etcd 3.")),
        "{versions:?}"
    );
    let clocks = findings.iter().filter(|one| one["check"] == "clock");
    assert_eq!(clocks.count(), 2, "of those that answer");
}

/// What is found of the only finding of a check that is a problem, and what to do about it.
fn problem<'a>(check: &str, findings: &'a [Value]) -> (&'a str, &'a str) {
    let of_it = findings
        .iter()
        .filter(|one| one["check"] == check && one["level"] == "problem");
    let [one] = of_it.collect::<Vec<_>>()[..] else {
        panic!("{findings:?}")
    };
    let text = |field: &str| one[field].as_str().expect("a text");
    (text("found"), text("advice"))
}

/// Waits until that is so of what the only member that answers says.
async fn until_it_says(place: &Place, is_so: impl Fn(&MemberStatus) -> bool) {
    testkit::eventually(BOUND, "what the member says", async || {
        let members = place.registry.members().await;
        let mut said = members.iter().filter_map(|one| one.status.as_ref().ok());
        said.next().is_some_and(&is_so)
    })
    .await;
}

#[tokio::test]
async fn a_cluster_without_a_majority_is_told_of_member_by_member() {
    let mut cluster = Cluster::start(3).await.expect("an etcd");
    let place = Place::of(cluster.url("shop"));
    cluster.kill(0).await.expect("it is killed");
    cluster.kill(1).await.expect("it is killed");
    until_it_says(&place, |status| !status.has_leader).await;
    let (code, findings) = examined(&place).await;
    assert_eq!(code, Some(1));
    let mut members: Vec<_> = cluster
        .endpoints()
        .iter()
        .map(|member| format!("problem {member}"))
        .collect();
    members.sort();
    assert_eq!(of("member", &findings), members);
    let of_the_last = findings
        .iter()
        .find(|one| one["check"] == "member" && one["subject"] == cluster.endpoints()[2].as_str());
    let advice = &of_the_last.expect("a finding")["advice"];
    let advice = advice.as_str().expect("a text");
    assert!(advice.starts_with("it knows no leader"), "{advice}");
    let (found, _) = problem("registry", &findings);
    assert!(found.contains("cannot list the services"), "{found}");
    let clocks = findings.iter().filter(|one| one["check"] == "clock");
    assert_eq!(clocks.count(), 1, "of the one that answers");
}

#[tokio::test]
async fn a_member_that_is_full_is_a_problem_with_what_to_do_about_it() {
    let options = ClusterOptions {
        arguments: ["--quota-backend-bytes", "131072"].map(Into::into).into(),
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start_like(1, options).await.expect("an etcd");
    let place = Place::of(cluster.url("shop"));
    let put = ["put", "others/large", &"x".repeat(120_000)];
    let full = cluster.etcdctl_text(&put).await;
    full.expect_err("there is no space for it");
    until_it_says(&place, |status| !status.errors.is_empty()).await;
    let (code, findings) = examined(&place).await;
    assert_eq!(code, Some(1));
    let (found, advice) = problem("member", &findings);
    assert!(found.contains("NOSPACE"), "{found}");
    assert!(advice.starts_with("free space"), "{advice}");
    assert_eq!(of("registry", &findings), [""; 0], "it can be read");
}

#[tokio::test]
async fn who_may_not_read_all_of_it_is_told_so_and_of_the_members() {
    let mut cluster = Cluster::start_one().await.expect("an etcd");
    let added = cluster.add_user("greeter", "secret", "shop/greeter/").await;
    added.expect("a user");
    let enabled = cluster.enable_authentication().await;
    enabled.expect("it is enabled");
    let place = Place::of(cluster.url("shop"));
    let files = tempfile::tempdir().expect("a directory");
    let password = files.path().join("password");
    fs::write(&password, "secret").expect("it is written");
    let variables = [
        ("DISCOVERY__REGISTRY__USER", Path::new("greeter")),
        ("DISCOVERY__REGISTRY__PASSWORD_FILE", &password),
    ];
    let (code, findings) = examined_with(&place, PATIENT, &variables).await;
    assert_eq!(code, Some(1));
    let (found, advice) = problem("registry", &findings);
    assert!(found.contains("no permission for"), "{found}");
    assert!(advice.contains("this user may read all of it"), "{advice}");
    let fine = findings
        .iter()
        .filter(|one| one["check"] == "member" && one["level"] == "fine");
    assert_eq!(fine.count(), 1, "{findings:?}");
}

#[tokio::test]
async fn a_member_that_is_slow_to_answer_is_a_warning() {
    let cluster = Cluster::start_one().await.expect("an etcd");
    let place = Place::of(cluster.url("shop"));
    let (code, findings) = examined_with(&place, "1ns", &[]).await;
    assert_eq!(code, Some(0), "{findings:?}");
    let slow = format!("warning {}", cluster.endpoints()[0]);
    assert_eq!(of("member", &findings), [slow]);
}

#[tokio::test]
async fn a_member_behind_tls_tells_the_time_to_whom_it_lets_in() {
    let files = tempfile::tempdir().expect("a directory");
    let authority = Authority::new().expect("an authority");
    let ca = files.path().join("ca.pem");
    fs::write(&ca, authority.certificate()).expect("it is written");
    let sign = |name, host| {
        let signed = authority.sign(host).expect("a certificate");
        signed.write(files.path(), name).expect("it is written")
    };
    let operator = sign("operator", "operator");
    let tls = ClusterTls {
        identity: sign("etcd", "127.0.0.1"),
        client_authority: Some(ca.clone()),
    };
    let options = ClusterOptions {
        tls: Some(tls),
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start_like(1, options).await.expect("an etcd");
    let place = Place::of(cluster.url("shop"));
    let variables = [
        ("DISCOVERY__REGISTRY__TLS__CA", &*ca),
        (
            "DISCOVERY__REGISTRY__TLS__CERTIFICATE",
            &operator.certificate,
        ),
        ("DISCOVERY__REGISTRY__TLS__KEY", &operator.key),
    ];
    let (code, findings) = examined_with(&place, PATIENT, &variables).await;
    assert_eq!(code, Some(0), "{findings:?}");
    let clocks: Vec<_> = findings
        .iter()
        .filter(|one| one["check"] == "clock")
        .map(|one| (&one["subject"], &one["found"]))
        .collect();
    let [(subject, found)] = clocks[..] else {
        panic!("{findings:?}")
    };
    assert_eq!(subject, &cluster.endpoints()[0]);
    assert_eq!(found, "agrees with ours within 3 s");
}

#[tokio::test]
async fn what_is_wrong_with_keys_names_leases_and_intents_is_told() {
    let cluster = Cluster::start_one().await.expect("an etcd");
    let place = Place::of(cluster.url("shop"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (key, value) = (
        format!("shop/greeter/{address}"),
        format!(r#"{{"Op":0,"Addr":"{address}","Metadata":null}}"#),
    );
    for (key, value) in [(&*key, &*value), ("shop/greeter/rubbish", "no instance")] {
        let put = ["put", key, value];
        cluster.etcdctl_text(&put).await.expect("it is written");
    }
    let (_listener, longer) = listening("greeter-v2");
    let _registration = place.register(longer).await;
    place
        .text(&["drain", "--absent", "greeter/10.0.0.9:1"])
        .await;

    let (code, findings) = examined(&place).await;
    assert_eq!(code, Some(0), "warnings are no problems: {findings:?}");
    assert_eq!(of("lease", &findings), [format!("warning {key}")]);
    assert_eq!(of("key", &findings), ["warning greeter"]);
    assert_eq!(of("name", &findings), ["warning greeter"]);
    assert_eq!(of("intent", &findings), ["warning greeter/10.0.0.9:1"]);
    assert_eq!(of("instance", &findings), [""; 0]);
}

#[tokio::test]
async fn an_instance_that_does_not_answer_is_a_problem_while_it_is_to_take_calls() {
    for place in Place::each().await {
        let port = Port::free().expect("a port");
        let _registration = place.register(instance("greeter", &port.address())).await;
        let name = format!("greeter/{}", port.address());
        let (code, findings) = examined(&place).await;
        assert_eq!(code, Some(1));
        assert_eq!(of("instance", &findings), [format!("problem {name}")]);
        place.text(&["drain", &name]).await;
        let (code, findings) = examined(&place).await;
        assert_eq!(code, Some(0));
        assert_eq!(of("instance", &findings), [format!("warning {name}")]);
    }
}

#[tokio::test]
async fn of_a_fixed_list_only_that_is_advised_which_can_be_done_there() {
    let away = Port::free().expect("a port").address();
    let place = Place::fixed(&json!({"greeter": [
        away,
        {"id": "leaving", "addresses": [away], "status": "draining"},
    ]}));
    let (code, findings) = examined(&place).await;
    assert_eq!(code, Some(1), "{findings:?}");
    let advised: Vec<_> = findings
        .iter()
        .filter(|finding| finding["check"] == "instance")
        .filter_map(|finding| Some((finding["level"].as_str()?, finding["advice"].as_str()?)))
        .collect();
    assert_eq!(
        advised,
        [
            (
                "problem",
                "see whether it runs and can be reached from here; taken out of the list it is not called"
            ),
            (
                "warning",
                "it takes no calls as it is; take it out of the list when it is not to come back"
            ),
        ]
    );
}

#[tokio::test]
async fn a_registry_that_cannot_be_used_is_a_problem() {
    let place = Place::directory();
    let directory = tempfile::tempdir().expect("a directory");
    let registry = directory.path().join("registry");
    fs::create_dir(&registry).expect("a directory");
    let url = format!("file://{}", registry.display());
    let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(&registry, open_to_all).expect("it is ours");
    let line = place.refusal(&["--registry", &url, "doctor"]).await;
    assert!(line.contains(registry.to_str().expect("a path")), "{line}");

    let port = Port::free().expect("a port");
    let url = format!("etcd://{}/shop", port.address());
    let ended = place.run(&["--registry", &url, "doctor"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = ended.stdout.join("\n");
    assert!(
        said.contains(&port.address()) && said.contains("2 problems"),
        "{said}"
    );
}
