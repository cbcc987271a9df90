//! The keys of a service's instances, with their leases.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    members::{Connection, Failure},
    reader::{Event, Reader, Said},
    watch::Watched,
};
use crate::{Lease, Placement};

/// How many leases are asked about at a time.
const AT_A_TIME: usize = 16;

/// All places in all dialects, each under its lease as it is now.
pub(super) async fn placements(
    connection: &Connection,
    readers: &[Reader],
) -> Result<Vec<Placement>, Failure> {
    let (mut found, mut under) = (Vec::new(), BTreeMap::new());
    for reader in readers {
        let note = |kv: &etcd_client::KeyValue| {
            let key = String::from_utf8_lossy(kv.key()).into_owned();
            under.insert(key, kv.lease());
        };
        let (_, Said { events, .. }) = reader.list(connection, note).await?;
        let dialect = reader.dialect().name();
        for event in events {
            if let Event::Listed(all) = event {
                found.extend(
                    all.into_iter()
                        .map(|(key, instance)| (key, dialect, instance)),
                );
            }
        }
    }
    let mut ids: Vec<_> = under.values().copied().filter(|id| *id != 0).collect();
    ids.sort_unstable();
    ids.dedup();
    let asked: Vec<_> = ids.into_iter().map(|id| lease(connection, id)).collect();
    let leases = stream::iter(asked).buffered(AT_A_TIME);
    let leases: BTreeMap<i64, Lease> = leases.try_collect().await?;
    let placement = |(key, dialect, instance): (std::sync::Arc<str>, _, _)| Placement {
        lease: under.get(&*key).and_then(|id| leases.get(id)).copied(),
        dialect: Some(dialect),
        ..Placement::of(instance)
    };
    Ok(found.into_iter().map(placement).collect())
}

async fn lease(connection: &Connection, id: i64) -> Result<(i64, Lease), Failure> {
    let answer = connection.read(|client| {
        let mut leases = client.lease_client();
        async move { leases.time_to_live(id, None).await }
    });
    let answer = answer.await?;
    // A lease that is gone has -1 s left.
    let seconds = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let lease = Lease {
        id: id.cast_unsigned(),
        ttl: seconds(answer.granted_ttl()),
        remaining: seconds(answer.ttl()),
    };
    Ok((id, lease))
}
