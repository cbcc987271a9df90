//! What the greeter answers.

use std::sync::Arc;

use proto::helloworld::{HelloReply, HelloRequest, greeter_server};
use registry::Address;
use tokio_stream::{Stream, StreamExt, iter};
use tonic::{Request, Response, Status, Streaming};

/// How many greetings a name gets that asks for a stream of them.
const GREETINGS: usize = 5;

/// Greets from one address.
#[derive(Debug, Clone)]
pub(crate) struct Greeter {
    address: Arc<str>,
}

impl Greeter {
    /// A greeter that says it answers from `address`.
    pub(crate) fn new(address: &Address) -> Self {
        Self {
            address: address.as_str().into(),
        }
    }

    fn greet(&self, name: &str) -> HelloReply {
        HelloReply {
            message: format!("Hello {name} from {}", self.address),
        }
    }
}

/// Greetings, each made when the caller has room for it.
type Greetings = Box<dyn Stream<Item = Result<HelloReply, Status>> + Send + Unpin>;

#[tonic::async_trait]
impl greeter_server::Greeter for Greeter {
    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(self.greet(&request.into_inner().name)))
    }

    type SayHelloStreamReplyStream = Greetings;

    async fn say_hello_stream_reply(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<Greetings>, Status> {
        let (greeter, name) = (self.clone(), request.into_inner().name);
        let greetings = iter(0..GREETINGS).map(move |_| Ok(greeter.greet(&name)));
        Ok(Response::new(Box::new(greetings)))
    }

    type SayHelloBidiStreamStream = Greetings;

    async fn say_hello_bidi_stream(
        &self,
        request: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<Greetings>, Status> {
        let greeter = self.clone();
        let names = request.into_inner();
        let greetings = names.map(move |asked| asked.map(|request| greeter.greet(&request.name)));
        Ok(Response::new(Box::new(greetings)))
    }
}
