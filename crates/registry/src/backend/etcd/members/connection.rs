//! A connection to a member, as a request is given it.

use std::{fmt, time::Duration};

use etcd_client::{Client, ConnectOptions, ResponseHeader};
use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::{
    failure::{EtcdError, Failure},
    link::Link,
};
use crate::Address;

/// The longest that one request to one member takes.
pub(in super::super) const REQUEST: Duration = Duration::from_secs(3);

/// A connection to a member, made when it is first used.
#[derive(Clone)]
pub(in super::super) struct Connection {
    pub(in super::super) client: Client,
    pub(super) turn: usize,
    pub(super) member: Address,
    link: Link,
}

impl Connection {
    pub(super) async fn new(turn: usize, member: Address, link: Link) -> Result<Self, Failure> {
        let options = ConnectOptions::new().with_require_leader(true);
        let channel = etcd_client::Channel::Tonic(link.channel.clone());
        // Without credentials this waits for nothing.
        match Client::from_channel(channel, Some(options)).await {
            Ok(client) => Ok(Self {
                client,
                turn,
                member,
                link,
            }),
            Err(error) => Err(Failure::of_request(&member, error, None)),
        }
    }

    /// What a request on this connection gives, within [`REQUEST`].
    pub(in super::super) fn ask<'a, T: 'a>(
        &'a self,
        request: impl Future<Output = Result<T, etcd_client::Error>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Failure>> {
        self.within(REQUEST, request)
    }

    /// What a request on this connection gives, within `bound`. In a box: etcd-client's futures are some 16 KiB.
    pub(in super::super) fn within<'a, T: 'a>(
        &'a self,
        bound: Duration,
        request: impl Future<Output = Result<T, etcd_client::Error>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Failure>> {
        Box::pin(async move {
            match timeout(bound, request).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Err(self.failure(error)),
                Err(_) => Err(Failure::new(&self.member, EtcdError::TimedOut)),
            }
        })
    }

    /// The revision of the store that an answer tells.
    pub(in super::super) fn revision(
        &self,
        header: Option<&ResponseHeader>,
    ) -> Result<i64, Failure> {
        match header {
            Some(header) => Ok(header.revision()),
            None => Err(self.complaint("an answer has no header")),
        }
    }

    /// That a request on this connection failed.
    pub(in super::super) fn failure(&self, error: etcd_client::Error) -> Failure {
        Failure::of_request(&self.member, error, self.link.ended.get())
    }

    /// That this connection's member says that there is no such lease.
    pub(in super::super) fn lease_not_found(&self) -> Failure {
        Failure::lease_not_found(&self.member)
    }

    /// That this connection's member said something unexpected.
    pub(in super::super) fn complaint(&self, text: impl Into<String>) -> Failure {
        Failure::complaint(&self.member, text.into())
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}
