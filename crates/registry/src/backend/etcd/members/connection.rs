//! A connection to a member, as a request is given it.

use std::{fmt, sync::Arc, time::Duration};

use etcd_client::{Channel, Client, ConnectOptions, ResponseHeader};
use futures_util::future::BoxFuture;
use http::Request;
use tokio::time::timeout;
use tonic::body::Body;
use tower::{BoxError, ServiceExt as _, util::BoxCloneSyncService};

use super::{
    credentials::{Credentials, Token},
    error::EtcdError,
    failure::Failure,
    link::Link,
};
use crate::Address;

/// The longest that one request to one member takes.
pub(in super::super) const REQUEST: Duration = Duration::from_secs(3);
/// Where etcd looks for a token (its `rpctypes.TokenFieldNameGRPC`).
const TOKEN: &str = "token";

/// A connection to a member, made when it is first used.
#[derive(Clone)]
pub(in super::super) struct Connection {
    pub(in super::super) client: Client,
    pub(super) turn: usize,
    pub(super) member: Address,
    link: Link,
    pub(super) pass: Option<Pass>,
}

/// What etcd lets a user's requests in with.
#[derive(Clone)]
pub(super) struct Pass {
    pub(super) credentials: Arc<Credentials>,
    pub(super) token: Token,
}

impl Connection {
    pub(super) async fn new(
        turn: usize,
        member: Address,
        link: Link,
        pass: Option<Pass>,
    ) -> Result<Self, Failure> {
        let token = pass.as_ref().and_then(|pass| pass.token.value.clone());
        let channel = match token {
            None => Channel::Tonic(link.channel.clone()),
            Some(token) => {
                let with_token = move |mut request: Request<Body>| {
                    request.headers_mut().insert(TOKEN, token.clone());
                    request
                };
                let channel = link.channel.clone().map_request(with_token);
                Channel::Custom(BoxCloneSyncService::new(channel.map_err(BoxError::from)))
            }
        };
        Ok(Self {
            client: client(&member, channel).await?,
            turn,
            member,
            link,
            pass,
        })
    }

    /// For what a member tells anybody about itself, whether or not it knows a leader: without a token, which only a cluster with a
    /// leader gives.
    pub(super) async fn with_member_alone(member: Address, link: Link) -> Result<Self, Failure> {
        let channel = Channel::Tonic(link.channel.clone());
        Ok(Self {
            client: over(&member, channel, ConnectOptions::new()).await?,
            turn: usize::MAX,
            member,
            link,
            pass: None,
        })
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
                Ok(Ok(answer)) => {
                    self.link.note_answer();
                    Ok(answer)
                }
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
        self.failed(EtcdError::of_request(error, Some(&self.link), self.user()))
    }

    /// That this connection's member cancelled a watch.
    pub(in super::super) fn cancelled(&self, reason: &str) -> Failure {
        match EtcdError::of_refusal(reason, self.user()) {
            Some(refusal) => {
                // etcd 3.4 says the same of a watch whose token it does not know.
                if let (EtcdError::PermissionDenied { .. }, Some(pass)) = (&refusal, &self.pass) {
                    pass.credentials.doubt(&pass.token);
                }
                self.failed(refusal)
            }
            None => self.complaint(format!("it cancelled the watch: {reason}")),
        }
    }

    fn failed(&self, cause: EtcdError) -> Failure {
        if let (EtcdError::TokenRefused { .. }, Some(pass)) = (&cause, &self.pass) {
            pass.credentials.refuse(&pass.token);
        }
        Failure::new(&self.member, cause)
    }

    fn user(&self) -> Option<&str> {
        self.pass.as_ref().map(|pass| pass.credentials.user())
    }

    /// The same connection with the token that is good by now: for what goes on for longer than a token.
    pub(in super::super) async fn renewed(&self) -> Result<Self, Failure> {
        let Some(pass) = self.pass.as_ref().filter(|_| self.has_lost_its_token()) else {
            return Ok(self.clone());
        };
        let credentials = Arc::clone(&pass.credentials);
        let token = credentials.token(&self.member, &self.link).await?;
        let pass = Some(Pass { credentials, token });
        Self::new(self.turn, self.member.clone(), self.link.clone(), pass).await
    }

    /// What a read on this connection gives, within [`REQUEST`]; done again when etcd did not know the token any more.
    pub(in super::super) fn read<'a, T, F>(
        &'a self,
        read: impl Fn(Client) -> F + Send + Sync + 'a,
    ) -> BoxFuture<'a, Result<T, Failure>>
    where
        T: Send + 'a,
        F: Future<Output = Result<T, etcd_client::Error>> + Send + 'a,
    {
        Box::pin(async move {
            let connection = self.renewed().await?;
            match connection.ask(read(connection.client.clone())).await {
                Err(failure) if failure.is_token_refused() => {
                    let connection = connection.renewed().await?;
                    connection.ask(read(connection.client.clone())).await
                }
                result => result,
            }
        })
    }

    /// Whether the token that its requests have was refused, or doubted.
    pub(super) fn has_lost_its_token(&self) -> bool {
        let holds = |pass: &Pass| pass.credentials.holds(&pass.token);
        !self.pass.as_ref().is_none_or(holds)
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

/// etcd-client over `channel`, for what a member without a leader is to refuse at once; without credentials of its own it waits for
/// nothing.
pub(super) async fn client(member: &Address, channel: Channel) -> Result<Client, Failure> {
    let options = ConnectOptions::new().with_require_leader(true);
    over(member, channel, options).await
}

async fn over(
    member: &Address,
    channel: Channel,
    options: ConnectOptions,
) -> Result<Client, Failure> {
    let client = Client::from_channel(channel, Some(options)).await;
    client.map_err(|error| Failure::new(member, EtcdError::of_request(error, None, None)))
}
