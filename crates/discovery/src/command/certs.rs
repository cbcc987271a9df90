//! `discovery certs`: a certificate authority for development, and a certificate for each service.

mod authority;
mod files;
mod pem;
mod subject;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use humantime::format_rfc3339_seconds;
use registry::tls::TrustDomain;
use serde::Serialize;
use service_kit::terminal::{Look, Output, print, printable};

use self::{authority::Authority, files::Pair, subject::Subject};
use crate::args::positive_time;

const EXAMPLE: &str = "\
Examples:
  discovery certs certs greeter user client
      An authority in ./certs, and certificates for spiffe://example.org/greeter and the others.
      Run it again to renew them: whoever follows the files takes the new ones.
  discovery certs certs --domain shop.internal etcd-0=etcd-0,localhost,127.0.0.1 basket
      For servers that are known by names and addresses too, as the members of an etcd are.

The authority signs whatever it is asked to: it is for development and tests, and its key is a file.";

/// The domain where neither the command line nor an authority names one: reserved for examples (RFC 2606).
const EXAMPLE_DOMAIN: &str = "example.org";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct CertsArgs {
    /// Where to write; an authority that is there, in ca.pem and ca-key.pem, goes on signing
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Whom to certify: a service's name, and the DNS names and addresses that it is known by besides
    #[arg(value_name = "SERVICE[=NAME,…]", required = true)]
    subjects: Vec<Subject>,

    /// The trust domain: the certificates are for `spiffe://DOMAIN/SERVICE`; by default the authority's, else example.org
    #[arg(long)]
    domain: Option<TrustDomain>,

    /// How long the certificates are valid
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = validity)]
    valid_for: Duration,

    /// How long an authority that is made is valid
    #[arg(long, value_name = "TIME", default_value = "3650d", value_parser = validity)]
    ca_valid_for: Duration,
}

/// The shape of `--output json`.
#[derive(Debug, Serialize)]
struct Shape {
    directory: PathBuf,
    domain: String,
    authority: Written,
    certificates: Vec<Written>,
}

/// A certificate, its key, and what has been done with them.
#[derive(Debug, Serialize)]
struct Written {
    /// `null` of the authority.
    service: Option<String>,
    identity: String,
    names: Vec<String>,
    certificate: PathBuf,
    key: PathBuf,
    valid_until: String,
    /// `made`, `renewed`, or `kept`.
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Made,
    Renewed,
    Kept,
}

impl CertsArgs {
    pub(crate) fn run(&self, output: Output) -> Result<()> {
        let shape = self.write()?;
        let text = match output {
            Output::Json => serde_json::to_string(&shape)?,
            Output::Table => draw(&shape, Look::of_stdout()),
        };
        print(&format!("{text}\n")).map(drop)
    }

    /// Nothing is written before all that could be wrong has been looked at.
    fn write(&self) -> Result<Shape> {
        let directory = &self.directory;
        let _alone = locked(directory)
            .with_context(|| format!("cannot use the directory {}", directory.display()))?;
        let now = SystemTime::now();
        let of_authority = Pair::of_authority(directory);
        let kept = Authority::read(&of_authority)?;
        let outcome = if kept.is_some() {
            Outcome::Kept
        } else {
            Outcome::Made
        };
        let authority = match kept {
            Some(kept) => kept,
            None => self.new_authority(now)?,
        };
        authority
            .check(now, self.domain.as_ref())
            .with_context(|| of_authority.certificate.display().to_string())?;
        let pairs = self.pairs(&authority)?;

        if outcome == Outcome::Made {
            of_authority.write(authority.certificate(), &authority.key())?;
        }
        let mut certificates = Vec::new();
        for (subject, pair, outcome) in pairs {
            let signed = authority.sign(subject, now, self.valid_for)?;
            pair.write(&signed.certificate, &signed.key)?;
            certificates.push(Written {
                service: Some(subject.service.to_string()),
                identity: authority.domain().identity(&subject.service).to_string(),
                names: subject.names(),
                certificate: pair.certificate,
                key: pair.key,
                valid_until: format_rfc3339_seconds(signed.until).to_string(),
                outcome,
            });
        }
        Ok(Shape {
            directory: directory.clone(),
            domain: authority.domain().to_string(),
            authority: Written {
                service: None,
                identity: authority.domain().id().to_string(),
                names: Vec::new(),
                certificate: of_authority.certificate,
                key: of_authority.key,
                valid_until: format_rfc3339_seconds(authority.until()).to_string(),
                outcome,
            },
            certificates,
        })
    }

