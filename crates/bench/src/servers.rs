//! Real greeters, in a process of their own, so that what is measured is the caller alone.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    pin::Pin,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use proto::helloworld::{
    HelloReply, HelloRequest,
    greeter_server::{Greeter, GreeterServer},
};
use tokio::net::TcpListener;
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

/// How many servers there are to balance over.
pub(crate) const SERVERS: usize = 3;

/// The servers' process; ends when dropped.
pub(crate) struct Servers {
    child: Child,
    pub(crate) addresses: Vec<String>,
}

impl Servers {
    pub(crate) fn start() -> Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the servers")?;
        let stdout = child.stdout.take().expect("piped");
        let lines = BufReader::new(stdout).lines().take(SERVERS);
        let addresses = lines
            .collect::<Result<_, _>>()
            .context("the servers did not start")?;
        Ok(Self { child, addresses })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if let Err(error) = self.child.wait() {
            eprintln!("the servers did not end well: {error}");
        }
    }
}

/// Serves on [`SERVERS`] free ports, prints their addresses, and ends with standard input.
pub(crate) fn serve() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        for _ in 0..SERVERS {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            println!("{}", listener.local_addr()?);
            let server = Server::builder().add_service(GreeterServer::new(Echo));
            tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        }
        let end = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        end.await?
            .context("cannot wait for the end of standard input")
            .map(drop)
    })
}

struct Echo;

#[tonic::async_trait]
impl Greeter for Echo {
    type SayHelloStreamReplyStream = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;
    type SayHelloBidiStreamStream = Self::SayHelloStreamReplyStream;

    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(HelloReply {
            message: request.into_inner().name,
        }))
    }

    async fn say_hello_stream_reply(
        &self,
        _: Request<HelloRequest>,
    ) -> Result<Response<Self::SayHelloStreamReplyStream>, Status> {
        Err(Status::unimplemented("only unary calls are measured"))
    }

    async fn say_hello_bidi_stream(
        &self,
        _: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<Self::SayHelloBidiStreamStream>, Status> {
        Err(Status::unimplemented("only unary calls are measured"))
    }
}
