//! Each fault in its shorter form.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
    time::Duration,
};

use testkit::process::Process;

const BOUND: Duration = Duration::from_mins(3);

fn faults(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faults"));
    command.args(arguments).stdin(Stdio::null());
    command
}

async fn holds(name: &str) {
    let command = faults(&["--short", "--output", "json", name]);
    let faults = Process::spawn(name, command).expect("it starts");
    let status = faults.wait(BOUND).await.expect("it ends");
    let said: Vec<_> = faults
        .output()
        .iter()
        .map(|line| line.text.to_string())
        .collect();
    assert!(status.success(), "{}", said.join("\n"));
}

macro_rules! each_holds {
    ($($test:ident: $name:literal,)*) => {
        const TESTED: &[&str] = &[$($name),*];
        $(#[tokio::test]
        async fn $test() {
            holds($name).await;
        })*
    };
}

each_holds! {
    an_instance_is_killed: "killed",
    an_instance_is_stopped: "stopped",
    an_instance_hangs: "hangs",
    all_instances_are_restarted: "rolling-restart",
    the_fleet_grows_and_shrinks: "scaling",
    the_leader_is_killed: "leader-killed",
    each_member_is_killed: "members-killed",
    a_member_hangs: "member-paused",
    each_member_is_upgraded: "members-upgraded",
    quorum_is_lost: "quorum-lost",
    all_members_are_down: "all-down",
    all_members_are_wiped: "wiped",
    all_members_are_restored_from_a_backup: "restored",
    every_lease_is_revoked: "leases-revoked",
    every_key_is_deleted: "keys-deleted",
    an_operator_drains: "drained",
    a_later_process_takes_the_address: "superseded",
    a_watch_falls_behind_a_compaction: "compacted",
    the_caller_is_cut_off_from_the_registry: "no-registry",
    the_caller_is_cut_off_from_the_servers: "no-servers",
    secrets_change: "secrets",
    the_wall_clock_jumps: "clock-jumps",
    a_caller_starts_without_etcd: "cold-start",
    thousands_of_instances_flap: "thousands",
}

#[test]
fn none_is_left_out() {
    let listed = faults(&["--list"]).output().expect("it runs").stdout;
    let listed = String::from_utf8(listed).expect("text");
    let listed: BTreeSet<_> = listed
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(listed, TESTED.iter().copied().collect());
}

#[test]
fn a_name_that_there_is_not_is_refused_with_those_that_there_are() {
    let refused = faults(&["leader-kiled"]).output().expect("it runs");
    let says = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    assert!(
        says.contains("leader-kiled") && says.contains("leader-killed"),
        "{says}"
    );
}
