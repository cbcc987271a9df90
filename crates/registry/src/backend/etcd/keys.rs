//! Where in etcd's flat key space a registry's keys are.

use crate::{InstanceId, ServiceName, dialect::etcd as dialect};

/// The keys below one namespace, or all keys.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// Empty, or the namespace and a `/`.
    prefix: String,
}

impl Keys {
    pub(super) fn new(namespace: Option<&ServiceName>) -> Self {
        let prefix = namespace.map_or_else(String::new, |namespace| format!("{namespace}/"));
        Self { prefix }
    }

    /// The key of an instance.
    pub(super) fn instance(&self, service: &ServiceName, id: &InstanceId) -> String {
        self.prefix.clone() + &dialect::key(service, id)
    }

    /// The key of a service's document: outside what any service's keys begin with, since no name starts with `_`.
    pub(super) fn document(&self, service: &ServiceName) -> String {
        format!("{}_service_config/{service}", self.prefix)
    }

    /// What the keys of a service begin with.
    pub(super) fn service(&self, service: &ServiceName) -> String {
        self.prefix.clone() + &dialect::prefix(service)
    }

    /// What all keys begin with; may be empty.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The service that a key belongs to; `None` for this project's own keys and those of something else.
    pub(super) fn service_of(&self, key: &[u8]) -> Option<ServiceName> {
        dialect::service_of(key.strip_prefix(self.prefix.as_bytes())?)
    }

    /// The first place after `key` where a service's key may be.
    pub(super) fn after(&self, key: &[u8]) -> Vec<u8> {
        let below = key.get(self.prefix.len()..).unwrap_or_default();
        [self.prefix.as_bytes(), &dialect::after(below)].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::{Keys, ServiceName};

    #[test]
    fn a_document_s_key_is_below_the_namespace_and_is_no_service_s() {
        let name = |name| ServiceName::new(name).expect("a name");
        for (namespace, key) in [
            (None, "_service_config/shop/basket"),
            (Some(name("eu")), "eu/_service_config/shop/basket"),
        ] {
            let keys = Keys::new(namespace.as_ref());
            assert_eq!(keys.document(&name("shop/basket")), key);
            assert_eq!(keys.service_of(key.as_bytes()), None);
            assert_eq!(Keys::new(None).service_of(key.as_bytes()), None);
        }
    }
}
