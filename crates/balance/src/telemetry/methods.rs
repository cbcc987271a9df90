//! The instruments of calls, resolved once for each method and status.

use std::{
    hash::BuildHasher,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use opentelemetry::{
    KeyValue,
    metrics::{BoundCounter, BoundHistogram},
};
use rustc_hash::FxBuildHasher;

use super::{TARGET, instruments::Instruments};
use crate::{status::Code, trace};

const METHOD: &str = "grpc.method";
const STATUS: &str = "grpc.status";
/// What gRFC A66 calls a method whose name says nothing that can be bounded.
const OTHER: &str = "other";
/// What OpenTelemetry calls it.
const RPC_OTHER: &str = "_OTHER";
/// So many methods have names of their own, unless they were named beforehand; services have a few dozen.
const MOST: usize = 256;
/// A longer path is nobody's method.
const LONGEST: usize = 256;
const CODES: usize = 17;

/// Which methods go by their own names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Named {
    /// The first so many that are called.
    #[default]
    FirstCalled,
    /// These and no others, as in `helloworld.Greeter/SayHello`.
    Only(Vec<String>),
}

/// What one method's measurements go to. What is bound is bound at its first use: what was never measured is not told of.
#[derive(Debug)]
pub(super) struct Method {
    /// As OpenTelemetry's conventions have it.
    name: Arc<str>,
    instruments: Arc<Instruments>,
    named: [KeyValue; 2],
    started: OnceLock<BoundCounter<u64>>,
    calls: [OnceLock<BoundHistogram<f64>>; CODES],
    attempts: [OnceLock<Box<Attempts>>; CODES],
}

/// Where attempts at a method are measured that ended with one status.
#[derive(Debug)]
struct Attempts {
    took: BoundHistogram<f64>,
    sent: BoundHistogram<u64>,
    received: BoundHistogram<u64>,
}

/// What is measured of an attempt.
pub(super) struct Measured {
    /// In seconds.
    pub(super) took: f64,
    /// In bytes.
    pub(super) sent: u64,
    pub(super) received: u64,
}

impl Method {
    fn new(instruments: &Arc<Instruments>, name: &str, target: &Arc<str>) -> Self {
        let name: Arc<str> = name.into();
        Self {
            instruments: Arc::clone(instruments),
            named: [
                KeyValue::new(METHOD, Arc::clone(&name)),
                KeyValue::new(TARGET, Arc::clone(target)),
            ],
            name,
            started: OnceLock::new(),
            calls: [const { OnceLock::new() }; CODES],
            attempts: [const { OnceLock::new() }; CODES],
        }
    }

    /// Every method that has no name of its own.
    fn other(instruments: &Arc<Instruments>, target: &Arc<str>) -> Self {
        Self {
            name: RPC_OTHER.into(),
            ..Self::new(instruments, OTHER, target)
        }
    }

    /// What is measured of the channel's calls at all.
    pub(super) fn instruments(&self) -> &Instruments {
        &self.instruments
    }

    /// The method and the target.
    pub(super) fn named(&self) -> &[KeyValue] {
        &self.named
    }

    /// Of an attempt that ended so: the same with a status.
    fn attempted(&self, code: Code) -> [KeyValue; 3] {
        let [method, target] = self.named.clone();
        [method, target, KeyValue::new(STATUS, code.name())]
    }

    /// Of a call that ended so, by OpenTelemetry's conventions; and the target as all other metrics of a channel have it, so that
    /// they can be joined.
    fn called(&self, code: Code) -> Vec<KeyValue> {
        let [_, target] = self.named.clone();
        let mut attributes = vec![
            KeyValue::new(trace::SYSTEM, "grpc"),
            KeyValue::new(trace::METHOD, Arc::clone(&self.name)),
            KeyValue::new(trace::SERVER, target.value.clone()),
            target,
            KeyValue::new(trace::STATUS, code.name()),
        ];
        // To a caller all that is not OK is an error.
        let failed = code != Code::Ok;
        attributes.extend(failed.then(|| KeyValue::new(trace::ERROR, code.name())));
        attributes
    }

