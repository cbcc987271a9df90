//! What the keys of a dialect begin with.

use super::{DialectName, InvalidDialect};

const LONGEST: usize = 253;

/// Empty, or something and a `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prefix(String);

impl Prefix {
    /// The prefix, or what keeps it from being one of that dialect.
    pub(super) fn new(dialect: DialectName, prefix: &str) -> Result<Self, InvalidDialect> {
        match problem(prefix) {
            None => Ok(Self::of_default(prefix)),
            Some(problem) => Err(InvalidDialect::Prefix {
                dialect,
                prefix: prefix.chars().take(80).collect(),
                problem,
            }),
        }
    }

    /// One that is known to be good.
    pub(super) fn of_default(prefix: &str) -> Self {
        match prefix {
            "" => Self(String::new()),
            prefix => Self(format!("{prefix}/")),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        self.0.strip_suffix('/').unwrap_or_default()
    }

    pub(super) fn root(&self) -> &str {
        &self.0
    }
}

fn problem(prefix: &str) -> Option<&'static str> {
    if prefix.len() > LONGEST {
        Some("is too long")
    } else if prefix.ends_with('/') {
        Some("ends with '/'")
    } else if prefix.contains(|c: char| c == ',' || c.is_control()) {
        Some("contains a ',' or a control character")
    } else if prefix.split('/').any(|segment| segment.starts_with('_')) {
        // Where this project keeps documents and what operators want.
        Some("has a segment that starts with '_', which is reserved")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{DialectName, Prefix};

    #[test]
    fn a_prefix_is_what_keys_begin_with_less_a_slash() {
        for (prefix, root) in [("", ""), ("/a", "/a/"), ("a/b", "a/b/"), ("ü x", "ü x/")] {
            let made = Prefix::new(DialectName::Kitex, prefix).expect(prefix);
            assert_eq!((made.as_str(), made.root()), (prefix, root));
        }
    }

    #[test]
    fn a_refusal_names_the_dialect_and_the_prefix() {
        let long = "a".repeat(254);
        for (bad, problem) in [
            ("/", "ends"),
            ("/a/", "ends"),
            ("a\nb", "control"),
            ("a,b", "','"),
            ("_intent", "reserved"),
            ("a/_b", "reserved"),
            (&long, "long"),
        ] {
            let refused = Prefix::new(DialectName::Kratos, bad).expect_err(bad);
            let text = refused.to_string();
            assert!(text.contains("kratos") && text.contains(problem), "{text}");
            assert!(text.len() < 400, "{text}");
        }
    }
}
