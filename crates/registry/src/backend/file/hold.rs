//! An owner's hold on its file.

use std::{ffi::OsString, io, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{select, time::sleep};

use super::{
    Shared, blocking,
    directory::Directory,
    layout,
    notify::Mailbox,
    place::{Place, Refused, clean},
    subscription::Subscription,
};
use crate::{
    Claim, Hold, HoldRequest, Instance, InstanceId, Loss, Revision, ServiceName, StoreError,
};

pub(super) struct FileHold {
    directory: Arc<Directory>,
    service: ServiceName,
    id: InstanceId,
    place: Arc<Place>,
    mailbox: Arc<Mailbox>,
    subscription: Subscription,
    loss: Option<Loss>,
}

impl FileHold {
    pub(super) async fn take(
        shared: &Shared,
        HoldRequest {
            instance, claim, ..
        }: HoldRequest,
    ) -> Result<Self, StoreError> {
        let (service, id) = (instance.service.clone(), instance.id.clone());
        let directory = shared.owned_directory(&service);
        match Self::try_take(shared, &directory, instance, claim).await {
            Ok(hold) => Ok(hold),
            Err(Refused::Held(holder)) => Err(StoreError::Superseded {
                service,
                id,
                holder,
            }),
            Err(Refused::Failed(error)) => Err(StoreError::HoldFailed {
                service,
                id,
                source: directory.not_written(error).into(),
            }),
        }
    }

    async fn try_take(
        shared: &Shared,
        directory: &Arc<Directory>,
        instance: Instance,
        claim: Claim,
    ) -> Result<Self, Refused> {
        let (service, id) = (instance.service.clone(), instance.id.clone());
        let name = OsString::from(layout::record_name(&id));
        let mailbox = Arc::new(Mailbox::new(Some(name)));
        let mut subscription = shared.subscription(&mailbox);
        let undecodable = shared.undecodable.clone();

        let lock = directory.lock().await?;
        let ours = Arc::clone(directory);
        let (place, subscription) = blocking(move || {
            if ours.must_be_cleaned() {
                clean(&lock, &ours, &instance.service, &undecodable);
            }
            let path = ours.path().to_owned();
            let place = Place::take(&lock, ours, &instance, claim, undecodable);
            subscription.follow(&path);
            Ok((place, subscription))
        })
        .await?;
        Ok(Self {
            directory: Arc::clone(directory),
            service,
            id,
            place: Arc::new(place?),
            mailbox,
            subscription,
            loss: None,
        })
    }

    async fn wait_for_loss(&mut self) -> Loss {
        loop {
            if let Some(loss) = self.loss.clone().or_else(|| self.place.loss()) {
                self.loss = Some(loss.clone());
                return loss;
            }
            select! {
                _ = self.mailbox.receive() => {}
                () = sleep(self.subscription.period()) => {
                    self.subscription.follow(self.directory.path());
                }
            }
        }
    }

    async fn replace(&mut self, instance: Instance) -> io::Result<()> {
        let lock = self.directory.lock().await?;
        let place = Arc::clone(&self.place);
        blocking(move || place.replace(&lock, &instance)).await
    }

    async fn give_up(&self) -> io::Result<()> {
        let lock = self.directory.lock().await?;
        let place = Arc::clone(&self.place);
        blocking(move || place.release(&lock)).await
    }

    fn key(&self) -> (ServiceName, InstanceId) {
        (self.service.clone(), self.id.clone())
    }
}

impl Hold for FileHold {
    fn lost(&mut self) -> BoxFuture<'_, Loss> {
        self.wait_for_loss().boxed()
    }

    /// Revisions are this process's own count here, and a lock tells who lives: nothing is to be compared.
    fn written(&self) -> Revision {
        Revision::default()
    }

    fn update(&mut self, instance: Instance) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let (service, id) = self.key();
            let directory = Arc::clone(&self.directory);
            let replaced = self.replace(instance).await;
            replaced.map_err(|error| StoreError::UpdateFailed {
                service,
                id,
                source: directory.not_written(error).into(),
            })
        }
        .boxed()
    }

    fn release(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        async move {
            let (service, id) = self.key();
            let directory = Arc::clone(&self.directory);
            let given_up = self.give_up().await;
            given_up.map_err(|error| StoreError::ReleaseFailed {
                service,
                id,
                source: directory.not_written(error).into(),
            })
        }
        .boxed()
    }
}
