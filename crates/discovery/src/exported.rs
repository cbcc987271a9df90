//! A registry as JSON: what `export` writes and `import` reads. A type of its own, apart from the domain's.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use registry::{
    Address, Document, Instance, InstanceId, Intent, ServiceName, Status, Weight, Zone,
};
use serde::{Deserialize, Serialize};

use crate::{session::Session, wanted};

const VERSION: u32 = 1;

/// By which version of this form something was written.
#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// A registry, or a part of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exported {
    v: u32,
    services: Vec<ExportedService>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportedService {
    service: String,
    #[serde(default)]
    instances: Vec<ExportedInstance>,
    /// What operators want of instances, whether or not these are there.
    #[serde(default)]
    intents: Vec<ExportedIntent>,
    /// The service config, as it was written.
    #[serde(default)]
    service_config: Option<String>,
}

/// An instance as it says itself.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportedInstance {
    id: String,
    addresses: Vec<String>,
    #[serde(default = "serving")]
    status: String,
    #[serde(default = "one")]
    weight: u32,
    #[serde(default)]
    zone: Option<String>,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// What other software has attached to it, word for word.
    #[serde(default)]
    metadata: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportedIntent {
    id: String,
    status: Option<String>,
    weight: Option<u32>,
}

fn serving() -> String {
    Status::default().to_string()
}

fn one() -> u32 {
    Weight::default().get()
}

/// What an import is to write: all of it has been checked.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) instances: Vec<Instance>,
    pub(crate) intents: Vec<(ServiceName, InstanceId, Intent)>,
    pub(crate) service_configs: Vec<(ServiceName, Document)>,
}

impl Exported {
    /// What the registry has of these services; of all, when none is named.
    pub(crate) async fn read(session: &Session, services: &[ServiceName]) -> Result<Self> {
        let known = session.services_or_all(services).await?;
        let read = session.each(&known, async |service| {
            let registry = &session.registry;
            let listed = session.answer(registry.list(service)).await?;
            let intents = wanted::of(session, service, &listed).await?;
            let config = session.answer(registry.read_document(service)).await?;
            anyhow::Ok(ExportedService {
                service: service.to_string(),
                instances: listed
                    .instances()
                    .map(|one| ExportedInstance::of(one))
                    .collect(),
                intents: intents.iter().map(ExportedIntent::of).collect(),
                service_config: config.map(|document| document.as_str().to_owned()),
            })
        });
        Ok(Self {
            v: VERSION,
            services: read.await?,
        })
    }

    /// What this version of the program has written, or an older one. What a newer one has added is refused by its name: passed
    /// over, it would be lost in silence, as would what somebody has misspelt.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        // First, as nothing is known of another version.
        let Version { v } = serde_json::from_str(text).context("it is no export")?;
        ensure!(
            v == VERSION,
            "it is of version {v}, and this program reads version {VERSION}; import it with a `discovery` of the version that wrote it"
        );
        serde_json::from_str(text).with_context(|| {
            format!("it is no export of version {VERSION} as this program knows it; import what a newer `discovery` wrote with that one, or take out what it has added")
        })
    }

    /// All that is in it, checked: an error names what cannot be.
    pub(crate) fn contents(&self) -> Result<Contents> {
        once("service", self.services.iter().map(|of| &of.service))?;
        let mut contents = Contents::default();
        for of in &self.services {
            of.add_to(&mut contents)
                .with_context(|| format!("of the service {:?}", of.service))?;
        }
        Ok(contents)
    }
}

impl ExportedService {
    fn add_to(&self, contents: &mut Contents) -> Result<()> {
        let service = ServiceName::new(&self.service)?;
        once("instance", self.instances.iter().map(|one| &one.id))?;
        once("intent for", self.intents.iter().map(|one| &one.id))?;
        for one in &self.instances {
            contents.instances.push(one.instance(service.clone())?);
        }
        for intent in &self.intents {
            let id = InstanceId::new(&intent.id)?;
            contents
                .intents
                .push((service.clone(), id, intent.intent()?));
        }
        if let Some(config) = &self.service_config {
            balance::check_service_config(config).context("its service config is none")?;
            let document = Document::new(config)?;
            contents.service_configs.push((service, document));
        }
        Ok(())
    }
}

impl ExportedInstance {
    fn of(one: &Instance) -> Self {
        let own = |text: &Arc<str>| text.to_string();
        Self {
            id: one.id.to_string(),
            addresses: one.addresses().iter().map(ToString::to_string).collect(),
            status: one.own_status().to_string(),
            weight: one.own_weight().get(),
            zone: one.zone.as_ref().map(ToString::to_string),
            version: one.version.as_ref().map(own),
            labels: one
                .labels
                .iter()
                .map(|(name, value)| (own(name), own(value)))
                .collect(),
            metadata: one.foreign_metadata.as_ref().map(own),
        }
    }

