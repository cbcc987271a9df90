//! The containers: what the Compose files say of the binaries, and how they are kept.

use std::fs;

use serde_json::Value;

use crate::binaries::{Configured, bytes, deployed};

const CLEAR: &str = "../docker-compose.yml";
const SECURED: &str = "compose.secure.yml";

/// The services of a file, by their names.
fn services(file: &str) -> Vec<(String, Value)> {
    let text = fs::read_to_string(deployed(file)).expect(file);
    // Compose's own word for what is to be left out of the file before.
    let text = text.replace("!reset ", "");
    let compose: Value = serde_saphyr::from_str(&text).expect(file);
    let services = compose["services"].as_object().expect("services");
    let services = services.iter();
    services
        .map(|(name, service)| (name.clone(), service.clone()))
        .collect()
}

#[test]
fn whoever_serves_in_the_secured_containers_says_whom_it_lets_in() {
    let clear = services(CLEAR);
    let is_server = |name: &str| {
        let mut built = clear.iter().filter(|(service, _)| service == name);
        built.any(|(_, service)| {
            let target = service["build"]["target"].as_str().unwrap_or_default();
            target.ends_with("-server") || target.ends_with("-service") || name.ends_with("-canary")
        })
    };
    let mut servers = Vec::new();
    for (name, service) in services(SECURED) {
        if is_server(&name) {
            let allowed = service["environment"]["DISCOVERY__TLS__ALLOW"].as_str();
            let allowed =
                allowed.unwrap_or_else(|| panic!("{name} lets in whoever is of the domain"));
            assert!(allowed.contains("callers = ["), "{name}: {allowed}");
            servers.push(name);
        }
    }
    servers.sort_unstable();
    assert_eq!(servers, ["greeter", "greeter-canary", "user"]);
}

#[test]
fn nobody_but_the_user_service_is_in_the_network_of_its_database() {
    let among = |service: &Value, network: &str| {
        let networks = service["networks"].as_array();
        networks.is_some_and(|all| all.iter().any(|one| one == network))
    };
    let services = services(CLEAR);
    let members = services.iter().filter(|(_, one)| among(one, "users"));
    let members: Vec<_> = members.map(|(name, _)| name.as_str()).collect();
    assert_eq!(members, ["postgres", "user"]);
    let (_, database) = services
        .iter()
        .find(|(name, _)| name == "postgres")
        .expect("one");
    assert_eq!(database["networks"], serde_json::json!(["users"]));
    assert!(database["ports"].is_null());
}

#[test]
fn whatever_runs_is_there_again_after_a_restart_of_the_machine_unless_it_was_stopped() {
    for (name, service) in services(CLEAR) {
        // An operator's command ends by itself.
        let wanted = if name == "discovery" {
            "no"
        } else {
            "unless-stopped"
        };
        assert_eq!(service["restart"], wanted, "{name}");
    }
    for (name, wanted) in [("certs", "unless-stopped"), ("access", "no")] {
        let secured = services(SECURED);
        let service = secured.iter().find(|(service, _)| service == name);
        assert_eq!(service.expect(name).1["restart"], wanted, "{name}");
    }
}

#[test]
fn what_messages_may_take_fits_into_the_memory_of_a_container() {
    let servers = [
        ("greeter", "greeter-server"),
        ("greeter-canary", "greeter-server"),
        ("user", "user-service"),
    ];
    let services = services(CLEAR);
    for (name, binary) in servers {
        let (_, service) = services
            .iter()
            .find(|(service, _)| service == name)
            .expect(name);
        let environment = service["environment"].as_object().expect("variables");
        let of_limits = environment
            .iter()
            .filter(|(key, _)| key.contains("__LIMITS__") || key.contains("__AUTH__"));
        let environment: Vec<_> = of_limits
            .map(|(key, value)| (key.clone(), value.to_string()))
            .collect();
        let limit = service["mem_limit"].as_str().expect("a limit");
        Configured::of(&[binary], &environment).messages_fit_into(bytes(limit));
    }
    let dockerfile = fs::read_to_string(deployed("Dockerfile")).expect("a Dockerfile");
    let (_, service) = dockerfile.split_once(" AS service\n").expect("a stage");
    let (service, _) = service.split_once("\nFROM ").expect("another");
    assert!(
        service.contains("ENV MALLOC_MMAP_THRESHOLD_=131072\n"),
        "{service}"
    );
}

#[test]
fn no_image_needs_a_shell_to_start_or_to_say_how_it_is() {
    let dockerfile = fs::read_to_string(deployed("Dockerfile")).expect("a Dockerfile");
    let lines = dockerfile.lines().map(str::trim);
    let started = lines.filter(|line| {
        let of_the_container = ["CMD", "ENTRYPOINT", "HEALTHCHECK"];
        of_the_container.iter().any(|word| line.starts_with(word))
    });
    let mut checked = 0;
    for line in started {
        let (_, command) = line
            .split_once("CMD ")
            .or_else(|| line.split_once("ENTRYPOINT "))
            .expect("a command");
        let words: Vec<String> =
            serde_json::from_str(command).unwrap_or_else(|_| panic!("a shell runs {line}"));
        assert!(!["sh", "bash"].contains(&words[0].as_str()), "{line}");
        checked += 1;
    }
    assert!(checked >= 7, "{checked}");
}