    /// An attempt has begun.
    pub(super) fn attempt_started(&self) {
        let bound = || self.instruments.started.bind(&self.named);
        self.started.get_or_init(bound).add(1);
    }

    /// An attempt has ended with that status, at an endpoint whose `locality` is to be told, or is not.
    pub(super) fn attempt_ended(
        &self,
        code: Code,
        locality: Option<KeyValue>,
        measured: &Measured,
    ) {
        let &Measured {
            took,
            sent,
            received,
        } = measured;
        let instruments = &self.instruments;
        if let Some(locality) = locality {
            // There are as many as an operator has zones: nothing of ours is kept for each.
            let [method, target, status] = self.attempted(code);
            let attributes = [method, target, status, locality];
            instruments.attempt.record(took, &attributes);
            instruments.sent.record(sent, &attributes);
            instruments.received.record(received, &attributes);
            return;
        }
        let bound = || {
            let attributes = self.attempted(code);
            Box::new(Attempts {
                took: instruments.attempt.bind(&attributes),
                sent: instruments.sent.bind(&attributes),
                received: instruments.received.bind(&attributes),
            })
        };
        let attempts = self.attempts[usize::from(code.number())].get_or_init(bound);
        attempts.took.record(took);
        attempts.sent.record(sent);
        attempts.received.record(received);
    }

    /// A call has ended with that status, after so many seconds.
    pub(super) fn call_ended(&self, code: Code, took: f64) {
        let bound = || self.instruments.call.bind(&self.called(code));
        self.calls[usize::from(code.number())]
            .get_or_init(bound)
            .record(took);
    }
}

/// The methods that have been called. Asking for one that is known takes no lock, writes nothing and allocates nothing.
///
/// A66 names those methods that generated code has registered. A request tells nothing of the code that made it, so what
/// bounds the names here is their number.
#[derive(Debug)]
pub(super) struct Methods {
    instruments: Arc<Instruments>,
    target: Arc<str>,
    /// Each in the first place after its name's hash that was free; at most half of them are ever taken, and none is given back.
    places: Box<[OnceLock<Arc<Method>>]>,
    other: Arc<Method>,
    /// How many more may have names.
    left: AtomicUsize,
    adding: Mutex<()>,
}

impl Methods {
    pub(super) fn new(instruments: &Arc<Instruments>, target: &Arc<str>, named: Named) -> Self {
        let (these, more) = match named {
            Named::FirstCalled => (Vec::new(), MOST),
            Named::Only(just) => (just, 0),
        };
        let most = these.len() + more;
        let places = (0..(2 * most).next_power_of_two()).map(|_| OnceLock::new());
        let methods = Self {
            places: places.collect(),
            other: Arc::new(Method::other(instruments, target)),
            instruments: Arc::clone(instruments),
            target: Arc::clone(target),
            left: AtomicUsize::new(most),
            adding: Mutex::default(),
        };
        for path in &these {
            methods.add(path.trim_start_matches('/'));
        }
        // One that was named twice leaves no place to another.
        methods.left.store(more, Ordering::Relaxed);
        methods
    }

    /// The method of that path.
    pub(super) fn of(&self, path: &str) -> &Arc<Method> {
        let name = path.strip_prefix('/').unwrap_or(path);
        match self.find(name) {
            Ok(method) => method,
            Err(_) if name.len() > LONGEST => &self.other,
            Err(_) => self.add(name),
        }
    }

    /// The method of that name, or the place where it is to be.
    fn find(&self, name: &str) -> Result<&Arc<Method>, &OnceLock<Arc<Method>>> {
        let last = self.places.len() - 1;
        let hash = FxBuildHasher.hash_one(name) & last as u64;
        let mut at = usize::try_from(hash).expect("below a length");
        while let Some(method) = self.places[at].get() {
            if *method.name == *name {
                return Ok(method);
            }
            at = (at + 1) & last;
        }
        Err(&self.places[at])
    }

