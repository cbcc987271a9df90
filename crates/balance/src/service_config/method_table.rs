//! Finds what holds for a method; on the path of each call.

use std::{collections::HashMap, sync::Arc};

use rustc_hash::FxBuildHasher;

use super::{
    InvalidServiceConfig,
    method::{Entry, MethodConfig, Name},
};

/// By service, then by method, so that each byte of a path is hashed once at most. The names are the config's own and
/// the paths the caller's: a fast hash that does not guard against chosen keys is enough.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct MethodTable {
    services: HashMap<Box<str>, Service, FxBuildHasher>,
    /// For the methods of all other services.
    default: Option<Arc<MethodConfig>>,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Service {
    methods: HashMap<Box<str>, Arc<MethodConfig>, FxBuildHasher>,
    /// For its other methods.
    default: Option<Arc<MethodConfig>>,
}

impl MethodTable {
    /// An entry without names holds for no method, and a name must not stand twice in the whole list (grpc/grpc
    /// `doc/service_config.md`).
    pub(super) fn new(entries: Vec<Entry>) -> Result<Self, InvalidServiceConfig> {
        let mut table = Self::default();
        for (at, Entry { names, config }) in entries.into_iter().enumerate() {
            let config = Arc::new(config);
            for (index, name) in names.into_iter().enumerate() {
                table.insert(name, &config).map_err(|problem| {
                    InvalidServiceConfig::new(format!("methodConfig[{at}].name[{index}]"), problem)
                })?;
            }
        }
        Ok(table)
    }

    fn insert(&mut self, name: Name, config: &Arc<MethodConfig>) -> Result<(), String> {
        let Name { service, method } = name;
        let config = Arc::clone(config);
        let (taken, what) = if service.is_empty() {
            (self.default.replace(config), "the default".to_owned())
        } else {
            let what = format!("{service}/{method}");
            let service = self.services.entry(service.into()).or_default();
            (service.insert(method, config), what)
        };
        match taken {
            None => Ok(()),
            Some(_) => Err(format!("{what} is named before; name it once")),
        }
    }

    /// The entry for the method, else for its service, else for all; `path` is `/package.Service/Method`.
    pub(super) fn get(&self, path: &str) -> Option<&Arc<MethodConfig>> {
        self.of_service(path).or(self.default.as_ref())
    }

    fn of_service(&self, path: &str) -> Option<&Arc<MethodConfig>> {
        if self.services.is_empty() {
            return None;
        }
        let (service, method) = path.strip_prefix('/')?.rsplit_once('/')?;
        let service = self.services.get(service)?;
        match service.methods.get(method) {
            None => service.default.as_ref(),
            found => found,
        }
    }
}

impl Service {
    fn insert(&mut self, method: String, config: Arc<MethodConfig>) -> Option<Arc<MethodConfig>> {
        if method.is_empty() {
            return self.default.replace(config);
        }
        self.methods.insert(method.into(), config)
    }
}
