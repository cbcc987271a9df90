//! What calls are told apart by, method and status: resolved once for each of both.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use opentelemetry::{
    KeyValue,
    metrics::{BoundHistogram, Histogram},
};
use rustc_hash::FxHashMap;
use tonic::Code;

use super::status::{is_fault, name_of};

/// What OpenTelemetry calls a method whose name says nothing that can be bounded.
const OTHER: &str = "_OTHER";
/// So many methods have names of their own; services have a few dozen.
const MOST: usize = 256;
/// A longer path is nobody's method.
const LONGEST: usize = 256;
const CODES: usize = 17;

/// What is told of one method's calls, by metrics and spans alike.
#[derive(Debug)]
pub(super) struct Method {
    name: Arc<str>,
    ended: [OnceLock<Box<Ended>>; CODES],
}

/// What is told of one method's calls that ended with one status.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) attributes: Vec<KeyValue>,
    duration: OnceLock<BoundHistogram<f64>>,
}

impl Ended {
    /// One of them took so many seconds.
    pub(super) fn took(&self, seconds: f64, durations: &Histogram<f64>) {
        let bound = || durations.bind(&self.attributes);
        self.duration.get_or_init(bound).record(seconds);
    }
}

impl Method {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            ended: [const { OnceLock::new() }; CODES],
        }
    }

    /// Its name, as in `helloworld.Greeter/SayHello`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Of a call that ended so.
    pub(super) fn with(&self, code: Code) -> &Ended {
        self.ended[code as usize].get_or_init(|| {
            let status = name_of(code);
            let mut attributes = vec![
                KeyValue::new("rpc.system.name", "grpc"),
                KeyValue::new("rpc.method", Arc::clone(&self.name)),
                KeyValue::new("rpc.response.status_code", status),
            ];
            attributes.extend(is_fault(code).then(|| KeyValue::new("error.type", status)));
            Box::new(Ended {
                attributes,
                duration: OnceLock::new(),
            })
        })
    }
}

/// The method that a call names.
#[derive(Debug)]
pub(super) enum Called {
    Known(Arc<Method>),
    /// Whether it is served will be seen; its path less the first slash.
    New(Box<str>),
}

impl Called {
    /// By which name.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Known(method) => &method.name,
            Self::New(name) => name,
        }
    }
}

/// The methods that are served, as calls have shown. Asking for one that is known takes no lock and allocates nothing.
///
/// Anybody can call anything, and each name would be a series for ever. A method has a name of its own once a call of it has
/// ended otherwise than with `UNIMPLEMENTED`, or with `PERMISSION_DENIED`, by which callers are turned away before anybody looks
/// whether it is served. Both are answered when a call is first polled, before it can be given up.
#[derive(Debug)]
pub(super) struct Methods {
    known: ArcSwap<FxHashMap<Box<str>, Arc<Method>>>,
    other: Arc<Method>,
}

impl Default for Methods {
    fn default() -> Self {
        Self {
            known: ArcSwap::default(),
            other: Arc::new(Method::new(OTHER)),
        }
    }
}

impl Methods {
    /// A call to that path begins.
    pub(super) fn called(&self, path: &str) -> Called {
        let name = path.strip_prefix('/').unwrap_or(path);
        let known = self.known.load();
        match known.get(name) {
            Some(method) => Called::Known(Arc::clone(method)),
            None if known.len() >= MOST || name.len() > LONGEST => {
                Called::Known(Arc::clone(&self.other))
            }
            None => Called::New(name.into()),
        }
    }

    /// What a call that ended so is counted as.
    pub(super) fn ended(&self, called: &Called, code: Code) -> Arc<Method> {
        match called {
            Called::Known(method) => Arc::clone(method),
            Called::New(name) => match code {
                Code::Unimplemented | Code::PermissionDenied => Arc::clone(&self.other),
                _ => self.learn(name),
            },
        }
    }

    fn learn(&self, name: &str) -> Arc<Method> {
        let method = Arc::new(Method::new(name));
        self.known.rcu(|known| {
            let mut known = FxHashMap::clone(known);
            if known.len() < MOST {
                let place = known.entry(name.into());
                place.or_insert_with(|| Arc::clone(&method));
            }
            known
        });
        // Another call may have been first, or the last place taken.
        Arc::clone(self.known.load().get(name).unwrap_or(&self.other))
    }
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::{Arc, Called, Code, KeyValue, LONGEST, MOST, Methods, OTHER};

    /// The name by which a call of `path` is counted that ends so.
    fn counted(methods: &Methods, path: &str, code: Code) -> String {
        let method = methods.ended(&methods.called(path), code);
        method.name.to_string()
    }

    fn words(attributes: &[KeyValue]) -> String {
        let word = |a: &KeyValue| format!("{}={}", a.key, a.value);
        attributes.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_method_is_resolved_once_and_each_status_of_it_once() {
        let methods = Methods::default();
        let path = "/helloworld.Greeter/SayHello";
        let first = methods.ended(&methods.called(path), Code::Ok);
        let Called::Known(again) = methods.called(path) else {
            panic!("it is known");
        };
        assert!(Arc::ptr_eq(&first, &again));
        assert!(ptr::eq(first.with(Code::Ok), again.with(Code::Ok)));
    }

    #[test]
    fn the_server_s_failures_have_an_error_type_and_the_caller_s_have_none() {
        let methods = Methods::default();
        let method = methods.ended(&methods.called("/a/A"), Code::Ok);
        assert_eq!(
            words(&method.with(Code::Internal).attributes),
            "rpc.system.name=grpc rpc.method=a/A rpc.response.status_code=INTERNAL error.type=INTERNAL"
        );
        assert_eq!(
            words(&method.with(Code::NotFound).attributes),
            "rpc.system.name=grpc rpc.method=a/A rpc.response.status_code=NOT_FOUND"
        );
    }

    #[test]
    fn what_nobody_serves_has_no_name_and_what_is_served_keeps_its_own() {
        let methods = Methods::default();
        assert_eq!(counted(&methods, "/a/A", Code::Unimplemented), OTHER);
        assert_eq!(counted(&methods, "/a/A", Code::Cancelled), "a/A");
        assert_eq!(counted(&methods, "/a/A", Code::Unimplemented), "a/A");
    }

    #[test]
    fn names_that_a_refused_caller_makes_up_take_no_place() {
        let methods = Methods::default();
        for number in 0..=MOST {
            let made_up = format!("/a/{number}");
            assert_eq!(counted(&methods, &made_up, Code::PermissionDenied), OTHER);
        }
        assert_eq!(counted(&methods, "/a/A", Code::Ok), "a/A");
        assert_eq!(counted(&methods, "/a/A", Code::PermissionDenied), "a/A");
    }

    #[test]
    fn methods_beyond_what_is_bounded_share_one_name() {
        let methods = Methods::default();
        let long = format!("/{}", "x".repeat(LONGEST + 1));
        assert_eq!(counted(&methods, &long, Code::Ok), OTHER);
        let late = methods.called("/a/late");
        for number in 0..MOST {
            let path = format!("a/{number}");
            assert_eq!(counted(&methods, &format!("/{path}"), Code::Ok), path);
        }
        assert_eq!(counted(&methods, "/a/one-more", Code::Ok), OTHER);
        assert_eq!(&*methods.ended(&late, Code::Ok).name, OTHER);
        assert_eq!(counted(&methods, "/a/0", Code::Ok), "a/0");
    }
}
