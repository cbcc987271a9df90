//! Which callers may call which methods.

use std::{
    fmt,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::Either;
use http::{Request, Response};
use registry::tls::{InvalidSpiffeId, SpiffeId, TrustDomain};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use crate::config::{Allow, Tls};

/// Who has made a call, in the extensions of each request that came by mutual TLS.
///
/// ```
/// use service_kit::Caller;
/// fn who<T>(request: &tonic::Request<T>) -> Option<&str> {
///     let caller = request.extensions().get::<Caller>()?;
///     caller.id().map(|id| id.as_str())
/// }
/// assert_eq!(who(&tonic::Request::new(())), None);
/// ```
#[derive(Debug, Clone)]
pub struct Caller(pub(super) Result<Arc<SpiffeId>, InvalidSpiffeId>);

impl Caller {
    /// Who it is; `None` of one whose certificate does not say, which is let in only where no trust domain is configured.
    pub fn id(&self) -> Option<&SpiffeId> {
        self.0.as_deref().ok()
    }
}

/// Lets through the calls of those who may make them, and answers the others `PERMISSION_DENIED`.
#[derive(Debug, Clone)]
pub(super) struct Authorize(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    /// Without one, whoever has shown a certificate may call anything.
    domain: Option<TrustDomain>,
    /// As whom we are called.
    own: String,
    allow: Arc<[Allow]>,
}

impl Authorize {
    pub(super) fn new(tls: &Tls) -> Self {
        let domain = tls.domain.as_ref();
        let own = domain.map_or_else(
            || tls.service.to_string(),
            |domain| domain.identity(&tls.service).to_string(),
        );
        Self(Arc::new(Rules {
            domain: tls.domain.clone(),
            own,
            allow: Arc::clone(&tls.allow),
        }))
    }
}

impl Rules {
    fn check(&self, caller: &Caller, method: &str) -> Result<(), Refused> {
        let Some(domain) = &self.domain else {
            return Ok(());
        };
        let id = match &caller.0 {
            Ok(id) => id,
            Err(invalid) => return Err(Refused(format!("nobody knows who you are: {invalid}"))),
        };
        let mut about = self.allow.iter().filter(|rule| rule.is_about(method));
        let is_in = match about.next() {
            None => true,
            Some(first) => first.lets_in(id) || about.any(|rule| rule.lets_in(id)),
        };
        if is_in && id.trust_domain() == domain.as_str() {
            return Ok(());
        }
        let own = &self.own;
        Err(Refused(format!("{id} may not call {method} of {own}")))
    }
}

/// Why a call is not made.
#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<S> Layer<S> for Authorize {
    type Service = Authorized<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authorized {
            inner,
            rules: Arc::clone(&self.0),
        }
    }
}

/// The service that the layer makes.
#[derive(Debug, Clone)]
pub(super) struct Authorized<S> {
    inner: S,
    rules: Arc<Rules>,
}

impl<S, B> Service<Request<B>> for Authorized<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Self::Response, Self::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        let method = path.strip_prefix('/').unwrap_or(path);
        let allowed = match request.extensions().get::<Caller>() {
            Some(caller) => self.rules.check(caller, method),
            None => Err(Refused("the connection is of nobody".into())),
        };
        if let Err(refused) = allowed {
            tracing::debug!(%refused, "a call is refused");
            let status = Status::permission_denied(refused.0);
            return Either::Right(ready(Ok(status.into_http())));
        }
        Either::Left(self.inner.call(request))
    }
}

#[cfg(test)]
mod tests {
    use super::{Arc, Caller, InvalidSpiffeId, Rules};
    use crate::config::TlsConfig;

    fn rules(allow: &str) -> Rules {
        let config: TlsConfig = toml::from_str(&format!("allow = {allow}")).expect("a config");
        Rules {
            domain: Some("example.org".parse().expect("a trust domain")),
            own: "spiffe://example.org/greeter".into(),
            allow: config.allow.into(),
        }
    }

    fn caller(id: &str) -> Caller {
        Caller(Ok(Arc::new(id.parse().expect("an id"))))
    }

    const HELLO: &str = "helloworld.Greeter/SayHello";

    #[test]
    fn a_method_without_a_rule_is_for_all_of_the_domain() {
        let rules = rules("[]");
        let check = |caller| rules.check(&caller, HELLO).map_err(|refused| refused.0);
        check(caller("spiffe://example.org/anybody")).expect("of the domain");
        let refused = check(caller("spiffe://example.com/client")).expect_err("of another");
        assert_eq!(
            refused,
            "spiffe://example.com/client may not call helloworld.Greeter/SayHello of spiffe://example.org/greeter"
        );
        let nameless = Caller(Err(InvalidSpiffeId::Uris(0)));
        let refused = check(nameless).expect_err("of nobody");
        assert!(refused.contains("0 URI names"), "{refused}");
    }

    #[test]
    fn rules_about_a_method_let_in_the_callers_of_each() {
        let rules = rules(
            r#"[
                { method = "helloworld.Greeter/*", callers = ["client"] },
                { method = "helloworld.Greeter/SayHello", callers = ["user"] },
            ]"#,
        );
        let may = |name: &str, method: &str| {
            let caller = caller(&format!("spiffe://example.org/{name}"));
            rules.check(&caller, method).is_ok()
        };
        for (name, method, is_in) in [
            ("client", HELLO, true),
            ("user", HELLO, true),
            ("stranger", HELLO, false),
            ("user", "helloworld.Greeter/SayGoodbye", false),
            ("stranger", "user.v1.UserService/GetUser", true),
            ("stranger", "grpc.health.v1.Health/Check", true),
        ] {
            assert_eq!(may(name, method), is_in, "{name} {method}");
        }
    }
}
