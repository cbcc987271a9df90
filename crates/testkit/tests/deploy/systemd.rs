//! The units, read by systemd itself.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;
use testkit::process::{binary, on_path};

use crate::binaries::{Configured, bytes, deployed};

const UNITS: [&str; 2] = ["greeter-server", "user-service"];
/// Of 100: what `systemd-analyze security` calls "OK" begins at 50, and most daemons are above 90.
const MOST_EXPOSED: &str = "20";

fn unit(name: &str) -> String {
    fs::read_to_string(deployed(&format!("systemd/{name}.service"))).expect("a unit")
}

/// The values of a setting, in order.
fn values<'a>(unit: &'a str, setting: &'a str) -> impl Iterator<Item = &'a str> {
    unit.lines()
        .filter_map(move |line| line.strip_prefix(setting)?.strip_prefix('='))
}

fn environment(unit: &str) -> Vec<(String, String)> {
    let variables = values(unit, "Environment").map(|variable| {
        let (key, value) = variable.split_once('=').expect("a variable");
        (key.to_owned(), value.to_owned())
    });
    variables.collect()
}

/// The unit in a directory of its own, for a binary that is there.
fn installed(name: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join(format!("{name}.service"));
    let built = binary(name).expect("it is built");
    let there = format!("/usr/local/bin/{name}");
    let unit = unit(name);
    assert!(unit.contains(&there), "{unit}");
    let here = built.to_str().expect("a path of text");
    fs::write(&path, unit.replace(&there, here)).expect("it is written");
    (directory, path)
}

fn systemd_analyze(arguments: &[&str], unit: &Path) -> (bool, String) {
    let program = on_path("systemd-analyze").expect("systemd-analyze, of Debian's package systemd");
    let output = Command::new(program)
        .args(arguments)
        .arg(unit)
        .env("SYSTEMD_COLORS", "0")
        .output()
        .expect("it starts");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn systemd_finds_no_fault_with_the_units() {
    for name in UNITS {
        let (_directory, path) = installed(name);
        let (is_well, said) = systemd_analyze(&["verify", "--man=no"], &path);
        // This machine's own units may have faults, of which it tells as well.
        let faults: Vec<_> = said.lines().filter(|line| line.contains(name)).collect();
        assert!(is_well && faults.is_empty(), "{name}: {said}");
    }
}

#[test]
fn a_unit_with_a_fault_would_be_found() {
    let (_directory, path) = installed(UNITS[0]);
    let text = fs::read_to_string(&path).expect("a unit");
    fs::write(&path, text.replace("WatchdogSec=", "WatchdogSecs=")).expect("it is written");
    let (_, said) = systemd_analyze(&["verify", "--man=no"], &path);
    assert!(said.contains("WatchdogSecs"), "{said}");
}

#[test]
fn the_units_are_exposed_to_little() {
    for name in UNITS {
        let (_directory, path) = installed(name);
        let threshold = format!("--threshold={MOST_EXPOSED}");
        let asked = ["security", "--offline=true", "--no-pager", &threshold];
        let (is_well, said) = systemd_analyze(&asked, &path);
        assert!(is_well, "{name}: {said}");
    }
}

#[test]
fn the_units_configure_the_binaries_and_give_them_time_to_end() {
    for name in UNITS {
        let unit = unit(name);
        let configured = Configured::of(&[name], &environment(&unit));
        assert!(configured.address("admin").ip().is_loopback());
        assert_eq!(
            configured.text("registry", "cache"),
            format!("/var/cache/{name}")
        );
        let stops = values(&unit, "TimeoutStopSec").next().expect("a time");
        let stops = humantime::parse_duration(stops).expect("a duration");
        assert!(stops > configured.ends_within(), "{name}: {stops:?}");
        let watchdog = values(&unit, "WatchdogSec").next().expect("a time");
        let watchdog = humantime::parse_duration(watchdog).expect("a duration");
        assert!(watchdog >= Duration::from_secs(5), "{name}: {watchdog:?}");
    }
}

#[test]
fn what_messages_may_take_fits_into_the_memory_of_a_unit() {
    for name in UNITS {
        let unit = unit(name);
        let environment = environment(&unit);
        let most = values(&unit, "MemoryMax").next().expect("a limit");
        Configured::of(&[name], &environment).messages_fit_into(bytes(most));
        let held = ("MALLOC_MMAP_THRESHOLD_".to_owned(), "131072".to_owned());
        assert!(environment.contains(&held), "{name}: {environment:?}");
    }
}

#[test]
fn the_units_do_not_contend_for_a_port() {
    let listening = UNITS.map(|name| {
        let configured = Configured::of(&[name], &environment(&unit(name)));
        [configured.address("server"), configured.address("admin")].map(|address| address.port())
    });
    let mut ports = listening.concat();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 4, "{ports:?}");
}
