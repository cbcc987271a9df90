//! Where in etcd's flat key space a registry's keys are.

use std::{collections::BTreeMap, sync::Arc};

use super::put::Entry;
use crate::{
    Instance, InstanceId, ServiceName, Status,
    dialect::{Dialect, Dialects, Slot, Written},
};

/// The keys below one namespace, or all keys.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// Empty, or the namespace and a `/`.
    namespace: String,
    dialects: Dialects,
}

impl Keys {
    pub(super) fn new(namespace: Option<&ServiceName>, dialects: Dialects) -> Self {
        let namespace = namespace.map_or_else(String::new, |namespace| format!("{namespace}/"));
        Self {
            namespace,
            dialects,
        }
    }

    /// The dialects that instances are written in and read, the first one winning.
    pub(super) fn dialects(&self) -> &Dialects {
        &self.dialects
    }

    /// What is to stand in etcd for an instance: fewer keys while it takes no calls, since most dialects cannot say so.
    pub(super) fn written(&self, instance: &Instance, slot: Slot) -> Vec<Entry> {
        let written = self.dialects.written(instance, slot).into_iter();
        let entry = |Written { key, value }| Entry {
            key: (self.namespace.clone() + &key).into(),
            value,
        };
        written.map(entry).collect()
    }

    /// All keys that an instance has while it serves.
    pub(super) fn reserved(&self, instance: &Instance, slot: Slot) -> Vec<Arc<str>> {
        let serving = instance.clone().with_status(Status::Serving);
        let entries = self.written(&serving, slot).into_iter();
        entries.map(|entry| entry.key).collect()
    }

    /// The instance of a service that stands at a key, in whichever dialect that is.
    pub(super) fn read(&self, service: &ServiceName, key: &[u8], value: &[u8]) -> Option<Instance> {
        let mut dialects = self.dialects.iter();
        dialects.find_map(|dialect| {
            let suffix = key.strip_prefix(self.service(dialect, service).as_bytes())?;
            dialect.decode(service, suffix, value).ok()
        })
    }

    /// What the keys of all documents begin with; the service follows.
    pub(super) fn documents(&self) -> String {
        self.namespace.clone() + "_service_config/"
    }

    /// What the keys of all intents begin with; the service follows, and the id.
    pub(super) fn all_intents(&self) -> String {
        self.namespace.clone() + "_intent/"
    }

    /// The key of a service's document: outside what any service's keys begin with, since no name starts with `_`.
    pub(super) fn document(&self, service: &ServiceName) -> String {
        self.documents() + service.as_str()
    }

    /// What the keys of the intents for a service's instances begin with; outside what any service's keys begin with.
    pub(super) fn intents(&self, service: &ServiceName) -> String {
        format!("{}{service}/", self.all_intents())
    }

    /// The key of the intent for an instance.
    pub(super) fn intent(&self, service: &ServiceName, id: &InstanceId) -> String {
        self.intents(service) + id.as_str()
    }

    /// What the keys of a service begin with in a dialect.
    pub(super) fn service(&self, dialect: &Dialect, service: &ServiceName) -> String {
        self.namespace.clone() + &dialect.service_prefix(service)
    }

    /// The service that a key belongs to in a dialect; `None` for this project's own keys and those of something else.
    pub(super) fn service_of(&self, dialect: &Dialect, key: &[u8]) -> Option<ServiceName> {
        dialect.service_of(key.strip_prefix(self.namespace.as_bytes())?)
    }

    /// The parts of the key space where there are services' keys.
    pub(super) fn roots(&self) -> Vec<Root<'_>> {
        let mut roots = BTreeMap::<_, Vec<_>>::new();
        for dialect in self.dialects.iter() {
            roots.entry(dialect.root()).or_default().push(dialect);
        }
        let all: Vec<_> = roots.keys().copied().collect();
        let root = |(root, dialects)| Root {
            keys: self,
            prefix: self.namespace.clone() + root,
            dialects,
            others: all
                .iter()
                .filter(|other| **other != root && other.starts_with(root))
                .map(|other| self.namespace.clone() + other)
                .collect(),
        };
        roots.into_iter().map(root).collect()
    }
}

/// What the keys of one or several dialects begin with.
#[derive(Debug)]
pub(super) struct Root<'a> {
    keys: &'a Keys,
    prefix: String,
    dialects: Vec<&'a Dialect>,
    /// The parts of this one that other dialects have.
    others: Vec<String>,
}

