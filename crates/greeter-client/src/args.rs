//! The command line, and what it asks for.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use clap::{Parser, builder::ArgPredicate};
use service_kit::{KitArgs, terminal::Output};

use crate::{call::Kind, load::Plan, progress::Goal};

/// The service config when no `--service-config` is given, for calls of that gRPC service: each instance in turn, and another
/// try where a call cannot have been served.
///
/// ```
/// let config = greeter_client::default_service_config("helloworld.Greeter");
/// assert!(config.contains("retryPolicy"));
/// ```
pub fn default_service_config(service: &str) -> String {
    let config = serde_json::json!({
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [{
            "name": [{"service": service}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }],
    });
    config.to_string()
}

const EXAMPLES: &str = "\
Examples:
  greeter-client
      Once a second, whoever has registered as greeter in the file registry of this user.
  greeter-client --concurrency 16 --duration 10s
      As many calls as 16 callers can make in ten seconds.
  greeter-client --rate 500 --count 10000 --concurrency 16 --output json
      500 calls a second, 10,000 in all, and the figures for a program.
  greeter-client --stream 30s --concurrency 8 --forever
      Eight streams of half a minute at a time, each followed by another.
  greeter-client --user ann --rate 20
      Has the user Ann greeted by whoever has registered as user, who asks a greeter.
  greeter-client --target static:///10.0.0.7:50051,10.0.0.8:50051 --policy pick_first
      Without a registry.

On Ctrl-C or SIGTERM calls in flight are finished and the figures are printed; a second one ends it at once.";

/// Calls the greeter by its name.
///
/// Without options: once a second for ever, a line for each call. With --concurrency, --count, --duration or --rate it
/// is a load generator that shows how it goes, and a table at the end. It exits with 0 when no call failed.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Args {
    /// Whom to call: a service's name, or a target such as `etcd:///greeter` or `static:///10.0.0.1:1,10.0.0.2:1`;
    /// with --user it is `user` otherwise
    #[arg(
        long,
        value_name = "TARGET",
        default_value = "greeter",
        default_value_if("user", ArgPredicate::IsPresent, "user")
    )]
    pub(crate) target: String,

    /// The name to greet
    #[arg(long, default_value = "world")]
    name: String,

    /// Make this many calls in all
    #[arg(long, value_name = "N", group = "end", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Make calls for this long, waiting for an instance included
    #[arg(long, value_name = "TIME", group = "end", value_parser = positive_time)]
    duration: Option<Duration>,

    /// Make calls until Ctrl-C, which is the default
    #[arg(long, group = "end")]
    forever: bool,

    /// How long each caller rests after each of its calls [default: 1s; 0s with --count, --duration or --rate]
    #[arg(long, value_name = "TIME", value_parser = time)]
    interval: Option<Duration>,

    /// How many callers there are, 10,000 at most
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    concurrency: u16,

    /// Calls a second over all callers, evenly spaced
    #[arg(long, value_name = "N", value_parser = positive_number)]
    rate: Option<f64>,

    /// The load balancing policy, `pick_first` or `round_robin`, before the one of the service config
    #[arg(long, value_name = "NAME")]
    pub(crate) policy: Option<String>,

    /// How long one call may take, its retries included; waiting for an instance does not count, nor does a stream's length
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = timeout)]
    pub(crate) timeout: Duration,

    /// Make each call a stream of this length: a greeting is asked for ten times a second, and each has to be answered
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    stream: Option<Duration>,

    /// Have this user greeted, by the user service: make each call a `GreetUser`, for which that asks a greeter
    #[arg(long, value_name = "ID", conflicts_with_all = ["name", "stream"])]
    user: Option<String>,

    /// Do not wait for an instance: a call without one fails
    #[arg(long)]
    pub(crate) fail_fast: bool,

    /// gRPC service config, as JSON or as the file that holds it [default: `round_robin`, 4 attempts on UNAVAILABLE]
    #[arg(long, value_name = "JSON|@FILE")]
    service_config: Option<String>,

    /// What to print at the end: a table, or exactly one JSON object
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,

    // The last, because its heading stands above everything that follows it.
    #[command(flatten)]
    pub(crate) kit: KitArgs,
}

impl Args {
    pub(crate) fn plan(&self) -> Plan {
        let paced = self.rate.is_some() || self.goal() != Goal::Never;
        let interval = if paced {
            Duration::ZERO
        } else {
            Duration::from_secs(1)
        };
        Plan {
            concurrency: self.concurrency.into(),
            interval: self.interval.unwrap_or(interval),
            rate: self.rate,
        }
    }

    pub(crate) fn goal(&self) -> Goal {
        match (self.count, self.duration) {
            (Some(count), _) => Goal::Count(count),
            (_, Some(duration)) => Goal::Duration(duration),
            (None, None) => Goal::Never,
        }
    }

    /// What each call is.
    pub(crate) fn kind(&self) -> Kind {
        let name = self.name.clone();
        match (&self.user, self.stream) {
            (Some(id), _) => Kind::OfUser(format!("users/{id}")),
            (None, Some(length)) => Kind::Stream { name, length },
            (None, None) => Kind::Once(name),
        }
    }

    /// Whether a line for each call can be read by a person, and does not get in a program's way.
    pub(crate) fn prints_each_call(&self) -> bool {
        let plan = self.plan();
        let leisurely =
            plan.concurrency == 1 && !plan.interval.is_zero() && self.goal() == Goal::Never;
        leisurely && self.output == Output::Table
    }

