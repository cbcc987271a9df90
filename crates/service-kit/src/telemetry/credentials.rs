//! What secures a process's connections: until when its certificates are valid, and how often changed files could not be used.

use std::sync::Arc;

use opentelemetry::{KeyValue, metrics::Meter};
use registry::{
    Registry,
    tls::{Followed, Validity},
};

/// Where credentials are followed: those of `[tls]`, and those of the registry.
#[derive(Debug, Clone)]
pub(crate) struct Followers {
    pub(crate) tls: Option<Arc<Followed>>,
    pub(crate) registry: Option<Registry>,
}

impl Followers {
    /// Measures the certificates that are in force: when the validity of each begins and ends, so that a rule may ask how much of it is
    /// left, whether it is for an hour or a year. And counts changed files that could not be used.
    pub(crate) fn observe(&self, meter: &Meter) {
        self.gauge(
            meter,
            "discovery.certificate.not_before.timestamp",
            "When the certificate that is shown begins to be valid, in seconds since 1970",
            |validity| validity.not_before,
        );
        self.gauge(
            meter,
            "discovery.certificate.not_after.timestamp",
            "When the certificate that is shown expires, in seconds since 1970",
            |validity| validity.not_after,
        );
        let followers = self.clone();
        meter
            .u64_observable_counter("discovery.refused_files")
            .with_description("Certificates and keys that have changed and could not be used")
            .with_callback(move |counter| counter.observe(followers.refused(), &[]))
            .build();
    }

    fn gauge(
        &self,
        meter: &Meter,
        name: &'static str,
        description: &'static str,
        at: fn(Validity) -> i64,
    ) {
        let followers = self.clone();
        meter
            .i64_observable_gauge(name)
            .with_description(description)
            .with_unit("s")
            .with_callback(move |gauge| {
                for (section, validity) in followers.validities() {
                    gauge.observe(at(validity), &[KeyValue::new("section", section)]);
                }
            })
            .build();
    }

    /// By the section of the configuration that names the files.
    fn validities(&self) -> impl Iterator<Item = (&'static str, Validity)> {
        let tls = self.tls.as_ref().and_then(|files| files.validity());
        let registry = self.registry.as_ref().and_then(Registry::certificate);
        let shown = [("tls", tls), ("registry.tls", registry)];
        let known = |(section, validity): (_, Option<_>)| Some((section, validity?));
        shown.into_iter().filter_map(known)
    }

    fn refused(&self) -> u64 {
        let tls = self.tls.as_ref().map_or(0, |files| files.refused());
        let registry = self.registry.as_ref().map_or(0, Registry::refused_files);
        tls + registry
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use balance::ClientTls;
    use registry::tls::CredentialFiles;
    use testkit::tls::Authority;

    use crate::Telemetry;

    #[tokio::test]
    async fn the_page_says_when_the_certificate_in_force_expires() {
        let directory = tempfile::tempdir().expect("a directory");
        let authority = Authority::new().expect("an authority");
        let ca = directory.path().join("ca.pem");
        fs::write(&ca, authority.certificate()).expect("it is written");
        let signed = authority.sign_spiffe("spiffe://example.org/greeter");
        let own = signed
            .expect("a certificate")
            .write(directory.path(), "own");
        let own = own.expect("it is written");
        let files = CredentialFiles::new().with_authorities(ca);
        let files = files.with_identity(own.certificate, own.key).follow();
        let telemetry = Telemetry::metrics_only().expect("metrics");
        telemetry.observe_credentials(None, Some(&ClientTls::new().with_files(Arc::clone(&files))));
        let shown = |name: &str| {
            let page = telemetry.render().expect("metrics");
            let is_it = |line: &&str| line.starts_with(name) && line.contains(r#"section="tls""#);
            let line = page.lines().find(is_it);
            let value = line.and_then(|line| line.rsplit(' ').next());
            value.map(|value| value.parse().expect("a number"))
        };
        let not_after = "discovery_certificate_not_after_timestamp_seconds";
        assert_eq!(shown(not_after), None, "nothing is in force yet");
        files.in_force().await.expect("it can be used");
        let validity = files.validity().expect("there is a certificate");
        assert_eq!(shown(not_after), Some(validity.not_after));
        let not_before = "discovery_certificate_not_before_timestamp_seconds";
        assert_eq!(shown(not_before), Some(validity.not_before));

        let refused = "discovery_refused_files_total";
        let count = || {
            let page = telemetry.render().expect("metrics");
            let line = page.lines().find(|line| line.starts_with(refused));
            line.map(|line| line.ends_with(" 1"))
        };
        assert_eq!(count(), Some(false));
        fs::write(directory.path().join("own-key.pem"), "no key").expect("it is written");
        files.in_force().await.expect("the last good one");
        assert_eq!(count(), Some(true));
    }
}
