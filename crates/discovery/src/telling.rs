//! What a command that goes on tells of itself meanwhile: metrics, and the admin page where that is asked for.

use std::io::{self, Write};

use anyhow::Result;
use balance::ClientTls;
use service_kit::{
    Admin, AdminServer, Telemetry,
    config::{AdminConfig, AdminListen, Flags},
};

use crate::session::Session;

/// Of the argument that [`flags`] takes. The environment goes on to the command that is registered, and an image sets the key for its
/// service: a page that listened by it would have taken their port.
pub(crate) const ADMIN_HELP: &str = "Serves the admin page here, with metrics and readiness; port 0 takes a free one. \
    admin.listen, in a file or the environment, is for services: without this there is no page";

/// The configuration's keys that `--admin` sets, for each command: also where it was not given, or there is no such argument.
pub(crate) fn flags(admin: Option<AdminListen>) -> Flags {
    let listen = admin.unwrap_or(AdminListen::Off);
    Flags::new().set("--admin", "admin.listen", Some(listen))
}

/// Where a run tells of itself.
#[derive(Debug)]
pub(crate) struct Telling {
    pub(crate) telemetry: Telemetry,
    pub(crate) admin: AdminConfig,
}

impl Session {
    /// Measures what the registry is shown, and what instances are shown where there is `tls`; and serves the page, where that is asked
    /// for, for as long as what is given back lives. The process is ready as `ready` says, which must not block.
    ///
    /// # Errors
    /// When the page cannot listen.
    pub(crate) async fn tell(
        &self,
        tls: Option<&ClientTls>,
        ready: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Result<Option<AdminServer>> {
        let Telling { telemetry, admin } = &self.telling;
        telemetry.observe_credentials(Some(&self.registry), tls);
        let page = Admin::new(telemetry.clone()).ready(ready);
        let page = page.serve(admin).await?;
        if let Some(page) = &page {
            // Who asked for a free port has to know which. A stderr that is closed is no reason to end.
            let _ = writeln!(io::stderr(), "admin page at http://{}/", page.address());
        }
        Ok(page)
    }
}
