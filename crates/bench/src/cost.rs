//! What calls cost the process that makes them, over several channels.

use anyhow::Result;

use crate::{
    client::Job,
    peers::Peer,
    servers::Servers,
    table::grouped,
    turns::{self, median},
    valgrind::Count,
    work::Work,
};

/// How costs are measured.
///
/// CPU time is that of the calling process alone, in user and in kernel mode. Instructions are those in user mode, by
/// valgrind: the same on every run, and blind to system calls and to threads that wait for one another.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Calls under way at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    callers: u32,
    /// Calls in each measurement of time
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    calls: u32,
    /// Measurements of each peer; the median counts, and of what one costs over another the median of the rounds
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Threads that the calls are made on
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// Count instructions with valgrind instead of measuring time (slow, and repeatable)
    #[arg(long)]
    instructions: bool,
}

impl Args {
    /// What is measured, in a few words.
    pub(crate) fn in_words(&self) -> String {
        let threads = match self.threads {
            1 => "one thread".to_owned(),
            more => format!("{more} threads"),
        };
        let how = if self.instructions {
            "counted by valgrind".to_owned()
        } else {
            format!(
                "the median of {} measurements of {} calls",
                self.rounds, self.calls
            )
        };
        format!("{} callers, {threads}, {how}", self.callers)
    }

    /// What a figure is.
    pub(crate) fn unit(&self) -> &'static str {
        if self.instructions {
            "instructions a call"
        } else {
            "CPU µs a call"
        }
    }

    /// A figure as it is shown.
    pub(crate) fn show(&self, figure: f64) -> String {
        if self.instructions {
            grouped(figure)
        } else {
            format!("{figure:.2}")
        }
    }

    /// What such work costs over each of these.
    pub(crate) fn measure(
        &self,
        work: Work,
        peers: &[Peer],
        collector: Option<&str>,
    ) -> Result<Vec<Cost>> {
        let servers = Servers::start()?;
        let job = |peer| Job {
            peer,
            work,
            callers: self.callers,
            count: self.calls,
            threads: usize::from(self.threads),
            collector: collector.map(str::to_owned),
            addresses: servers.addresses.clone(),
        };
        let rounds = if self.instructions { 3 } else { self.rounds };
        let measured = turns::take(peers, rounds, Peer::name, |peer| {
            if self.instructions {
                return Count::Instructions.per_call(&job(peer));
            }
            Ok(job(peer).measure()?.cpu * 1e6 / f64::from(self.calls))
        })?;
        Ok(measured
            .into_iter()
            .map(|(_, rounds)| Cost(rounds))
            .collect())
    }
}

/// What a call costs, measured once a round.
pub(crate) struct Cost(Vec<f64>);

impl Cost {
    pub(crate) fn median(&self) -> f64 {
        median(&self.0, |figure| *figure)
    }

    /// How many times as much as another that was measured in the same rounds. Each round is compared with itself: what the machine
    /// does meanwhile slows both.
    pub(crate) fn over(&self, other: &Self) -> f64 {
        let ratios: Vec<f64> = self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect();
        median(&ratios, |ratio| *ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::Cost;

    #[test]
    fn rounds_are_compared_with_themselves() {
        let slower_and_slower = Cost(vec![1.0, 2.0, 4.0]);
        let twice = Cost(vec![2.0, 4.0, 8.0]);
        assert!((twice.over(&slower_and_slower) - 2.0).abs() < f64::EPSILON);
        // The medians alone would say twice.
        let late = Cost(vec![3.0, 6.0, 4.0]);
        assert!((late.over(&slower_and_slower) - 3.0).abs() < f64::EPSILON);
    }
}
