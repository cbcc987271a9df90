//! What an operator calls an instance: SERVICE/ID, or its id alone where only one service has it.

use std::{fmt, str::FromStr, sync::Arc};

use anyhow::{Result, bail};
use registry::{Instance, InstanceId, Intent, InvalidInstance, ServiceName};

use crate::session::Session;

/// An instance as it is named on the command line. The service is everything before the last `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InstanceName {
    service: Option<ServiceName>,
    id: InstanceId,
}

impl FromStr for InstanceName {
    type Err = InvalidInstance;

    fn from_str(text: &str) -> Result<Self, InvalidInstance> {
        let (service, id) = match text.rsplit_once('/') {
            Some((service, id)) => (Some(ServiceName::new(service)?), id),
            None => (None, text),
        };
        let id = InstanceId::new(id)?;
        Ok(Self { service, id })
    }
}

/// As it was written.
impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.service {
            Some(service) => write!(f, "{service}/{}", self.id),
            None => self.id.fmt(f),
        }
    }
}

/// An instance of a certain service, and what the registry has of it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) service: ServiceName,
    pub(crate) id: InstanceId,
    /// As it is registered; `None` where it is not.
    pub(crate) instance: Option<Arc<Instance>>,
    /// What an operator wants of it, whether or not it is registered: also what only the instance remembers.
    pub(crate) wanted: Option<Intent>,
}

impl Found {
    /// As it is named on the command line.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.service, self.id)
    }

    fn is_known(&self) -> bool {
        self.instance.is_some() || self.wanted.is_some()
    }

    /// One that is listed, with what is wanted of it.
    pub(crate) fn listed(instance: &Arc<Instance>) -> Self {
        Self {
            service: instance.service.clone(),
            id: instance.id.clone(),
            instance: Some(Arc::clone(instance)),
            wanted: instance.intent().cloned(),
        }
    }

    /// What the registry has of it now.
    pub(crate) async fn of(
        session: &Session,
        service: &ServiceName,
        id: &InstanceId,
    ) -> Result<Self> {
        let listed = session.answer(session.registry.list(service)).await?;
        let intents = session.answer(session.registry.intents(service)).await?;
        let instance = listed.get(id).cloned();
        // What is in the registry is in force; what it has lost the instance may remember.
        let remembered = instance.as_deref().and_then(Instance::intent);
        let wanted = intents.get(id).or(remembered).cloned();
        Ok(Self {
            service: service.clone(),
            id: id.clone(),
            instance,
            wanted,
        })
    }
}

impl InstanceName {
    /// The instance of that id of a service.
    pub(crate) fn new(service: ServiceName, id: InstanceId) -> Self {
        let service = Some(service);
        Self { service, id }
    }

    /// The same text as a service's name, where it can be one: `shop/basket` is the instance `basket` of `shop`, or that service.
    pub(crate) fn as_service(&self) -> Option<ServiceName> {
        ServiceName::new(&self.to_string()).ok()
    }

    /// What the registry has of it. Of an id alone, all services are asked, and an error tells when it is not one that has it.
    pub(crate) async fn look_up(&self, session: &Session) -> Result<Found> {
        let id = &self.id;
        if let Some(service) = &self.service {
            return Found::of(session, service, id).await;
        }
        let services = session.answer(session.registry.known_services()).await?;
        let mut found = session
            .each(&services, async |service| {
                Found::of(session, service, id).await
            })
            .await?;
        found.retain(Found::is_known);
        let url = session.registry.url();
        match (found.pop(), &found[..]) {
            (Some(only), []) => Ok(only),
            (None, _) => bail!(
                "no service in {url} has an instance {id}; name it as SERVICE/{id}, or see `discovery services`"
            ),
            (Some(last), others) => {
                let names: Vec<_> = others.iter().chain([&last]).map(Found::name).collect();
                bail!(
                    "{id} is an instance of several services: {}; name one of them",
                    names.join(", ")
                )
            }
        }
    }

    /// The same, which refuses one of which the registry has nothing, with `a_way_out` at the end of what it says.
    pub(crate) async fn find(&self, session: &Session, a_way_out: &str) -> Result<Found> {
        let found = self.look_up(session).await?;
        if found.is_known() {
            return Ok(found);
        }
        let listed = session
            .answer(session.registry.list(&found.service))
            .await?;
        let there: Vec<_> = listed.instances().map(|one| one.id.as_str()).collect();
        let (service, id, url) = (&found.service, &found.id, session.registry.url());
        if there.is_empty() {
            bail!(
                "{service} has no instance in {url}, so that there is no {id}; see `discovery services`{a_way_out}"
            );
        }
        // An error is read by a person.
        let (named, more) = there.split_at(there.len().min(5));
        let more = match more.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        bail!(
            "{service} has no instance {id} in {url}; it has {}{more}{a_way_out}",
            named.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::InstanceName;

    #[test]
    fn the_service_is_everything_before_the_last_slash() {
        for (text, service, id) in [
            ("greeter/10.0.0.7:1", Some("greeter"), "10.0.0.7:1"),
            ("shop/basket/[::1]:1", Some("shop/basket"), "[::1]:1"),
            ("10.0.0.7:1", None, "10.0.0.7:1"),
            ("greeter/a-b", Some("greeter"), "a-b"),
        ] {
            let name: InstanceName = text.parse().expect(text);
            assert_eq!(
                name.service.as_ref().map(registry::ServiceName::as_str),
                service
            );
            assert_eq!(name.id.as_str(), id);
        }
        for bad in ["", "greeter/", "/10.0.0.7:1", "a b", "_intent/10.0.0.7:1"] {
            assert!(bad.parse::<InstanceName>().is_err(), "{bad}");
        }
    }
}
