//! Who may call which methods.

use std::{fmt, str::FromStr};

use registry::tls::SpiffeId;
use serde::{Deserialize, Serialize};

use super::text;

/// `[[tls.allow]]`: callers of methods. Several that name a method let in the callers of each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// The methods: `helloworld.Greeter/SayHello`, `helloworld.Greeter/*`, `*`. Those of `grpc.*`, health and reflection, are
    /// meant by what begins so alone.
    #[serde(with = "text")]
    pub method: Pattern,
    /// Who may call them: services of the domain, as in `client` and `shop/*`. Nobody, when there is none.
    #[serde(with = "patterns")]
    pub callers: Vec<Pattern>,
}

impl Allow {
    /// Whether it is about that method.
    pub(crate) fn is_about(&self, method: &str) -> bool {
        let is_of_grpc = |name: &str| name.starts_with("grpc.");
        self.method.matches(method) && (!is_of_grpc(method) || is_of_grpc(&self.method.text))
    }

    /// Whether it lets in that caller, who is of the domain.
    pub(crate) fn lets_in(&self, caller: &SpiffeId) -> bool {
        let path = caller.path();
        self.callers.iter().any(|pattern| pattern.matches(path))
    }
}

/// A name, or how names begin when it ends with `*`.
///
/// ```
/// use service_kit::config::Pattern;
/// let pattern: Pattern = "helloworld.Greeter/*".parse()?;
/// assert!(pattern.matches("helloworld.Greeter/SayHello"));
/// assert!(!pattern.matches("helloworld.Greeters/SayHello"));
/// assert!("*.Greeter".parse::<Pattern>().is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
}

impl Pattern {
    /// Whether that is one of them.
    pub fn matches(&self, name: &str) -> bool {
        match self.text.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == self.text,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let beginning = text.strip_suffix('*').unwrap_or(text);
        if text.is_empty() || beginning.contains('*') || text.starts_with('/') {
            return Err(format!(
                "{text:?} names nothing; write a name, or how it begins and a *, without a / before it"
            ));
        }
        Ok(Self { text: text.into() })
    }
}

/// A list of texts.
mod patterns {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Pattern;

    pub(super) fn serialize<S: Serializer>(patterns: &[Pattern], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(patterns.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Pattern>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        let parsed = texts.iter().map(|text| {
            if text.starts_with("spiffe://") {
                return Err(format!(
                    "{text:?}: callers are services of tls.domain, by their names alone"
                ));
            }
            text.parse()
        });
        parsed.collect::<Result<_, _>>().map_err(D::Error::custom)
    }
}

/// A list of tables in the file; in the environment one text, as TOML writes a list within a line.
pub(super) mod list {
    use std::fmt;

    use serde::{
        Deserialize, Deserializer, Serialize, Serializer,
        de::{Error, SeqAccess, Visitor},
    };

    use super::Allow;

    pub(crate) fn serialize<S: Serializer>(list: &Vec<Allow>, to: S) -> Result<S::Ok, S::Error> {
        list.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Allow>, D::Error> {
        from.deserialize_any(Listed)
    }

    #[derive(Deserialize)]
    struct Wrapped {
        allow: Vec<Allow>,
    }

    struct Listed;

    impl<'de> Visitor<'de> for Listed {
        type Value = Vec<Allow>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of tables with a method and its callers")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<Allow>, E> {
            let wrapped = toml::from_str::<Wrapped>(&format!("allow = {text}"));
            wrapped.map(|wrapped| wrapped.allow).map_err(|error| {
                E::custom(format_args!(
                    "{}; write [{{ method = \"helloworld.Greeter/*\", callers = [\"client\"] }}]",
                    error.message()
                ))
            })
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Allow>, A::Error> {
            let mut rules = Vec::new();
            while let Some(rule) = list.next_element()? {
                rules.push(rule);
            }
            Ok(rules)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Allow, Pattern, SpiffeId};

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        let parsed = texts.iter().map(|text| text.parse().expect("a pattern"));
        parsed.collect()
    }

    fn allow(method: &str, callers: &[&str]) -> Allow {
        Allow {
            method: method.parse().expect("a pattern"),
            callers: patterns(callers),
        }
    }

    #[test]
    fn callers_are_services_by_their_names() {
        for (callers, caller, is_in) in [
            (&["client"][..], "spiffe://example.org/client", true),
            (&["client"], "spiffe://example.org/client/2", false),
            (&["shop/*"], "spiffe://example.org/shop/basket", true),
            (&["*"], "spiffe://example.org/anybody", true),
            (&["a", "b"], "spiffe://example.org/b", true),
            (&[], "spiffe://example.org/client", false),
        ] {
            let caller: SpiffeId = caller.parse().expect("an id");
            let rule = allow("*", callers);
            assert_eq!(rule.lets_in(&caller), is_in, "{rule:?} {caller}");
        }
        let foreign = r#"method = "*"
            callers = ["spiffe://example.com/client"]"#;
        let refused = toml::from_str::<Allow>(foreign).expect_err("of another domain");
        assert!(
            refused.message().contains("services of tls.domain"),
            "{refused}"
        );
    }

    #[test]
    fn health_and_reflection_are_meant_by_their_own_names_alone() {
        let health = "grpc.health.v1.Health/Check";
        assert!(!allow("*", &[]).is_about(health));
        assert!(!allow("g*", &[]).is_about(health));
        assert!(allow("grpc.*", &[]).is_about(health));
        assert!(allow("g*", &[]).is_about("greeter.Greeter/Greet"));
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in ["", "*a", "a*b", "**", "/helloworld.Greeter/SayHello"] {
            text.parse::<Pattern>().expect_err(text);
        }
    }
}
