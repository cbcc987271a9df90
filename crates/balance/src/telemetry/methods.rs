//! The attributes of calls, resolved once for each method and status.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use opentelemetry::KeyValue;
use rustc_hash::FxHashMap;

use super::TARGET;
use crate::status::Code;

const METHOD: &str = "grpc.method";
const STATUS: &str = "grpc.status";
/// What gRFC A66 calls a method whose name says nothing that can be bounded.
const OTHER: &str = "other";
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

/// What one method's measurements are told by.
#[derive(Debug)]
pub(super) struct Method {
    named: [KeyValue; 2],
    ended: [OnceLock<Box<[KeyValue; 3]>>; CODES],
}

impl Method {
    fn new(name: &str, target: &Arc<str>) -> Self {
        Self {
            named: [
                KeyValue::new(METHOD, Arc::<str>::from(name)),
                KeyValue::new(TARGET, Arc::clone(target)),
            ],
            ended: [const { OnceLock::new() }; CODES],
        }
    }

    /// The method and the target.
    pub(super) fn named(&self) -> &[KeyValue] {
        &self.named
    }

    /// The same with a status.
    pub(super) fn ended(&self, code: Code) -> &[KeyValue] {
        let [method, target] = &self.named;
        let attributes = || {
            let status = KeyValue::new(STATUS, code.name());
            Box::new([method.clone(), target.clone(), status])
        };
        &**self.ended[usize::from(code.number())].get_or_init(attributes)
    }
}

/// The methods that have been called. Asking for one that is known takes no lock and allocates nothing.
///
/// A66 names those methods that generated code has registered. A request tells nothing of the code that made it, so what
/// bounds the names here is their number.
#[derive(Debug)]
pub(super) struct Methods {
    target: Arc<str>,
    /// By path less its first slash.
    known: ArcSwap<FxHashMap<Box<str>, Arc<Method>>>,
    other: Arc<Method>,
    /// How many there may be.
    most: usize,
}

impl Methods {
    pub(super) fn new(target: &Arc<str>, named: Named) -> Self {
        let method = |name: &str| Arc::new(Method::new(name, target));
        let (these, most) = match named {
            Named::FirstCalled => (Vec::new(), MOST),
            Named::Only(just) => (just, 0),
        };
        let known = these.iter().map(|name| {
            let name = name.trim_start_matches('/');
            (name.into(), method(name))
        });
        Self {
            known: ArcSwap::from_pointee(known.collect()),
            other: method(OTHER),
            target: Arc::clone(target),
            most,
        }
    }

    /// The method of that path.
    pub(super) fn of(&self, path: &str) -> Arc<Method> {
        let name = path.strip_prefix('/').unwrap_or(path);
        let known = self.known.load();
        if let Some(method) = known.get(name) {
            return Arc::clone(method);
        }
        if known.len() >= self.most || name.len() > LONGEST {
            return Arc::clone(&self.other);
        }
        let method = Arc::new(Method::new(name, &self.target));
        self.known.rcu(|known| {
            let mut known = FxHashMap::clone(known);
            if known.len() < self.most {
                known
                    .entry(name.into())
                    .or_insert_with(|| Arc::clone(&method));
            }
            known
        });
        // Another call may have been first, or the last place taken.
        let known = self.known.load();
        Arc::clone(known.get(name).unwrap_or(&self.other))
    }
}

#[cfg(test)]
mod tests {
    use super::{Arc, Code, MOST, Methods, Named, OTHER};

    fn name(methods: &Methods, path: &str) -> String {
        methods.of(path).named()[0].value.to_string()
    }

    #[test]
    fn a_method_is_resolved_once_and_each_status_of_it_once() {
        let methods = Methods::new(&"greeter".into(), Named::FirstCalled);
        let first = methods.of("/helloworld.Greeter/SayHello");
        let again = methods.of("/helloworld.Greeter/SayHello");
        assert!(Arc::ptr_eq(&first, &again));
        let (ok, late) = (first.ended(Code::Ok), first.ended(Code::DeadlineExceeded));
        assert!(std::ptr::eq(ok, again.ended(Code::Ok)));
        let words = |attributes: &[opentelemetry::KeyValue]| {
            let word = |a: &opentelemetry::KeyValue| format!("{}={}", a.key, a.value);
            attributes.iter().map(word).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            words(late),
            "grpc.method=helloworld.Greeter/SayHello grpc.target=greeter grpc.status=DEADLINE_EXCEEDED"
        );
    }

    #[test]
    fn methods_beyond_what_is_bounded_share_one_name() {
        let methods = Methods::new(&"greeter".into(), Named::FirstCalled);
        assert_eq!(name(&methods, &format!("/{}", "x".repeat(1_000))), OTHER);
        for number in 0..MOST {
            let path = format!("a/{number}");
            assert_eq!(name(&methods, &format!("/{path}")), path);
        }
        assert_eq!(name(&methods, "/a/one-more"), OTHER);
        assert_eq!(name(&methods, "/a/0"), "a/0");
    }

    #[test]
    fn where_methods_were_named_no_other_has_a_name() {
        let named = Named::Only(vec!["a/A".into(), "/b/B".into()]);
        let methods = Methods::new(&"greeter".into(), named);
        for (path, expected) in [("/a/A", "a/A"), ("/b/B", "b/B"), ("/c/C", OTHER)] {
            assert_eq!(name(&methods, path), expected);
        }
    }
}