impl Root<'_> {
    /// What all its keys begin with; may be empty.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The services that a key may belong to.
    pub(super) fn services_of(&self, key: &[u8]) -> impl Iterator<Item = ServiceName> {
        let is_others = self
            .others
            .iter()
            .any(|other| key.starts_with(other.as_bytes()));
        let dialects = self.dialects.iter().filter(move |_| !is_others);
        dialects.filter_map(|dialect| self.keys.service_of(dialect, key))
    }

    /// The first place after `key` where a service's key may be: whatever lies below a segment that no service's name has
    /// is passed over whole.
    pub(super) fn after(&self, key: &[u8]) -> Vec<u8> {
        let mut start = self.prefix.len();
        let slashes = key.iter().enumerate().skip(start);
        for (end, _) in slashes.filter(|(_, byte)| **byte == b'/') {
            let segment = str::from_utf8(&key[start..end]).ok();
            if segment.is_none_or(|segment| ServiceName::new(segment).is_err()) {
                // In the order of keys this is what comes after all that begins with the segment and a '/'.
                return [&key[..end], &[b'/' + 1]].concat();
            }
            start = end + 1;
        }
        [key, &[0]].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::{Dialect, Dialects, InstanceId, Keys, ServiceName};
    use crate::dialect::DialectName;

    fn name(name: &str) -> ServiceName {
        ServiceName::new(name).expect("a name")
    }

    fn keys(namespace: Option<&str>, dialects: &[Dialect]) -> Keys {
        let dialects = Dialects::new(dialects.iter().cloned()).expect("dialects");
        Keys::new(namespace.map(name).as_ref(), dialects)
    }

    fn services(keys: &Keys, key: &str) -> Vec<String> {
        let roots = keys.roots();
        let within = roots.iter().filter(|root| key.starts_with(root.prefix()));
        let found = within.flat_map(|root| root.services_of(key.as_bytes()));
        found.map(|service| service.to_string()).collect()
    }

    #[test]
    fn an_intent_s_key_is_below_the_namespace_and_is_no_service_s() {
        let all: Vec<_> = DialectName::ALL.into_iter().map(Dialect::from).collect();
        let id = InstanceId::new("10.0.0.7:1").expect("an id");
        for (namespace, key) in [
            (None, "_intent/shop/basket/10.0.0.7:1"),
            (Some("eu"), "eu/_intent/shop/basket/10.0.0.7:1"),
        ] {
            let keys = keys(namespace, &all);
            assert_eq!(keys.intent(&name("shop/basket"), &id), key);
            assert_eq!(services(&keys, key), [""; 0]);
            assert_eq!(services(&self::keys(None, &all), key), [""; 0]);
        }
    }

    #[test]
    fn a_document_s_key_is_below_the_namespace_and_is_no_service_s() {
        let all: Vec<_> = DialectName::ALL.into_iter().map(Dialect::from).collect();
        for (namespace, key) in [
            (None, "_service_config/shop/basket"),
            (Some("eu"), "eu/_service_config/shop/basket"),
        ] {
            let keys = keys(namespace, &all);
            assert_eq!(keys.document(&name("shop/basket")), key);
            assert_eq!(services(&keys, key), [""; 0]);
            assert_eq!(services(&self::keys(None, &all), key), [""; 0]);
        }
    }

    #[test]
    fn the_namespace_goes_before_every_dialect_s_prefix() {
        for (namespace, prefix) in [
            (None, "/microservices/shop/basket/"),
            (Some("eu"), "eu//microservices/shop/basket/"),
        ] {
            let kratos = Dialect::from(DialectName::Kratos);
            let keys = keys(namespace, std::slice::from_ref(&kratos));
            assert_eq!(keys.service(&kratos, &name("shop/basket")), prefix);
            assert_eq!(services(&keys, &format!("{prefix}1")), ["shop/basket"]);
        }
    }

    #[test]
    fn what_one_dialect_has_is_not_taken_for_another_s_service() {
        let kitex = "kitex/registry-etcd/greeter/10.0.0.7:1";
        let both = keys(None, &[DialectName::Etcd.into(), DialectName::Kitex.into()]);
        assert_eq!(services(&both, kitex), ["greeter"]);
        assert_eq!(services(&both, "shop/basket/1"), ["shop/basket"]);
        let alone = keys(None, &[DialectName::Etcd.into()]);
        assert_eq!(services(&alone, kitex), ["kitex/registry-etcd/greeter"]);
    }

    #[test]
    fn dialects_at_one_place_are_read_at_once() {
        let root = [DialectName::Etcd, DialectName::GoZero, DialectName::Plain];
        let keys = keys(Some("eu"), &root.map(Dialect::from));
        assert_eq!(keys.roots().len(), 1);
        assert_eq!(services(&keys, "eu/greeter/7"), ["greeter"; 3]);
        assert_eq!(services(&keys, "eu/greeter"), ["greeter"]);
    }

    #[test]
    fn what_no_service_can_have_is_passed_over_whole() {
        let after = |namespace, key: &[u8]| {
            let keys = keys(namespace, &[DialectName::Etcd.into()]);
            keys.roots()[0].after(key)
        };
        for (key, next) in [
            ("a/1", "a/1\0"),
            ("a/b/1", "a/b/1\0"),
            ("a/_x", "a/_x\0"),
            ("top", "top\0"),
            ("", "\0"),
            ("/registry/pods/x", "0"),
            ("_intent/a/1", "_intent0"),
            ("a/_own/x/y", "a/_own0"),
            ("a/b c/d", "a/b c0"),
            ("a//x", "a/0"),
        ] {
            assert_eq!(after(None, key.as_bytes()), next.as_bytes(), "{key}");
        }
        assert_eq!(after(None, b"\xff/a"), b"\xff0");
        assert_eq!(after(Some("eu"), b"eu/a/b c/d"), b"eu/a/b c0");
        assert_eq!(after(Some("eu"), b"eu/_intent/a"), b"eu/_intent0");
    }
}
