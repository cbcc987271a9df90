//! The command-line arguments that binaries share, to be flattened into their own.

use std::path::PathBuf;

use clap::Args;

use crate::config::Flags;

const REGISTRY_HELP: &str = "Where instances are kept: file:///DIRECTORY, etcd://HOST:PORT,HOST:PORT/NAMESPACE or \
    memory: [default: the directory $XDG_RUNTIME_DIR/discovery, else /tmp/discovery-UID]";

/// Where a binary's configuration comes from, before or after the name of a subcommand.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Configuration")]
pub struct ConfigArgs {
    /// Reads this TOML file; the environment and the command line win over it
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// The registry's URL.
    #[arg(long, value_name = "URL", help = REGISTRY_HELP, global = true)]
    pub registry: Option<String>,

    /// Prints the configuration that is in force as TOML, without secrets, and exits
    #[arg(long, global = true)]
    pub print_config: bool,
}

/// What every binary takes that keeps running.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Configuration")]
pub struct KitArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub sources: ConfigArgs,

    /// Asks the running instance of this configuration whether it is ready, at its admin page; exits with 0 if so
    #[arg(long, conflicts_with = "print_config")]
    pub health_check: bool,

    /// Prints a page of the running instance's admin page, such as /metrics or /debug/channels, and exits
    #[arg(long, value_name = "PATH", conflicts_with_all = ["print_config", "health_check"])]
    pub admin_page: Option<String>,
}

impl KitArgs {
    /// The configuration keys that these arguments set.
    pub fn flags(&self) -> Flags {
        let registry = self.sources.registry.as_ref();
        Flags::new().set("--registry", "registry.url", registry)
    }
}

/// Those of a binary without an admin page.
impl From<ConfigArgs> for KitArgs {
    fn from(sources: ConfigArgs) -> Self {
        Self {
            sources,
            health_check: false,
            admin_page: None,
        }
    }
}

/// What every server takes.
#[derive(Debug, Clone, Default, Args)]
pub struct ServerArgs {
    /// Listens on this address; port 0 takes a free one [default: 127.0.0.1:0]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<String>,

    /// Tells callers this address: HOST:PORT, HOST (at the port listened on), or auto for where this host is reached
    /// by whoever reaches the registry [default: auto]
    #[arg(long, value_name = "ADDRESS")]
    pub advertise: Option<String>,

    /// Registers under this name
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,

    /// Gives up when the registry cannot be reached at the start, instead of serving and trying again
    #[arg(long)]
    pub require_registry: bool,
}

impl ServerArgs {
    /// The configuration keys that these arguments set.
    pub fn flags(&self) -> Flags {
        Flags::new()
            .set("--listen", "server.listen", self.listen.as_ref())
            .set("--advertise", "server.advertise", self.advertise.as_ref())
            .set("--service", "server.service", self.service.as_ref())
            .set(
                "--require-registry",
                "server.require_registry",
                self.require_registry.then_some(true),
            )
    }
}