    /// The service whose instances are waited for, as a person would call it.
    pub(crate) fn service(&self) -> &str {
        match self.target.split_once(":///") {
            Some((scheme, rest)) if scheme != "static" => rest.split('?').next().unwrap_or(rest),
            _ => self.target.as_str(),
        }
    }

    /// The text of the service config.
    pub(crate) fn service_config(&self) -> Result<String> {
        match self.service_config.as_deref() {
            None => Ok(default_service_config(self.kind().service())),
            Some(text) => match text.strip_prefix('@') {
                Some(file) => fs::read_to_string(file)
                    .with_context(|| format!("cannot read the service config {file}")),
                None => Ok(text.to_owned()),
            },
        }
    }
}

const NO_TIME: &str = "a time is a number with its unit, such as 500ms, 10s or 2m";

fn positive_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("a time above 0 is expected, such as 10s".into()),
        Ok(time) => Ok(time),
        Err(_) => Err(NO_TIME.into()),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| NO_TIME.into())
}

/// The wire has eight digits for a timeout; a day is far from that and from any call.
fn timeout(text: &str) -> Result<Duration, String> {
    let time = positive_time(text)?;
    if time > Duration::from_hours(24) {
        return Err("a call may take a day at most".into());
    }
    Ok(time)
}

fn positive_number(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("a number above 0 is expected".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    fn args(line: &str) -> Args {
        Args::try_parse_from(format!("greeter-client {line}").split_whitespace()).expect(line)
    }

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn without_options_a_line_is_printed_each_second_for_ever() {
        let args = args("");
        let plan = args.plan();
        assert_eq!(
            (plan.concurrency, plan.interval),
            (1, Duration::from_secs(1))
        );
        assert_eq!((plan.rate, args.goal()), (None, Goal::Never));
        assert!(args.prints_each_call());
    }

    #[test]
    fn load_prints_no_line_for_each_call() {
        for load in [
            "--count 5",
            "--duration 1s",
            "--concurrency 2",
            "--interval 0s",
            "--rate 5",
            "--output json",
        ] {
            assert!(!args(load).prints_each_call(), "{load}");
        }
        assert!(args("--forever --interval 10ms").prints_each_call());
    }

    #[test]
    fn a_run_with_an_end_rests_only_when_asked_to() {
        assert_eq!(args("--count 5").plan().interval, Duration::ZERO);
        assert_eq!(args("--rate 5").plan().interval, Duration::ZERO);
        assert_eq!(
            args("--count 5 --interval 2s").plan().interval,
            Duration::from_secs(2)
        );
    }

    #[test]
    fn a_target_is_called_by_its_service() {
        for (target, service) in [
            ("greeter", "greeter"),
            ("shop/basket", "shop/basket"),
            ("etcd:///greeter?version=v2", "greeter"),
            ("static:///127.0.0.1:1", "static:///127.0.0.1:1"),
        ] {
            assert_eq!(args(&format!("--target {target}")).service(), service);
        }
    }

    #[test]
    fn users_are_greeted_by_the_user_service() {
        let ann = args("--user ann");
        assert_eq!(ann.kind(), Kind::OfUser("users/ann".into()));
        assert_eq!(ann.target, "user");
        let config = ann.service_config().expect("a config");
        assert!(config.contains("user.v1.UserService"), "{config}");
        assert_eq!(args("--user ann --target people").target, "people");
        assert_eq!(args("").kind(), Kind::Once("world".into()));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--count 0",
            "--count 1 --duration 1s",
            "--forever --count 1",
            "--duration 0s",
            "--timeout 0s",
            "--timeout 2days",
            "--stream 0s",
            "--user ann --name ann",
            "--user ann --stream 1s",
            "--interval soon",
            "--concurrency 0",
            "--concurrency 10001",
            "--rate 0",
            "--rate -1",
            "--rate NaN",
            "--output xml",
            "stray",
        ] {
            let words = format!("greeter-client {line}");
            let error = Args::try_parse_from(words.split_whitespace()).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
            assert_ne!(error.kind(), ErrorKind::DisplayHelp);
        }
    }

    #[test]
    fn a_service_config_is_taken_as_it_is_or_from_a_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "{}").expect("a config");
        let from_file = args(&format!("--service-config @{}", file.path().display()));
        assert_eq!(from_file.service_config().expect("a config"), "{}");
        assert_eq!(
            args("--service-config {}")
                .service_config()
                .expect("a config"),
            "{}"
        );
        let error = args("--service-config @/nowhere")
            .service_config()
            .expect_err("no such file");
        assert_eq!(error.to_string(), "cannot read the service config /nowhere");
    }

    #[test]
    fn the_default_service_config_is_the_one_that_a_canary_goes_around() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let file = format!("{root}/deploy/service-config/greeter.json");
        let text = fs::read_to_string(file).expect("a service config");
        let ours = args("").service_config().expect("a config");
        let [ours, deployed] = [ours, text]
            .map(|text| serde_json::from_str::<serde_json::Value>(&text).expect("JSON"));
        assert_eq!(ours, deployed);
        assert_eq!(ours["methodConfig"][0]["retryPolicy"]["maxAttempts"], 4);
    }
}
