//! The labels that are left out unless they are asked for.

use opentelemetry::KeyValue;
use registry::Zone;

/// What a channel's measurements say of themselves only when they are asked to ([`Builder::optional_labels`], gRFC A79):
/// each multiplies time series.
///
/// [`Builder::optional_labels`]: crate::Builder::optional_labels
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OptionalLabel {
    /// `grpc.lb.locality` (gRFC A78): the zone that the registry has for the endpoint.
    Locality,
    /// `grpc.disconnect_error` (gRFC A94): why a connection ended.
    DisconnectError,
    /// `grpc.security_level` (gRFC A94): whether a connection is encrypted.
    SecurityLevel,
}

impl OptionalLabel {
    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Those that were asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Labels(u8);

impl Labels {
    pub(crate) fn with(self, label: OptionalLabel) -> Self {
        Self(self.0 | label.bit())
    }

    pub(crate) fn has(self, label: OptionalLabel) -> bool {
        self.0 & label.bit() != 0
    }

    /// In A78's form, which is xDS's. A registry knows zones; without one the label is empty.
    pub(crate) fn locality(self, zone: impl FnOnce() -> Option<Zone>) -> Option<KeyValue> {
        self.has(OptionalLabel::Locality).then(|| {
            let in_words = |zone| format!(r#"{{region="", zone="{zone}", sub_zone=""}}"#);
            KeyValue::new("grpc.lb.locality", zone().map_or(String::new(), in_words))
        })
    }

    pub(super) fn disconnect_error(self, why: &'static str) -> Option<KeyValue> {
        let wanted = self.has(OptionalLabel::DisconnectError);
        wanted.then(|| KeyValue::new("grpc.disconnect_error", why))
    }

    pub(crate) fn security_level(self, encrypted: bool) -> Option<KeyValue> {
        let level = if encrypted {
            "privacy_and_integrity"
        } else {
            "none"
        };
        let wanted = self.has(OptionalLabel::SecurityLevel);
        wanted.then(|| KeyValue::new("grpc.security_level", level))
    }
}