    fn new_authority(&self, now: SystemTime) -> Result<Authority> {
        let domain = match &self.domain {
            Some(domain) => domain.clone(),
            None => EXAMPLE_DOMAIN.parse()?,
        };
        Authority::new(domain, now, self.ca_valid_for)
    }

    /// Where each goes, and whether that renews one; an error when something else is there.
    fn pairs(&self, authority: &Authority) -> Result<Vec<(&Subject, Pair, Outcome)>> {
        let mut pairs: Vec<(&Subject, Pair, Outcome)> = Vec::new();
        let mut taken = vec![(
            "the authority".to_owned(),
            Pair::of_authority(&self.directory),
        )];
        for subject in &self.subjects {
            let pair = Pair::of(&self.directory, &subject.service);
            if let Some((other, path)) = taken
                .iter()
                .find_map(|(other, taken)| Some((other, taken.shared_with(&pair)?)))
            {
                bail!(
                    "{other} and {} are both for {}; name each service once, and by another name than that of a file here",
                    subject.service,
                    path.display()
                );
            }
            taken.push((
                subject.service.to_string(),
                Pair::of(&self.directory, &subject.service),
            ));
            let outcome = match pair.read()? {
                None => Outcome::Made,
                Some(there) => {
                    ensure!(
                        authority.has_signed(&there, &subject.service),
                        "{} is there, and is no certificate for {} by this authority; remove it with its key, or name another directory",
                        pair.certificate.display(),
                        authority.domain().identity(&subject.service),
                    );
                    Outcome::Renewed
                }
            };
            pairs.push((subject, pair, outcome));
        }
        Ok(pairs)
    }
}

/// A certificate says until when it is valid in four digits of a year (RFC 5280, section 4.1.2.5).
fn validity(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_hours(24 * 366 * 1000);
    match positive_time(text)? {
        time if time > LONGEST => Err("a certificate is valid for a thousand years at most".into()),
        time => Ok(time),
    }
}

/// The directory, made where it is missing, with a lock that no other run has at the same time.
fn locked(directory: &Path) -> std::io::Result<File> {
    fs::create_dir_all(directory)?;
    let opened = File::open(directory)?;
    opened.lock()?;
    Ok(opened)
}

fn draw(shape: &Shape, look: Look) -> String {
    let mut table = look.table(&["certificate", "for", "valid until", ""]);
    for one in std::iter::once(&shape.authority).chain(&shape.certificates) {
        let identity = std::iter::once(&one.identity);
        let known_as: Vec<_> = identity.chain(&one.names).map(String::as_str).collect();
        let outcome = match one.outcome {
            Outcome::Made => "made",
            Outcome::Renewed => "renewed",
            Outcome::Kept => "kept",
        };
        table.add_row([
            &printable(&one.certificate.display().to_string()),
            &known_as.join("\n"),
            &one.valid_until,
            outcome,
        ]);
    }
    format!("{table}\nEach key is beside its certificate (NAME-key.pem), for its owner alone.")
}

#[cfg(test)]
mod tests {
    use super::validity;

    #[test]
    fn what_a_certificate_cannot_say_is_refused() {
        for (text, is_good) in [
            ("1s", true),
            ("90d", true),
            ("900y", true),
            ("9000y", false),
            ("0s", false),
        ] {
            assert_eq!(validity(text).is_ok(), is_good, "{text}");
        }
    }
}
