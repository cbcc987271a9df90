//! A link between two processes that can be cut and mended: what goes over it waits meanwhile, as it does on a network
//! whose packets are lost.

use std::{io, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    select,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

/// How long to rest when a connection cannot be taken: too many descriptors, most likely.
const REST: Duration = Duration::from_millis(10);

/// A TCP proxy on a port of its own. Dropped, it closes all connections.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> anyhow::Result<()> {
/// use testkit::link::Link;
/// use tokio::{io::AsyncReadExt as _, io::AsyncWriteExt as _, net::{TcpListener, TcpStream}};
///
/// let server = TcpListener::bind("127.0.0.1:0").await?;
/// let link = Link::to(&server.local_addr()?.to_string()).await?;
/// let mut caller = TcpStream::connect(link.address()).await?;
/// let (mut served, _) = server.accept().await?;
/// link.cut();
/// caller.write_all(b"hello").await?;
/// link.mend();
/// let mut heard = [0; 5];
/// served.read_exact(&mut heard).await?;
/// assert_eq!(&heard, b"hello");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Link {
    address: String,
    way: watch::Sender<Way>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone)]
struct Way {
    to: String,
    there: bool,
    back: bool,
    /// Grows when the link leads elsewhere: connections of before end.
    turn: u64,
}

impl Link {
    /// A link to `host:port`, whole.
    pub async fn to(to: &str) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.context("cannot listen for a link")?;
        let address: SocketAddr = listener.local_addr()?;
        let way = watch::Sender::new(Way {
            to: to.to_owned(),
            there: true,
            back: true,
            turn: 0,
        });
        let task = tokio::spawn(accept(listener, way.subscribe()));
        Ok(Self {
            address: address.to_string(),
            way,
            task,
        })
    }

    /// Where it is entered.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Lets nothing through any more, either way: connections stay open, and new ones are taken and hang.
    pub fn cut(&self) {
        self.set(false, false);
    }

    /// Lets nothing back any more: what callers say arrives, and they hear nothing.
    pub fn hold_back(&self) {
        self.set(true, false);
    }

    /// Lets everything through again, and what has waited first.
    pub fn mend(&self) {
        self.set(true, true);
    }

    fn set(&self, there: bool, back: bool) {
        self.way
            .send_modify(|way| (way.there, way.back) = (there, back));
    }

    /// Leads elsewhere from now on, as an address that has moved; the connections that there are end.
    pub fn lead_to(&self, to: &str) {
        self.way.send_modify(|way| {
            to.clone_into(&mut way.to);
            way.turn += 1;
        });
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, way: watch::Receiver<Way>) {
    let mut connections = JoinSet::new();
    loop {
        select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connect(stream, way.clone()));
                }
                Err(_) => sleep(REST).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Joins a connection with one to where the link leads, until either ends or it leads elsewhere.
async fn connect(from: TcpStream, mut way: watch::Receiver<Way>) -> io::Result<()> {
    open(&mut way, |way| way.there).await;
    let Way { to, turn, .. } = way.borrow().clone();
    let there = TcpStream::connect(&to).await?;
    from.set_nodelay(true)?;
    there.set_nodelay(true)?;
    let (from_reads, from_writes) = from.into_split();
    let (there_reads, there_writes) = there.into_split();
    let turned = {
        let mut way = way.clone();
        async move { way.wait_for(|way| way.turn != turn).await.is_ok() }
    };
    let both = async {
        let there_and_back = (
            pump(from_reads, there_writes, way.clone(), |way| way.there),
            pump(there_reads, from_writes, way.clone(), |way| way.back),
        );
        tokio::try_join!(there_and_back.0, there_and_back.1)
    };
    select! {
        ended = both => ended.map(drop),
        _ = turned => Ok(()),
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
    is_open: fn(&Way) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        open(&mut way, is_open).await;
        let read = from.read(&mut buffer).await?;
        // What came while it was cut has not passed it yet.
        open(&mut way, is_open).await;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
    }
}

/// Waits until the link lets that through; without its owner nothing passes any more.
async fn open(way: &mut watch::Receiver<Way>, is_open: fn(&Way) -> bool) {
    if way.wait_for(is_open).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_led_elsewhere_is_cut_off_from_where_it_was() {
        let (first, second) = (
            TcpListener::bind("127.0.0.1:0").await.expect("a port"),
            TcpListener::bind("127.0.0.1:0").await.expect("a port"),
        );
        let address = |listener: &TcpListener| listener.local_addr().expect("bound").to_string();
        let link = Link::to(&address(&first)).await.expect("a link");
        let mut caller = TcpStream::connect(link.address()).await.expect("it leads");
        let _served = first.accept().await.expect("a connection");
        link.lead_to(&address(&second));
        let ended = caller.read(&mut [0]).await.unwrap_or(0);
        assert_eq!(ended, 0);
        let _again = TcpStream::connect(link.address()).await.expect("it leads");
        second.accept().await.expect("a connection");
    }
}