    fn instance(&self, service: ServiceName) -> Result<Instance> {
        let addresses = self.addresses.iter().map(|text| Address::new(text));
        let addresses: Vec<_> = addresses.collect::<Result<_, _>>()?;
        let [first, more @ ..] = &addresses[..] else {
            bail!("the instance {:?} has no address", self.id);
        };
        let mut one = Instance::new(service, first.clone())
            .with_id(InstanceId::new(&self.id)?)
            .with_more_addresses(more.iter().cloned())
            .with_weight(Weight::new(self.weight)?)
            .with_status(status(&self.status)?);
        if let Some(zone) = &self.zone {
            one = one.with_zone(Zone::new(zone)?);
        }
        if let Some(version) = &self.version {
            one = one.with_version(version.as_str());
        }
        for (name, value) in &self.labels {
            one = one.with_label(name.as_str(), value.as_str());
        }
        one.foreign_metadata = self.metadata.as_deref().map(Arc::from);
        Ok(one)
    }
}

impl ExportedIntent {
    fn of((id, intent): (&InstanceId, &Intent)) -> Self {
        Self {
            id: id.to_string(),
            status: intent.status().map(|status| status.to_string()),
            weight: intent.weight().map(Weight::get),
        }
    }

    fn intent(&self) -> Result<Intent> {
        let status = self.status.as_deref().map(status).transpose()?;
        let weight = self.weight.map(Weight::new).transpose()?;
        Intent::new(status, weight)
            .with_context(|| format!("what is wanted of the instance {:?}", self.id))
    }
}

/// That none of the names is there twice: one of the two would be lost.
fn once<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> Result<()> {
    let mut seen = BTreeSet::new();
    let mut names = names;
    match names.find(|name| !seen.insert(*name)) {
        None => Ok(()),
        Some(twice) => bail!("the {what} {twice:?} is there twice"),
    }
}

fn status(word: &str) -> Result<Status> {
    let all = [Status::Serving, Status::NotServing, Status::Draining];
    all.into_iter()
        .find(|status| status.as_str() == word)
        .with_context(|| {
            format!("{word:?} is no status; a status is serving, not_serving or draining")
        })
}

#[cfg(test)]
mod tests {
    use super::Exported;

    fn refusal(json: &str) -> String {
        let exported = Exported::parse(json).and_then(|exported| exported.contents());
        format!("{:#}", exported.expect_err(json))
    }

    #[test]
    fn what_cannot_be_is_named_with_its_service() {
        let of = |rest: &str| format!(r#"{{"v":1,"services":[{{"service":"greeter",{rest}}}]}}"#);
        for (json, named) in [
            (r#"{"v":2,"services":[]}"#.to_owned(), "version 2"),
            (
                r#"{"v":1,"services":[{"service":"../etc"}]}"#.to_owned(),
                "../etc",
            ),
            (
                of(r#""instances":[{"id":"a","addresses":[]}]"#),
                "no address",
            ),
            (
                of(r#""instances":[{"id":"a","addresses":["nowhere"]}]"#),
                "nowhere",
            ),
            (
                of(r#""instances":[{"id":"a","addresses":["a:1"],"status":"fine"}]"#),
                "fine",
            ),
            (
                of(r#""instances":[{"id":"a","addresses":["a:1"],"weight":0}]"#),
                "weight",
            ),
            (of(r#""intents":[{"id":"a"}]"#), "\"a\""),
            (
                r#"{"v":1,"services":[{"service":"greeter"},{"service":"greeter"}]}"#.to_owned(),
                "service \"greeter\" is there twice",
            ),
            (
                of(
                    r#""instances":[{"id":"a","addresses":["a:1"]},{"id":"a","addresses":["a:2"]}]"#,
                ),
                "instance \"a\" is there twice",
            ),
            (
                of(r#""intents":[{"id":"a","weight":1},{"id":"a","status":"draining"}]"#),
                "intent for \"a\" is there twice",
            ),
            (
                of(r#""service_config":"{\"loadBalancingConfig\":[{\"fastest\":{}}]}""#),
                "fastest",
            ),
        ] {
            let refused = refusal(&json);
            assert!(refused.contains(named), "{refused}");
        }
        assert!(refusal(&of(r#""intents":[{"id":"a"}]"#)).contains("greeter"));
    }
}
