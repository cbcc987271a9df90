//! What a line of the log of a `greeter-client` says.

/// One second, as the client saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sight {
    /// Calls in a second, as the client wrote them.
    pub rate: String,
    /// Failed calls so far, as the client wrote them.
    pub failed: String,
    /// Who answered in this second.
    pub instances: Vec<Seen>,
}

/// One instance in one second.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Where it answers.
    pub address: String,
    /// Its share of the calls, from 0 to 1.
    pub share: f64,
}

impl Seen {
    /// Its port, by which people tell instances of one machine apart.
    pub fn port(&self) -> &str {
        self.address
            .rsplit_once(':')
            .map_or(&self.address, |(_, port)| port)
    }
}

impl Sight {
    /// Reads `3s: 12,345 calls, 4,321/s, 0 failed, 2 instances: 127.0.0.1:4001 2,160/s, 127.0.0.1:4002 2,161/s`;
    /// `None` for a line that says something else.
    pub fn parse(line: &str) -> Option<Self> {
        let (_, figures) = line.split_once("s: ")?;
        let (summary, instances) = figures.split_once(": ").unwrap_or((figures, ""));
        let mut parts = summary.split(", ");
        parts.next()?.strip_suffix(" calls")?;
        let rate = parts.next()?.strip_suffix("/s")?.to_owned();
        let failed = parts.next()?.strip_suffix(" failed")?.to_owned();
        let rates: Vec<_> = instances.split(", ").filter_map(instance).collect();
        let all: f64 = rates.iter().map(|(_, rate)| rate).sum();
        let instances = rates
            .into_iter()
            .map(|(address, rate)| Seen {
                address: address.to_owned(),
                share: rate / all,
            })
            .collect();
        Some(Self {
            rate,
            failed,
            instances,
        })
    }

    /// Whether that instance answered.
    pub fn has(&self, address: &str) -> bool {
        self.instances.iter().any(|seen| seen.address == address)
    }
}

/// `127.0.0.1:4001 2,160/s`
fn instance(text: &str) -> Option<(&str, f64)> {
    let (address, rate) = text.split_once(' ')?;
    let rate = rate.strip_suffix("/s")?.replace(',', "").parse().ok()?;
    Some((address, rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_figures_is_read() {
        let line = "3s: 12,345 calls, 4,000/s, 2 failed, 2 instances: 127.0.0.1:4001 1,000/s, 127.0.0.1:4002 3,000/s";
        let sight = Sight::parse(line).expect("figures");
        assert_eq!((sight.rate.as_str(), sight.failed.as_str()), ("4,000", "2"));
        assert!(sight.has("127.0.0.1:4002") && !sight.has("127.0.0.1:400"));
        assert_eq!(sight.instances[0].port(), "4001");
        assert!((sight.instances[1].share - 0.75).abs() < 1e-9);
    }

    #[test]
    fn a_second_without_answers_has_no_instances() {
        let sight = Sight::parse("1s: 0 calls, 0.0/s, 0 failed, 0 instances").expect("figures");
        assert!(sight.instances.is_empty());
    }

    #[test]
    fn other_lines_are_no_figures() {
        for line in [
            "",
            "waiting for an instance of greeter",
            "{\"level\":\"WARN\"}",
            "1s: gone",
        ] {
            assert_eq!(Sight::parse(line), None, "{line}");
        }
    }
}
