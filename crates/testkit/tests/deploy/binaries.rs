//! The binaries, asked what their configuration comes to.

use std::{net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use testkit::process::binary;
use toml::Table;

/// How often what messages may take has to fit into the memory of a process: docs/operations.md has what was measured.
const TIMES: u64 = 8;
/// What it takes to hash a password, in bytes.
const A_PASSWORD: u64 = 19 * 1024 * 1024;

/// A size as manifests, units and Compose files have it: `256Mi`, `256M`, `256m`, of 1,024 each.
pub(crate) fn bytes(text: &str) -> u64 {
    let number = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "Mi" | "M" | "m" => 1024 * 1024,
        "Gi" | "G" | "g" => 1024 * 1024 * 1024,
        other => panic!("{text}: {other}"),
    };
    unit * number.parse::<u64>().expect("a number")
}

/// A file or directory of `deploy`.
pub(crate) fn deployed(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy")).join(path)
}

/// The configuration that a binary would run by.
pub(crate) struct Configured(Table);

impl Configured {
    /// That of a command line with these variables, and nothing of this process's own environment.
    pub(crate) fn of(command: &[&str], environment: &[(String, String)]) -> Self {
        let output = Command::new(binary(command[0]).expect("it is built"))
            .args(&command[1..])
            .arg("--print-config")
            .env_clear()
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .output()
            .expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}");
        let text = String::from_utf8(output.stdout).expect("text");
        Self(text.parse().expect("TOML"))
    }

    pub(crate) fn text(&self, section: &str, key: &str) -> &str {
        let value = self.0.get(section).and_then(|section| section.get(key));
        let text = value.and_then(toml::Value::as_str);
        text.unwrap_or_else(|| panic!("{section}.{key}"))
    }

    pub(crate) fn address(&self, section: &str) -> SocketAddr {
        let listen = self.text(section, "listen");
        listen.parse().unwrap_or_else(|_| panic!("{listen}"))
    }

    pub(crate) fn duration(&self, section: &str, key: &str) -> Duration {
        humantime::parse_duration(self.text(section, key)).expect("a duration")
    }

    fn number(&self, keys: &[&str]) -> u64 {
        let of_all = toml::Value::Table(self.0.clone());
        let value = keys.iter().try_fold(&of_all, |value, key| value.get(key));
        let number = value.and_then(toml::Value::as_integer);
        let number = number.unwrap_or_else(|| panic!("{keys:?}"));
        number.try_into().expect("a number")
    }

    /// Holds what the messages of a server's callers may take, and its passwords, against so much memory, in bytes.
    pub(crate) fn messages_fit_into(&self, memory: u64) {
        let limit = |name| self.number(&["server", "limits", name]);
        let (all, of_an_address) = (limit("message_memory"), limit("message_memory_per_address"));
        assert!(of_an_address < all && of_an_address > limit("message_size"));
        let passwords = self
            .0
            .get("auth")
            .map(|_| self.number(&["auth", "parallelism"]));
        let needed = TIMES * all + passwords.unwrap_or_default() * A_PASSWORD;
        assert!(needed <= memory, "{needed} of {memory} bytes");
    }

    /// How long a server may take to end: to give notice, delete its keys, finish its calls, close its storage when it has one,
    /// and say a last word to a collector.
    pub(crate) fn ends_within(&self) -> Duration {
        let server = |key| self.duration("server", key);
        let storage = self.0.get("storage");
        let storage = storage.map(|_| self.duration("storage", "timeout"));
        let calls = server("drain_notice") + server("drain_limit");
        calls + storage.unwrap_or_default() + Duration::from_secs(8)
    }
}
