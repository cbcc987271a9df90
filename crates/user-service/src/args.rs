//! The command line.

use clap::{Args as Group, Parser, Subcommand};
use service_kit::{KitArgs, ServerArgs, terminal::Output};

const EXAMPLES: &str = "\
Examples:
  user-service
      A user service in this user's file registry, with its users in one file.
  DISCOVERY__STORAGE__URL=postgres://user@db/users user-service --registry etcd://h1:2379
      One of several in an etcd, which share a PostgreSQL database.
  user-service admin create ann --email ann@example.com --display-name Ann
  user-service admin greet ann
      Asks whoever has registered as user, and has Ann greeted.
  user-service admin list --prefix an --output json
      A JSON object for each user.

On SIGTERM or Ctrl-C callers are told to go elsewhere and calls in flight
are finished; a second one ends it at once.";

/// Keeps users, knows them by their passwords, and has them greeted.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) kit: KitArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Asks a user service that runs, found by its name
    Admin(AdminArgs),
}

#[derive(Debug, Group)]
pub(crate) struct AdminArgs {
    #[command(subcommand)]
    pub(crate) action: Action,

    /// Whom to ask: a service's name, or a target such as `static:///10.0.0.1:50051`
    #[arg(long, value_name = "TARGET", default_value = "user", global = true)]
    pub(crate) target: String,

    /// How long to wait for each answer, and for an instance to be there
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration, global = true)]
    pub(crate) timeout: std::time::Duration,

    /// What to print: a line for each user, or a JSON object
    #[arg(long, value_enum, default_value_t = Output::Table, global = true)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Creates a user; a try that has no answer is made again without creating another
    Create {
        /// The last part of the name: `ann` for `users/ann`
        id: String,
        /// The e-mail address
        #[arg(long)]
        email: String,
        /// What people call the user
        #[arg(long, default_value = "")]
        display_name: String,
        /// Reads the password from the first line of stdin; without it the user has none
        #[arg(long)]
        password_stdin: bool,
    },
    /// Shows a user
    Get {
        /// The last part of the name
        id: String,
    },
    /// Shows all users, in the order of their names
    List {
        /// Only those whose ids begin so
        #[arg(long, default_value = "")]
        prefix: String,
    },
    /// Has a user greeted
    Greet {
        /// The last part of the name
        id: String,
    },
    /// Deletes a user
    Delete {
        /// The last part of the name
        id: String,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn it_serves_unless_it_is_asked_for_something_else() {
        let args = |line: &str| Args::try_parse_from(line.split_whitespace());
        assert!(args("user-service").expect("valid").command.is_none());
        let admin = args("user-service admin list --prefix an --output json").expect("valid");
        let Some(Command::Admin(admin)) = admin.command else {
            panic!("an admin command")
        };
        assert_eq!(
            (admin.output, admin.target.as_str()),
            (Output::Json, "user")
        );
        for line in [
            "user-service admin",
            "user-service admin create ann",
            "user-service stray",
        ] {
            assert!(args(line).is_err(), "{line}");
        }
    }
}
