//! A user for the time of the run, whom the user services have greeted.

use anyhow::{Context, Result};

use crate::docker::Container;

/// Somebody whom the storage knows.
#[derive(Debug)]
pub(crate) struct Guest {
    id: String,
}

impl Guest {
    /// Nobody yet.
    pub(crate) fn named(id: String) -> Self {
        Self { id }
    }

    /// The last part of the name.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Creates the user, by one of the user services.
    pub(crate) async fn come(&self, service: &Container) -> Result<()> {
        let email = format!("{}@example.com", self.id);
        let create = ["admin", "create", &self.id, "--email", &email];
        let created = service.run(&create).await;
        created.context("a user to be greeted cannot be created")
    }

    /// Deletes the user.
    pub(crate) async fn leave(&self, service: &Container) -> Result<()> {
        let deleted = service.run(&["admin", "delete", &self.id]).await;
        deleted.with_context(|| format!("the user {} could not be deleted", self.id))
    }
}
