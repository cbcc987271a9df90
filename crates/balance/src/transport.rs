//! One HTTP/2 connection, driven directly: connecting, streams, bodies under flow control both ways, deadlines.

mod connect;
mod connection;
mod deadline;
mod deadlines;
mod held;
mod io;
mod keep_alive;
mod message_limit;
pub(crate) mod metadata;
mod receiving;
mod request_body;
mod response_body;
pub(crate) mod rpc;
mod stream;
mod timeout;
#[cfg(feature = "tls")]
mod tls;

pub(crate) use connect::{ConnectFailed, ConnectOptions, connect};
pub(crate) use connection::{Availability, Connection};
pub(crate) use deadline::{Deadline, Timers};
pub(crate) use held::Held;
pub use keep_alive::KeepAlive;
pub(crate) use message_limit::MessageLimit;
pub(crate) use receiving::{Messages, Next, Receiving};
use request_body::Upload;
pub(crate) use request_body::{REPLAY_BUFFER, RequestBody};
pub(crate) use response_body::Answering;
pub use response_body::ResponseBody;
pub(crate) use stream::{NotOpened, Stream};
pub use timeout::timeout_of;
pub(crate) use timeout::{GRPC_TIMEOUT, Timeout};
#[cfg(feature = "tls")]
pub use tls::{ClientTls, InvalidTls};
