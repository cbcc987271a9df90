//! Configuration as it is shown: TOML, with what is secret hidden.

use anyhow::Context;
use serde::Serialize;
use toml::{Table, Value};

const HIDDEN: &str = "***";
const SECRETS: [&str; 3] = ["password", "secret", "token"];

/// `config` as TOML that can be read back, less its secrets: the password in a URL, and every key that is named for one.
pub fn to_toml(config: &impl Serialize) -> anyhow::Result<String> {
    let mut table = Table::try_from(config).context("cannot write the configuration as TOML")?;
    hide_in_table(&mut table);
    toml::to_string(&table).context("cannot write the configuration as TOML")
}

fn hide_in_table(table: &mut Table) {
    for (key, value) in table.iter_mut() {
        match value {
            Value::Table(inner) => hide_in_table(inner),
            Value::String(text) if is_secret(key) && !text.is_empty() => HIDDEN.clone_into(text),
            Value::String(text) => *text = without_secret_parameters(&without_password(text)),
            _ => {}
        }
    }
}

/// Whether that is what has the name, and not what is about it: `api_token`, and neither `token_ttl` nor `password_file`.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRETS.iter().any(|secret| name.ends_with(secret))
}

/// `scheme://rest?name=value&…` with the values of secret names hidden; anything else as it is.
fn without_secret_parameters(text: &str) -> String {
    let Some((before, query)) = text.split_once('?').filter(|_| text.contains("://")) else {
        return text.to_owned();
    };
    let shown = query
        .split('&')
        .map(|parameter| match parameter.split_once('=') {
            Some((name, value)) if is_secret(name) && !value.is_empty() => {
                format!("{name}={HIDDEN}")
            }
            _ => parameter.to_owned(),
        });
    format!("{before}?{}", shown.collect::<Vec<_>>().join("&"))
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
    fn a_secret_that_is_a_parameter_of_a_url_is_hidden_too() {
        let url = "postgres:///users?host=db&password=s3c@r3t&Api-Token=s3c@r3t&user=ann";
        let config: Table = toml::from_str(&format!("url = '{url}'")).expect("TOML");
        let shown = to_toml(&config).expect("TOML");
        let expected = "postgres:///users?host=db&password=***&Api-Token=***&user=ann";
        assert_eq!(shown, format!("url = \"{expected}\"\n"));
    }

    #[test]
    fn what_is_no_secret_is_shown_as_it_is() {
        let config: Table = toml::from_str(
            "a = 'file:///x:y@z'\nb = 'etcd://h:1'\nc = 'me@home'\npassword_file = '/run/secret'\n\
             token_ttl = '1h'\nd = 'sqlite://users.db?mode=rwc'\ne = 'password=x?token=y'",
        )
        .expect("TOML");
        assert_eq!(
            toml::from_str::<Table>(&to_toml(&config).expect("TOML")).expect("TOML"),
            config
        );
    }
}