    /// The method of a name that was not known, if so many may have names.
    #[cold]
    fn add(&self, name: &str) -> &Arc<Method> {
        if self.left.load(Ordering::Relaxed) == 0 {
            return &self.other;
        }
        // One at a time, so that no name gets two places, and no place is taken that is too many.
        let _alone = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        match self.find(name) {
            Ok(method) => method,
            Err(_) if self.left.load(Ordering::Relaxed) == 0 => &self.other,
            Err(place) => {
                self.left.fetch_sub(1, Ordering::Relaxed);
                place.get_or_init(|| Arc::new(Method::new(&self.instruments, name, &self.target)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::metrics::MeterProvider as _;
    use opentelemetry_sdk::metrics::SdkMeterProvider;

    use super::{Arc, Code, Instruments, KeyValue, MOST, Methods, Named, OTHER, RPC_OTHER};

    fn methods(named: Named) -> Methods {
        let meter = SdkMeterProvider::default().meter("balance");
        Methods::new(
            &Arc::new(Instruments::new(&meter)),
            &"greeter".into(),
            named,
        )
    }

    fn name(methods: &Methods, path: &str) -> String {
        methods.of(path).named()[0].value.to_string()
    }

    fn words(attributes: &[KeyValue]) -> String {
        let word = |a: &KeyValue| format!("{}={}", a.key, a.value);
        attributes.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_method_is_resolved_once() {
        let methods = methods(Named::FirstCalled);
        let first = methods.of("/helloworld.Greeter/SayHello");
        let again = methods.of("/helloworld.Greeter/SayHello");
        assert!(Arc::ptr_eq(first, again));
        let late = first.attempted(Code::DeadlineExceeded);
        assert_eq!(
            words(&late),
            "grpc.method=helloworld.Greeter/SayHello grpc.target=greeter grpc.status=DEADLINE_EXCEEDED"
        );
    }

    #[test]
    fn a_call_is_told_of_as_opentelemetry_has_it_and_what_is_not_ok_is_an_error() {
        let methods = methods(Named::FirstCalled);
        let method = methods.of("/helloworld.Greeter/SayHello");
        let always = "rpc.system.name=grpc rpc.method=helloworld.Greeter/SayHello server.address=greeter grpc.target=greeter";
        for (code, ended) in [
            (Code::Ok, "rpc.response.status_code=OK"),
            (
                Code::NotFound,
                "rpc.response.status_code=NOT_FOUND error.type=NOT_FOUND",
            ),
        ] {
            assert_eq!(words(&method.called(code)), format!("{always} {ended}"));
        }
    }

    #[test]
    fn methods_beyond_what_is_bounded_share_one_name() {
        let methods = methods(Named::FirstCalled);
        assert_eq!(name(&methods, &format!("/{}", "x".repeat(1_000))), OTHER);
        for number in 0..MOST {
            let path = format!("a/{number}");
            assert_eq!(name(&methods, &format!("/{path}")), path);
        }
        assert_eq!(name(&methods, "/a/one-more"), OTHER);
        assert_eq!(name(&methods, "/a/0"), "a/0");
        let nobody_s = methods.of("/a/one-more").called(Code::Ok);
        assert_eq!(nobody_s[1].value.as_str(), RPC_OTHER);
    }

    #[test]
    fn where_methods_were_named_no_other_has_a_name() {
        let named = Named::Only(vec!["a/A".into(), "/b/B".into()]);
        let methods = methods(named);
        for (path, expected) in [("/a/A", "a/A"), ("/b/B", "b/B"), ("/c/C", OTHER)] {
            assert_eq!(name(&methods, path), expected);
        }
    }
}
