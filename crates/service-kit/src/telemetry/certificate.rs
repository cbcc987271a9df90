//! Until when our own certificate is valid.

use std::sync::Arc;

use opentelemetry::metrics::Meter;
use registry::tls::{Followed, Validity};

/// Measures the certificate that is in force: when its validity begins and ends, so that a rule may ask how much of it is left,
/// whether it is for an hour or a year.
pub(crate) fn observe(meter: &Meter, files: &Arc<Followed>) {
    let gauge = |name, description, at: fn(Validity) -> i64| {
        let files = Arc::clone(files);
        meter
            .i64_observable_gauge(name)
            .with_description(description)
            .with_unit("s")
            .with_callback(move |gauge| {
                if let Some(validity) = files.validity() {
                    gauge.observe(at(validity), &[]);
                }
            })
            .build();
    };
    gauge(
        "discovery.certificate.not_before.timestamp",
        "When the certificate that is shown begins to be valid, in seconds since 1970",
        |validity| validity.not_before,
    );
    gauge(
        "discovery.certificate.not_after.timestamp",
        "When the certificate that is shown expires, in seconds since 1970",
        |validity| validity.not_after,
    );
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        super::observe(&telemetry.meter("test"), &files);
        let shown = |name: &str| {
            let page = telemetry.render().expect("metrics");
            let line = page.lines().find(|line| line.starts_with(name));
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
    }
}
