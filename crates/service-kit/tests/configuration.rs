//! Configuration: which layer wins, and what a mistake in each of them says.

use std::{collections::HashMap, io::Write, time::Duration};

use service_kit::{
    ServiceConfig,
    config::{AdminListen, Advertise, Flags, LogFormat, Sources, load, to_toml},
};
use tempfile::NamedTempFile;

fn defaults() -> ServiceConfig {
    ServiceConfig::named("greeter").expect("a service name")
}

fn environment(variables: &[(&str, &str)]) -> HashMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    variables.iter().map(owned).collect()
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::with_suffix(".toml").expect("a temporary file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

fn from_file(text: &str) -> anyhow::Result<ServiceConfig> {
    let file = file(text);
    let sources = Sources {
        file: Some(file.path().to_owned()),
        ..Sources::default()
    };
    load(&defaults(), &sources)
}

fn from_environment(variables: &[(&str, &str)]) -> anyhow::Result<ServiceConfig> {
    let sources = Sources {
        environment: environment(variables),
        ..Sources::default()
    };
    load(&defaults(), &sources)
}

fn refusal(outcome: anyhow::Result<ServiceConfig>) -> String {
    registry::one_line(outcome.expect_err("a mistake").as_ref())
}

#[test]
fn without_layers_the_defaults_are_in_force() {
    let config = load(&defaults(), &Sources::default()).expect("the defaults");
    assert_eq!(config, defaults());
    assert_eq!(config.registry.ttl, Duration::from_secs(10));
}

#[test]
fn the_later_layer_wins() {
    let file = file("[registry]\nttl = '3s'\nnamespace = 'file'\nurl = 'memory:file'\n");
    let sources = Sources {
        file: Some(file.path().to_owned()),
        environment: environment(&[
            ("DISCOVERY__REGISTRY__NAMESPACE", "environment"),
            ("DISCOVERY__REGISTRY__URL", "memory:environment"),
        ]),
        flags: Flags::new().set("--registry", "registry.url", Some("memory:flag")),
    };
    let registry = load(&defaults(), &sources).expect("layers").registry;
    assert_eq!(registry.ttl, Duration::from_secs(3));
    assert_eq!(registry.namespace.expect("one").as_str(), "environment");
    assert_eq!(registry.url, "memory:flag");
}

#[test]
fn the_environment_gives_every_type_of_value() {
    let config = from_environment(&[
        ("DISCOVERY__REGISTRY__TTL", "5s"),
        ("DISCOVERY__REGISTRY__CACHE", "/var/cache/discovery"),
        ("DISCOVERY__SERVER__WEIGHT", "7"),
        ("DISCOVERY__SERVER__REQUIRE_REGISTRY", "true"),
        ("DISCOVERY__SERVER__VERSION", "1.10"),
        ("DISCOVERY__SERVER__LABELS__TIER", "gold"),
        ("DISCOVERY__SERVER__ADVERTISE", "greeter-0.example"),
        ("DISCOVERY__ADMIN__LISTEN", "off"),
        ("DISCOVERY__LOG__FORMAT", "json"),
        ("DISCOVERY_REGISTRY__URL", "not ours: one underscore"),
        ("PATH", "/bin"),
    ])
    .expect("typed values");
    assert_eq!(config.registry.ttl, Duration::from_secs(5));
    let cache = config.registry.cache.expect("a directory");
    assert_eq!(cache.path(), "/var/cache/discovery");
    assert_eq!(config.server.weight.get(), 7);
    assert!(config.server.require_registry);
    assert_eq!(config.server.version.as_deref(), Some("1.10"));
    assert_eq!(config.server.labels["tier"], "gold");
    assert_eq!(
        config.server.advertise,
        Advertise::Host("greeter-0.example".into())
    );
    assert_eq!(config.admin.listen, AdminListen::Off);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.registry.url, defaults().registry.url);
}

