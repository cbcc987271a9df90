//! A way to a member on which not everything passes: what a faulty member, or something in between, might do.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use h2::{RecvStream, SendStream, client, server};
use http::{Request, Response};
use testkit::etcd::Cluster;
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    task::JoinSet,
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;

/// What comes before a message of gRPC: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// How often something is said that says nothing.
const OFTEN: Duration = Duration::from_millis(50);

/// Passes everything on to one member, but for what is to be hidden. Ends when dropped.
pub(crate) struct Mute {
    address: String,
    state: Arc<State>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct State {
    hidden: Mutex<Hidden>,
    chatters: AtomicBool,
    /// How many watches were begun, how many there are, how many reads, and how many of those there were at once.
    begun: AtomicUsize,
    watches: AtomicUsize,
    reads: AtomicUsize,
    most_reads: AtomicUsize,
}

/// Messages that contain this do not pass; empty for all of them.
#[derive(Default, Clone, Copy)]
struct Hidden {
    from_watches: Option<&'static str>,
    from_readers: Option<&'static str>,
}

impl Mute {
    async fn start(member: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let state = Arc::new(State::default());
        let (member, of_task) = (member.to_owned(), Arc::clone(&state));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(connection(socket, member.clone(), Arc::clone(&of_task)));
            }
        });
        Self {
            address,
            state,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// One to each member of a cluster.
    pub(crate) async fn of_all(cluster: &Cluster) -> Vec<Self> {
        let mut all = Vec::new();
        for member in cluster.endpoints() {
            all.push(Self::start(&member).await);
        }
        all
    }

    /// Where it is reached.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// How many watches were begun here.
    pub(crate) fn watches(&self) -> usize {
        self.state.begun.load(Ordering::SeqCst)
    }

    /// How many watches there are here now.
    pub(crate) fn open_watches(&self) -> usize {
        self.state.watches.load(Ordering::SeqCst)
    }

    /// The most reads that there were at the same time.
    pub(crate) fn most_reads(&self) -> usize {
        self.state.most_reads.load(Ordering::SeqCst)
    }

    /// Hides from all watches, from now on, what contains this text; nothing at all when there is none.
    pub(crate) fn hide(&self, text: Option<&'static str>) {
        self.state.lock().from_watches = text;
    }

    /// Tells all watches, again and again, what says nothing, as etcd does to tell how far a watch has come.
    pub(crate) fn chatter(&self) {
        self.state.chatters.store(true, Ordering::SeqCst);
    }

    /// Never passes on what is asked for by a read that contains this text.
    pub(crate) fn keep_from_readers(&self, text: &'static str) {
        self.state.lock().from_readers = Some(text);
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Hidden> {
        self.hidden.lock().expect("nobody panics")
    }
}

fn is_hidden(hidden: Option<&str>, message: &[u8]) -> bool {
    let is_in = |text: &str| {
        message
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    hidden.is_some_and(|text| text.is_empty() || is_in(text))
}

/// One that is under way, until it is dropped.
struct UnderWay<'a>(&'a AtomicUsize);

impl<'a> UnderWay<'a> {
    fn new(count: &'a AtomicUsize, most: &AtomicUsize) -> Self {
        let now = count.fetch_add(1, Ordering::SeqCst) + 1;
        most.fetch_max(now, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Passes on what comes on one connection, for as long as both sides want.
async fn connection(socket: TcpStream, member: String, state: Arc<State>) -> Option<()> {
    let mut here = server::handshake(socket).await.ok()?;
    let socket = TcpStream::connect(member).await.ok()?;
    let (there, driver) = client::handshake(socket).await.ok()?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async { driver.await.ok() });
    while let Some(Ok((request, respond))) = here.accept().await {
        tasks.spawn(exchange(
            there.clone(),
            request,
            respond,
            Arc::clone(&state),
        ));
    }
    Some(())
}

async fn exchange(
    there: client::SendRequest<Bytes>,
    request: Request<RecvStream>,
    mut respond: server::SendResponse<Bytes>,
    state: Arc<State>,
) -> Option<()> {
    let (head, body) = request.into_parts();
    let is_watch = head.uri.path() == "/etcdserverpb.Watch/Watch";
    let is_read = head.uri.path() == "/etcdserverpb.KV/Range";
    let _watch = is_watch.then(|| {
        state.begun.fetch_add(1, Ordering::SeqCst);
        UnderWay::new(&state.watches, &AtomicUsize::new(0))
    });
    let _read = is_read.then(|| UnderWay::new(&state.reads, &state.most_reads));
    let mut there = there.ready().await.ok()?;
    let (response, up) = there
        .send_request(Request::from_parts(head, ()), false)
        .ok()?;
    let down = async {
        let (head, body) = response.await.ok()?.into_parts();
        let down = respond
            .send_response(Response::from_parts(head, ()), false)
            .ok()?;
        let is_hidden = |message: &[u8]| is_watch && is_hidden(state.lock().from_watches, message);
        let chatters = || is_watch && state.chatters.load(Ordering::SeqCst);
        messages(body, down, is_hidden, chatters).await
    };
    let is_asked = |message: &[u8]| is_read && is_hidden(state.lock().from_readers, message);
    tokio::try_join!(pass(messages(body, up, is_asked, || false)), pass(down)).ok()?;
    Some(())
}

/// So that whichever direction breaks first ends the other.
async fn pass(direction: impl Future<Output = Option<()>>) -> Result<(), ()> {
    direction.await.ok_or(())
}

/// Passes messages on, whole, but for those that are hidden.
async fn messages(
    mut from: RecvStream,
    mut to: SendStream<Bytes>,
    is_hidden: impl Fn(&[u8]) -> bool,
    chatters: impl Fn() -> bool,
) -> Option<()> {
    let mut buffer = BytesMut::new();
    loop {
        let data = select! {
            data = from.data() => data,
            () = sleep(OFTEN) => {
                if chatters() {
                    to.send_data(Bytes::from_static(&[0; PREFIX]), false).ok()?;
                }
                continue;
            }
        };
        let Some(data) = data else { break };
        let data = data.ok()?;
        from.flow_control().release_capacity(data.len()).ok()?;
        buffer.extend_from_slice(&data);
        while let Some(message) = whole(&mut buffer) {
            if !is_hidden(&message) {
                to.send_data(message, false).ok()?;
            }
        }
    }
    match from.trailers().await.ok()? {
        Some(trailers) => to.send_trailers(trailers).ok(),
        None => to.send_data(Bytes::new(), true).ok(),
    }
}

fn whole(buffer: &mut BytesMut) -> Option<Bytes> {
    let length = buffer.get(1..PREFIX)?.get_u32();
    let length = PREFIX + usize::try_from(length).expect("it fits");
    (buffer.len() >= length).then(|| buffer.split_to(length).freeze())
}
