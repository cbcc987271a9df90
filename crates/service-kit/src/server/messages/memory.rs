//! How much memory the messages of callers may take: so much in all, and so much from one address.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use opentelemetry::{KeyValue, metrics::Meter};
use rustc_hash::FxHashMap;
use tonic::Status;

use super::super::{admission::network, refused::Refused};
use crate::config::{LimitsConfig, as_usize};

/// A message that is no longer than that is free: a call costs as much without one. It is also what comes in one frame, so that most
/// calls are never counted.
const FREE: usize = 16 * 1024;
/// Memory is taken by so much at a time, and not for each frame.
const PIECE: usize = 64 * 1024;

/// Counts what calls hold, and refuses what is beyond the limits. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct MessageMemory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    most_of_an_address: usize,
    taken: Mutex<Taken>,
    refused: [Refused; Refusal::ALL.len()],
}

/// In bytes.
#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: FxHashMap<IpAddr, usize>,
}

/// Why a call gets no more memory.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    All,
    OfAnAddress,
}

impl Refusal {
    const ALL: [Self; 2] = [Self::All, Self::OfAnAddress];

    fn name(self) -> &'static str {
        match self {
            Self::All => "message_memory",
            Self::OfAnAddress => "message_memory_per_address",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self {
            Self::All => "",
            Self::OfAnAddress => " of one address",
        };
        let limit = self.name();
        write!(
            f,
            "the messages{whose} that are here take all the memory that they may (server.limits.{limit})"
        )
    }
}

impl MessageMemory {
    /// Nobody holds any.
    pub(crate) fn new(limits: &LimitsConfig, meter: &Meter) -> Self {
        let memory = Self(Arc::new(Inner {
            most: as_usize(limits.message_memory),
            most_of_an_address: as_usize(limits.message_memory_per_address),
            taken: Mutex::default(),
            refused: Default::default(),
        }));
        memory.observe(meter);
        memory
    }

    fn observe(&self, meter: &Meter) {
        let observed = self.clone();
        meter
            .u64_observable_gauge("discovery.server.message_memory")
            .with_unit("By")
            .with_description("What the messages of calls that are being served take")
            .with_callback(move |gauge| gauge.observe(observed.taken().all as u64, &[]))
            .build();
        let observed = self.clone();
        meter
            .u64_observable_counter("discovery.server.calls.refused")
            .with_description("Calls that were ended, by the limit that they were beyond")
            .with_callback(move |counter| {
                for refusal in Refusal::ALL {
                    let reason = KeyValue::new("reason", refusal.name());
                    counter.observe(observed.0.refused[refusal as usize].count(), &[reason]);
                }
            })
            .build();
    }

    /// What a call of that peer's holds: nothing yet.
    pub(super) fn hold(&self, peer: IpAddr) -> Held {
        Held {
            memory: self.clone(),
            peer,
            bytes: AtomicUsize::new(0),
        }
    }

    fn take(&self, address: IpAddr, bytes: usize) -> Result<(), Refusal> {
        let mut taken = self.taken();
        if bytes > self.0.most.saturating_sub(taken.all) {
            return Err(Refusal::All);
        }
        let of_address = taken.by_address.get(&address).copied().unwrap_or(0);
        if bytes > self.0.most_of_an_address.saturating_sub(of_address) {
            return Err(Refusal::OfAnAddress);
        }
        taken.all += bytes;
        taken.by_address.insert(address, of_address + bytes);
        Ok(())
    }

    fn give_back(&self, address: IpAddr, bytes: usize) {
        let mut taken = self.taken();
        taken.all -= bytes;
        if let Some(of_address) = taken.by_address.get_mut(&address) {
            *of_address -= bytes;
            if *of_address == 0 {
                taken.by_address.remove(&address);
            }
        }
    }

