//! Which of a service's instances a target means: `?version=v2&label.tier=gold`.

use std::{collections::BTreeMap, fmt};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use registry::Instance;

/// What is written as it is in a query: RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Chooses among a service's instances by what they say of themselves; all that is asked for must hold. The default
/// chooses all.
///
/// ```
/// use registry::{Address, Instance, ServiceName};
/// let balance::Target::Service { selector, .. } = "greeter?version=v2&label.tier=gold".parse()? else {
///     unreachable!()
/// };
/// let greeter = Instance::new(ServiceName::new("greeter")?, Address::new("10.0.0.7:1")?).with_version("v2");
/// assert!(!selector.selects(&greeter));
/// assert!(selector.selects(&greeter.with_label("tier", "gold")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    version: Option<String>,
    labels: BTreeMap<String, String>,
}

impl Selector {
    /// Chooses the instances of that version, where one is given, which have these labels.
    pub fn new(
        version: Option<String>,
        labels: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        Self {
            version,
            labels: labels.into_iter().collect(),
        }
    }

    /// Whether the instance is meant.
    pub fn selects(&self, instance: &Instance) -> bool {
        let version = self.version.as_deref();
        version.is_none_or(|version| instance.version.as_deref() == Some(version))
            && self.labels.iter().all(|(name, value)| {
                let label = instance.labels.get(name.as_str());
                label.is_some_and(|label| **label == **value)
            })
    }

    /// Reads what follows the `?`; an error says what is wrong with it.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let mut selector = Self::default();
        for term in query.split('&') {
            let (key, value) = term.split_once('=').ok_or_else(|| {
                format!("{term:?} is no KEY=VALUE; write version=V or label.NAME=VALUE")
            })?;
            let value = decoded(value)?;
            let before = match key.strip_prefix("label.").filter(|name| !name.is_empty()) {
                Some(name) => selector.labels.insert(decoded(name)?, value),
                None if key == "version" => selector.version.replace(value),
                None => {
                    return Err(format!(
                        "{key:?} is nothing to select by; write version=V or label.NAME=VALUE"
                    ));
                }
            };
            if before.is_some() {
                return Err(format!("{key:?} is asked for twice"));
            }
        }
        Ok(selector)
    }

    /// Whether it chooses all.
    pub(crate) fn is_empty(&self) -> bool {
        self.version.is_none() && self.labels.is_empty()
    }
}

fn decoded(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(Into::into)
        .map_err(|_| format!("{text:?} is not UTF-8"))
}

/// What follows the `?`.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = |text| utf8_percent_encode(text, RESERVED);
        let version = self
            .version
            .iter()
            .map(|v| format!("version={}", encoded(v)));
        let labels = self.labels.iter();
        let labels =
            labels.map(|(name, value)| format!("label.{}={}", encoded(name), encoded(value)));
        f.write_str(&version.chain(labels).collect::<Vec<_>>().join("&"))
    }
}
