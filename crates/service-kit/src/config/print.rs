//! Configuration as it is shown: TOML, with what is secret hidden.

use anyhow::Context;
use serde::Serialize;
use toml::{Table, Value};

const HIDDEN: &str = "***";
const SECRET_KEYS: [&str; 3] = ["password", "secret", "token"];

/// `config` as TOML that can be read back, less its secrets: the password in a URL, and every key that is named for one.
pub fn to_toml(config: &impl Serialize) -> anyhow::Result<String> {
    let mut table = Table::try_from(config).context("cannot write the configuration as TOML")?;
    hide_in_table(&mut table);
    toml::to_string(&table).context("cannot write the configuration as TOML")
}

fn hide_in_table(table: &mut Table) {
    for (key, value) in table.iter_mut() {
        let names_a_file = key.ends_with("_file");
        let secret = !names_a_file && SECRET_KEYS.iter().any(|name| key.contains(name));
        match value {
            Value::Table(inner) => hide_in_table(inner),
            Value::String(text) if secret && !text.is_empty() => HIDDEN.clone_into(text),
            Value::String(text) => *text = without_password(text),
            _ => {}
        }
    }
}

/// `scheme://user:password@rest` with the password hidden, whatever characters that has; anything else as it is.
fn without_password(text: &str) -> String {
    let hidden = || {
        let (scheme, rest) = text.split_once("://")?;
        let (userinfo, host) = rest.rsplit_once('@')?;
        let (user, _) = userinfo.split_once(':')?;
        // Without a host there is no user either.
        (!user.contains('/')).then(|| format!("{scheme}://{user}:{HIDDEN}@{host}"))
    };
    hidden().unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Table, to_toml};

    #[test]
    fn secrets_are_hidden_wherever_they_are() {
        let config: Table = toml::from_str(
            "url = 'etcd://ann:s3cr3t@h1:1,h2:2/ns'\n[deep]\npassword = 's3cr3t'\napi_token = 's3cr3t'\nempty_token = ''",
        )
        .expect("TOML");
        let shown = to_toml(&config).expect("TOML");
        assert!(!shown.contains("s3cr3t"), "{shown}");
        assert!(shown.contains("etcd://ann:***@h1:1,h2:2/ns"), "{shown}");
        assert!(shown.contains("empty_token = \"\""), "{shown}");
        for password in ["s3c/r3t", "s3c@r3t", "s3c:r3t", "s3c/@/r3t"] {
            let url = format!("url = 'etcds://ann:{password}@h1:1,h2:2/ns'");
            let shown = to_toml(&url.parse::<Table>().expect("TOML")).expect("TOML");
            assert!(shown.contains("//ann:***@h1:1,h2:2/ns"), "{shown}");
        }
    }

    #[test]
    fn what_is_no_secret_is_shown_as_it_is() {
        let config: Table = toml::from_str(
            "a = 'file:///x:y@z'\nb = 'etcd://h:1'\nc = 'me@home'\npassword_file = '/run/secret'",
        )
        .expect("TOML");
        assert_eq!(
            toml::from_str::<Table>(&to_toml(&config).expect("TOML")).expect("TOML"),
            config
        );
    }
}