    /// In bytes.
    #[cfg(test)]
    pub(crate) fn taken_by(&self, address: IpAddr) -> usize {
        let taken = self.taken();
        taken.by_address.get(&address).copied().unwrap_or(0)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one call holds, given back when nothing is left of it.
#[derive(Debug)]
pub(super) struct Held {
    memory: MessageMemory,
    peer: IpAddr,
    /// Written by whoever reads the request, and by nobody else.
    bytes: AtomicUsize,
}

impl Held {
    /// Has enough for a message of which that much has come. What was enough for one is for the next as well.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`, with the limit, when that much is not to be had; what it holds it keeps.
    pub(super) fn grow_to(&self, come: usize) -> Result<(), Status> {
        if come <= FREE {
            return Ok(());
        }
        let (held, wanted) = (
            self.bytes.load(Ordering::Relaxed),
            come.next_multiple_of(PIECE),
        );
        if wanted <= held {
            return Ok(());
        }
        let taken = self.memory.take(network(self.peer), wanted - held);
        taken.map_err(|refusal| self.refuse(refusal))?;
        self.bytes.store(wanted, Ordering::Relaxed);
        Ok(())
    }

    /// Whether all that has come was free.
    pub(super) fn is_nothing(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) == 0
    }

    fn refuse(&self, refusal: Refusal) -> Status {
        let refused = &self.memory.0.refused[refusal as usize];
        refused.another(self.peer, "a call is ended", refusal);
        Status::resource_exhausted(refusal.to_string())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        if bytes > 0 {
            self.memory.give_back(network(self.peer), bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::{FREE, Held, IpAddr, MessageMemory, PIECE};
    use crate::{Telemetry, config::LimitsConfig};

    fn memory(pieces: usize, of_an_address: usize) -> (MessageMemory, Telemetry) {
        let bytes = |pieces: usize| {
            let bytes = u32::try_from(pieces * PIECE).expect("little");
            bytes.try_into().expect("not zero")
        };
        let limits = LimitsConfig {
            message_memory: bytes(pieces),
            message_memory_per_address: bytes(of_an_address),
            ..LimitsConfig::default()
        };
        let telemetry = Telemetry::metrics_only().expect("metrics");
        let memory = MessageMemory::new(&limits, &telemetry.meter("test"));
        (memory, telemetry)
    }

    fn call(memory: &MessageMemory, peer: &str) -> Held {
        memory.hold(peer.parse::<IpAddr>().expect("an address"))
    }

    fn refused(call: &Held, come: usize) -> String {
        let status = call.grow_to(come).expect_err("it is too much");
        assert_eq!(status.code(), Code::ResourceExhausted);
        status.message().to_owned()
    }

    #[tokio::test]
    async fn one_address_leaves_memory_for_others_and_all_together_have_an_end() {
        let (memory, telemetry) = memory(4, 3);
        let first = call(&memory, "10.0.0.1");
        first.grow_to(3 * PIECE).expect("of its own");
        let second = call(&memory, "10.0.0.1");
        let why = refused(&second, FREE + 1);
        assert!(
            why.contains("server.limits.message_memory_per_address"),
            "{why}"
        );
        let other = call(&memory, "10.0.0.2");
        other.grow_to(PIECE).expect("it is another's");
        let why = refused(&other, PIECE + 1);
        assert!(why.contains("(server.limits.message_memory)"), "{why}");
        let page = telemetry.render().expect("metrics");
        for reason in ["message_memory", "message_memory_per_address"] {
            let line = page.lines().find(|line| {
                line.starts_with("discovery_server_calls_refused_total{")
                    && line.contains(&format!("reason=\"{reason}\""))
            });
            assert!(line.is_some_and(|line| line.ends_with(" 1")), "{page}");
        }
        let held = format!(" {}", 4 * PIECE);
        assert!(
            page.lines().any(|line| {
                line.starts_with("discovery_server_message_memory_bytes{") && line.ends_with(&held)
            }),
            "{page}"
        );
        drop(first);
        second.grow_to(3 * PIECE).expect("there is enough again");
    }

    #[tokio::test]
    async fn short_messages_need_none_and_are_taken_when_there_is_none() {
        let (memory, _telemetry) = memory(1, 1);
        let long = call(&memory, "10.0.0.1");
        long.grow_to(PIECE).expect("all that there is");
        call(&memory, "10.0.0.1").grow_to(FREE).expect("it is free");
    }

    #[tokio::test]
    async fn nothing_is_remembered_of_calls_that_have_ended() {
        let (memory, _telemetry) = memory(2, 2);
        for number in 0..100 {
            let call = call(&memory, &format!("10.0.0.{number}"));
            for come in (0..=2 * PIECE).step_by(FREE) {
                call.grow_to(come).expect("there is enough");
            }
            refused(&call, 2 * PIECE + 1);
        }
        assert_eq!(memory.taken().all, 0);
        assert!(memory.taken().by_address.is_empty());
    }
}