#[test]
fn dialects_are_a_list_in_the_file_and_one_text_in_the_environment() {
    let listed = from_file("[registry]\ndialects = ['etcd', 'kratos=/shop']\n").expect("a list");
    let named = from_environment(&[("DISCOVERY__REGISTRY__DIALECTS", "etcd, kratos=/shop")]);
    assert_eq!(listed, named.expect("a text"));
    assert_eq!(listed.registry.dialects.to_string(), "etcd,kratos=/shop");
    let shown = to_toml(&listed).expect("TOML");
    assert!(
        shown.contains(r#"dialects = ["etcd", "kratos=/shop"]"#),
        "{shown}"
    );
    assert_eq!(defaults().registry.dialects.to_string(), "etcd");
    for (bad, part) in [
        ("['consul']", "grpc-lb"),
        ("['etcd', 'etcd']", "twice"),
        ("[]", "no dialect"),
        ("[7]", "7"),
        ("'kratos=_x'", "_x"),
    ] {
        let message = refusal(from_file(&format!("[registry]\ndialects = {bad}\n")));
        for part in [part, "registry.dialects", ".toml"] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    }
}

#[tokio::test]
async fn an_etcd_is_spoken_to_as_the_configuration_says() {
    let secured = "[registry]\nurl = 'etcds://h:1'\nuser = 'ann'\npassword_file = '/run/secrets/etcd'\n[registry.tls]\nca = '/ca.pem'\n";
    let config = from_file(secured).expect("a configuration");
    let registry = config.registry.connect().expect("a registry");
    assert_eq!(registry.url(), "etcds://ann@h:1");
    let shown = format!("{registry:?}");
    for part in ["/ca.pem", "/run/secrets/etcd"] {
        assert!(shown.contains(part), "{part} is not in: {shown}");
    }
    let shown = to_toml(&config).expect("TOML");
    assert!(shown.contains("/run/secrets/etcd"), "{shown}");
}

#[tokio::test]
async fn a_watch_is_shared_within_a_namespace_only() {
    let connect = |rest: &str| {
        let text = format!("[registry]\nshared_watch = true\nurl = {rest}\n");
        from_file(&text)
            .expect("a configuration")
            .registry
            .connect()
    };
    for good in [
        "'etcd://h:1/shop'",
        "'etcd://h:1'\nnamespace = 'shop'",
        "'memory:'",
    ] {
        connect(good).expect(good);
    }
    let refused = connect("'etcd://h:1'").expect_err("it would be all of etcd");
    let message = registry::one_line(refused.as_ref());
    for part in ["namespace", "all of etcd"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
}

#[tokio::test]
async fn half_of_what_secures_an_etcd_is_refused_with_the_other_half() {
    let registry = |rest: &str| from_file(&format!("[registry]\n{rest}"));
    for (text, parts) in [
        (
            "url = 'etcd://h:1'\ntls.ca = '/ca.pem'",
            ["registry.tls", "etcds://"],
        ),
        (
            "url = 'etcds://h:1'\ntls.key = '/key.pem'",
            ["registry.tls.key", "registry.tls.certificate"],
        ),
        (
            "url = 'etcds://h:1'\ntls.certificate = '/c.pem'",
            ["registry.tls.certificate", "registry.tls.key"],
        ),
        (
            "url = 'etcds://h:1'\ntls.server_name = 'a b'",
            ["\"a b\"", "certificate"],
        ),
        (
            "url = 'etcd://h:1'\nuser = 'ann'",
            ["registry.user", "registry.password_file"],
        ),
        (
            "url = 'etcd://h:1'\npassword_file = '/p'",
            ["registry.password_file", "registry.user"],
        ),
    ] {
        let refused = registry(text).expect("a configuration").registry.connect();
        let message = registry::one_line(refused.expect_err(text).as_ref());
        for part in parts {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    }
}

#[test]
fn an_empty_value_unsets_what_a_lower_layer_set() {
    let file = file("[server]\nzone = 'a'\n");
    let sources = Sources {
        file: Some(file.path().to_owned()),
        environment: environment(&[("DISCOVERY__SERVER__ZONE", "")]),
        flags: Flags::new(),
    };
    assert_eq!(
        load(&defaults(), &sources)
            .expect("a configuration")
            .server
            .zone,
        None
    );
}

#[test]
fn a_file_may_name_labels_freely() {
    let config =
        from_file("[server.labels]\nTier = 'gold'\n'example.com/team' = 'a'\n").expect("labels");
    assert_eq!(config.server.labels["Tier"], "gold");
    assert_eq!(config.server.labels["example.com/team"], "a");
}

#[test]
fn an_unknown_key_is_named_with_where_it_came_from_and_what_there_is() {
    let message = refusal(from_file("[registry]\nurll = 'x'\n"));
    for part in ["registry.urll", ".toml", "[registry] has", "namespace"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    let message = refusal(from_environment(&[("DISCOVERY__REGISTRY__URLL", "x")]));
    for part in ["registry.urll", "DISCOVERY__REGISTRY__URLL", "namespace"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
}

#[test]
fn an_unknown_section_is_refused_too() {
    for (outcome, name) in [
        (from_file("[regisry]\nurl = 'x'\n"), "regisry.url"),
        (from_file("url = 'x'\n"), "url"),
        (from_file("registry = 'x'\n"), "registry"),
        (
            from_environment(&[("DISCOVERY__URL", "x")]),
            "DISCOVERY__URL",
        ),
        (
            from_environment(&[("DISCOVERY__REGISTRY__URL__X", "x")]),
            "registry.url.x",
        ),
        (from_environment(&[("DISCOVERY__", "x")]), "DISCOVERY__"),
    ] {
        let message = refusal(outcome);
        assert!(
            message.contains("unknown key") && message.contains(name),
            "{message}"
        );
    }
}

#[test]
fn a_value_that_does_not_fit_is_named_with_its_key_and_where_it_came_from() {
    for (name, value, parts) in [
        (
            "DISCOVERY__REGISTRY__NAMESPACE",
            "a b",
            ["registry.namespace", "\"a b\"", "A-Z"],
        ),
        (
            "DISCOVERY__REGISTRY__TTL",
            "1s",
            ["registry.ttl", "2s", "10m"],
        ),
        (
            "DISCOVERY__REGISTRY__TTL",
            "10",
            ["registry.ttl", "environment", "unit"],
        ),
        (
            "DISCOVERY__REGISTRY__CACHE",
            "cache",
            ["registry.cache", "\"cache\"", "absolute"],
        ),
        (
            "DISCOVERY__TRACE__SAMPLE_RATIO",
            "1.5",
            ["trace.sample_ratio", "1.5", "from 0 to 1"],
        ),
        (
            "DISCOVERY__TRACE__SAMPLE_RATIO",
            "NaN",
            ["trace.sample_ratio", "NaN", "from 0 to 1"],
        ),
        (
            "DISCOVERY__SERVER__LISTEN",
            "nowhere",
            ["server.listen", "\"nowhere\"", "IP:PORT"],
        ),
        (
            "DISCOVERY__SERVER__WEIGHT",
            "0",
            ["server.weight", "\"0\"", "1000000"],
        ),
        (
            "DISCOVERY__SERVER__WEIGHT",
            "much",
            ["server.weight", "much", "DISCOVERY__SERVER__WEIGHT"],
        ),
        (
            "DISCOVERY__SERVER__SERVICE",
            "a b",
            ["server.service", "\"a b\"", "A-Z"],
        ),
        (
            "DISCOVERY__SERVER__ADVERTISE",
            "a b",
            ["server.advertise", "\"a b\"", "host:port"],
        ),
        (
            "DISCOVERY__SERVER__REQUIRE_REGISTRY",
            "maybe",
            ["server.require_registry", "maybe", "bool"],
        ),
        (
            "DISCOVERY__ADMIN__LISTEN",
            "on",
            ["admin.listen", "\"on\"", "off"],
        ),
        (
            "DISCOVERY__LOG__FORMAT",
            "xml",
            ["log.format", "xml", "auto"],
        ),
    ] {
        let message = refusal(from_environment(&[(name, value)]));
        for part in parts.into_iter().chain([name]) {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    }
}

#[test]
fn a_flag_that_does_not_fit_is_named() {
    let sources = Sources {
        flags: Flags::new().set("--listen", "server.listen", Some("x")),
        ..Sources::default()
    };
    let message = refusal(load(&defaults(), &sources));
    assert!(
        message.contains("--listen") && message.contains("IP:PORT"),
        "{message}"
    );
}

#[test]
fn a_file_that_is_not_there_or_is_no_toml_is_named() {
    let sources = Sources {
        file: Some("/no/such.toml".into()),
        ..Sources::default()
    };
    let message = refusal(load(&defaults(), &sources));
    assert!(message.contains("/no/such.toml"), "{message}");
    let message = refusal(from_file("[registry\n"));
    assert!(
        message.contains(".toml") && message.contains("line 1"),
        "{message}"
    );
}

#[test]
fn what_is_shown_can_be_read_back() {
    let mut config = defaults();
    config.server.labels.insert("tier".into(), "gold".into());
    let shown = to_toml(&config).expect("TOML");
    assert_eq!(
        from_file(&shown).expect("what was shown"),
        config,
        "{shown}"
    );
}
