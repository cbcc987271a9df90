//! Servers that come and go, and the registry that says so.

use std::{collections::VecDeque, time::Duration};

use anyhow::Result;
use registry::{
    Address, Instance, Registration, RegistrationState, Registry, ServiceName,
    backend::memory::MemoryStore,
};
use tokio::{task::spawn_blocking, time::sleep};

use crate::servers::Servers;

/// How many processes there are at a time, and how many servers in each.
pub(super) const GROUPS: usize = 3;
pub(super) const GROUP: usize = 3;
/// How long a server that leaves well goes on with what it has.
const GRACE: Duration = Duration::from_millis(700);

pub(super) struct Flapping {
    registry: Registry,
    groups: VecDeque<Group>,
    turns: u32,
}

struct Group {
    servers: Servers,
    registrations: Vec<Registration>,
}

impl Flapping {
    pub(super) async fn start() -> Result<Self> {
        let mut flapping = Self {
            registry: Registry::new(MemoryStore::new()),
            groups: VecDeque::new(),
            turns: 0,
        };
        for _ in 0..GROUPS {
            flapping.come().await?;
        }
        Ok(flapping)
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// How often some have gone.
    pub(super) fn turns(&self) -> u32 {
        self.turns
    }

    /// How many servers there are.
    pub(super) fn servers(&self) -> usize {
        self.groups.len() * GROUP
    }

    /// The oldest servers go and others come: in one turn they are killed, in the next they leave well.
    pub(super) async fn flap(&mut self) -> Result<()> {
        self.turns += 1;
        self.come().await?;
        let Some(Group {
            servers,
            registrations,
        }) = self.groups.pop_front()
        else {
            return Ok(());
        };
        if self.turns.is_multiple_of(2) {
            spawn_blocking(|| drop(servers)).await?;
            leave(registrations).await
        } else {
            leave(registrations).await?;
            sleep(GRACE).await;
            Ok(spawn_blocking(|| drop(servers)).await?)
        }
    }

    async fn come(&mut self) -> Result<()> {
        let servers = spawn_blocking(Servers::start).await??;
        let mut registrations = Vec::new();
        for address in &servers.addresses {
            let instance = Instance::new(ServiceName::new("greeter")?, Address::new(address)?);
            let registration = self.registry.register(instance, Duration::from_secs(10));
            let mut states = registration.states();
            let is_held =
                |state: &RegistrationState| matches!(state, RegistrationState::Held { .. });
            states.wait_for(is_held).await?;
            registrations.push(registration);
        }
        self.groups.push_back(Group {
            servers,
            registrations,
        });
        Ok(())
    }
}

async fn leave(registrations: Vec<Registration>) -> Result<()> {
    for registration in registrations {
        registration.deregister().await?;
    }
    Ok(())
}
