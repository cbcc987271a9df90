//! A list given beforehand, read-only.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{self, Path, PathBuf},
    sync::Arc,
};

use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, ready},
    stream::{self, BoxStream},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::path_url;
use crate::{
    Address, Change, Hold, HoldRequest, Instance, Revision, ServiceName, Snapshot, Store,
    StoreError, Update, record::Record,
};

/// The only revision that there is.
const REVISION: Revision = Revision(1);

/// Why a file is no list of instances. The text names what is wrong and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FixedError {
    /// It cannot be read.
    #[error("cannot read the list of instances {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not JSON of the right shape.
    #[error(
        "{path} is no list of instances: it has to be JSON like {{\"greeter\": [\"10.0.0.7:50051\", {{\"addresses\": [\"10.0.0.8:50051\"], \"weight\": 3}}]}}"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// One of the instances, or a service's name, is refused.
    #[error("{path}: {place}: {problem}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which one: `greeter[0]`, counted from 0.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// A registry whose instances were given when it was made: it can be listed and watched, and nothing changes in it.
///
/// ```
/// use registry::{Address, Registry, ServiceName, backend::fixed::FixedStore};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let greeter = ServiceName::new("greeter")?;
/// let store = FixedStore::new(greeter.clone(), [Address::new("10.0.0.7:50051")?]);
/// assert_eq!(Registry::new(store).list(&greeter).await?.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct FixedStore {
    url: Arc<str>,
    services: Arc<BTreeMap<ServiceName, Snapshot>>,
}

/// An instance as it is written in a file.
#[derive(Deserialize)]
#[serde(untagged, expecting = "an address or an object with \"addresses\"")]
enum Entry {
    Address(String),
    Record(Map<String, Value>),
}

impl FixedStore {
    /// One service that answers at these addresses, each an instance of its own; one given twice counts once.
    pub fn new(service: ServiceName, addresses: impl IntoIterator<Item = Address>) -> Self {
        let instances = addresses
            .into_iter()
            .map(|address| Instance::new(service.clone(), address));
        let snapshot = snapshot(service.clone(), instances);
        Self {
            url: "fixed:".into(),
            services: Arc::new(BTreeMap::from([(service, snapshot)])),
        }
    }

    /// The services in a file of JSON: each service's name with a list of addresses and of objects that say more
    /// (`addresses`, and where wanted `id`, `weight`, `zone`, `version`, `status`, `labels`).
    ///
    /// ```json
    /// {"greeter": ["127.0.0.1:50051", {"addresses": ["10.0.0.1:1"], "weight": 3}]}
    /// ```
    ///
    /// The file is read once, here; a later change of it has no effect on this value.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, FixedError> {
        let path = path.as_ref();
        let text = fs::read(path).map_err(|source| FixedError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let services: BTreeMap<String, Vec<Entry>> =
            serde_json::from_slice(&text).map_err(|source| FixedError::Malformed {
                path: path.to_owned(),
                source,
            })?;
        let services = services
            .into_iter()
            .map(|(name, entries)| service(&name, entries))
            .collect::<Result<_, _>>()
            .map_err(|Problem { place, problem }| FixedError::Invalid {
                path: path.to_owned(),
                place,
                problem,
            })?;
        // Where the current directory cannot be asked, the path as given names the file just as well.
        let absolute = path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self {
            url: path_url("fixed", &absolute).into(),
            services: Arc::new(services),
        })
    }

    fn snapshot(&self, service: &ServiceName) -> Snapshot {
        match self.services.get(service) {
            Some(snapshot) => snapshot.clone(),
            None => Snapshot::empty(service.clone()),
        }
    }
}

/// What is wrong, and with which part of the file.
struct Problem {
    place: String,
    problem: String,
}

fn service(name: &str, entries: Vec<Entry>) -> Result<(ServiceName, Snapshot), Problem> {
    let service = ServiceName::new(name).map_err(|error| Problem {
        place: format!("{name:?}"),
        problem: error.to_string(),
    })?;
    let mut instances = BTreeMap::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let problem = |problem: String| Problem {
            place: format!("{name}[{index}]"),
            problem,
        };
        let instance = instance(&service, entry).map_err(problem)?;
        let instance = instance.read_at(format!("{name}[{index}]"), REVISION);
        if let Some(twice) = instances.insert(instance.id.clone(), instance) {
            return Err(problem(format!(
                "the id {} is there twice; give one an \"id\" of its own",
                twice.id
            )));
        }
    }
    let snapshot = snapshot(service.clone(), instances.into_values());
    Ok((service, snapshot))
}

fn instance(service: &ServiceName, entry: Entry) -> Result<Instance, String> {
    match entry {
        Entry::Address(address) => Address::new(&address)
            .map(|address| Instance::new(service.clone(), address))
            .map_err(|error| error.to_string()),
        Entry::Record(mut fields) => {
            // A person who writes a list by hand means the version that there is.
            fields.entry("v").or_insert(1.into());
            serde_json::from_value::<Record>(Value::Object(fields))
                .map_err(|error| error.to_string())?
                .into_instance(service.clone(), None)
                .map_err(|error| error.to_string())
        }
    }
}

fn snapshot(service: ServiceName, instances: impl Iterator<Item = Instance>) -> Snapshot {
    Snapshot::empty(service).apply(Change {
        revision: REVISION,
        updates: vec![Update::Reset(instances.map(Arc::new).collect())],
    })
}

impl Store for FixedStore {
    fn url(&self) -> &str {
        &self.url
    }

    fn hold(&self, _: HoldRequest) -> BoxFuture<'_, Result<Box<dyn Hold>, StoreError>> {
        let registry = self.url.to_string();
        ready(Err(StoreError::ReadOnly { registry })).boxed()
    }

    fn list<'a>(&'a self, service: &'a ServiceName) -> BoxFuture<'a, Result<Snapshot, StoreError>> {
        ready(Ok(self.snapshot(service))).boxed()
    }

    /// One reset, and then nothing more, for ever.
    fn watch(&self, service: &ServiceName) -> BoxStream<'static, Result<Change, StoreError>> {
        let all = self.snapshot(service).instances().cloned().collect();
        let reset = Change {
            revision: REVISION,
            updates: vec![Update::Reset(all)],
        };
        stream::once(ready(Ok(reset)))
            .chain(stream::pending())
            .boxed()
    }

    fn services(&self) -> BoxFuture<'_, Result<Vec<ServiceName>, StoreError>> {
        let with_instances = self.services.iter().filter(|(_, all)| !all.is_empty());
        ready(Ok(with_instances.map(|(name, _)| name.clone()).collect())).boxed()
    }
}
