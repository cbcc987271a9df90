//! Reading many keys: in pages, all at the revision of the first.

use std::time::Duration;

use etcd_client::{GetOptions, GetResponse, KeyValue};
use tokio::time::Instant;

use super::{
    keys::Root,
    members::{Connection, Failure},
};

/// How many keys one request reads: an answer has to fit into a message, and a member answers others in between.
const PAGE: i64 = 1_000;
/// Values are at most 1.5 MiB each; those of instances are a few hundred bytes.
const LARGEST_MESSAGE: usize = 64 * 1024 * 1024;
/// How long to go on asking one member for further pages.
pub(super) const BOUND: Duration = Duration::from_secs(20);

/// At which revision something was read, and how much there was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    pub(super) revision: i64,
    pub(super) count: i64,
}

/// The first key of a range, and what comes after its last.
pub(super) type Range = (Vec<u8>, Vec<u8>);

/// What to read.
#[derive(Debug, Clone, Copy)]
pub(super) enum What<'a> {
    /// Every key that begins with this, and its value.
    Prefix(&'a str),
    /// The keys of a range alone.
    Keys(&'a Range),
    /// The keys alone, of all services that have theirs there. Much of what belongs to something else is left out.
    ServiceKeys(&'a Root<'a>),
}

impl What<'_> {
    fn range(&self) -> Range {
        match self {
            Self::Prefix(prefix) => range(prefix),
            Self::Keys(range) => (*range).clone(),
            Self::ServiceKeys(root) => range(root.prefix()),
        }
    }

    fn has_values(&self) -> bool {
        matches!(self, Self::Prefix(_))
    }

    /// Where to read on after `key`.
    fn after(&self, key: &[u8]) -> Vec<u8> {
        match self {
            Self::Prefix(_) | Self::Keys(_) => [key, &[0]].concat(),
            Self::ServiceKeys(root) => root.after(key),
        }
    }
}

/// Hands every key-value that is wanted to `each`, as of one revision: that of a linearizable read. Fails when that takes
/// longer than `bound`.
pub(super) async fn for_each(
    connection: &Connection,
    what: What<'_>,
    bound: Duration,
    mut each: impl FnMut(&KeyValue),
) -> Result<Read, Failure> {
    let deadline = Instant::now() + bound;
    let (mut from, end) = what.range();
    let mut read = None;
    let mut page = PAGE;
    loop {
        let mut options = GetOptions::new().with_range(end.clone()).with_limit(page);
        if !what.has_values() {
            options = options.with_keys_only();
        }
        if let Some(Read { revision, .. }) = read {
            options = options.with_revision(revision);
        }
        let answer = match get(connection, &from, options).await {
            // Somebody keeps large values beside the instances: fewer of them at a time.
            Err(failure) if failure.is_too_large() && page > 1 => {
                page = (page / 10).max(1);
                continue;
            }
            answer => answer?,
        };
        let first = Read {
            revision: connection.revision(answer.header())?,
            count: answer.count(),
        };
        let read = *read.get_or_insert(first);
        answer.kvs().iter().for_each(&mut each);
        if !answer.more() {
            return Ok(read);
        }
        from = match answer.kvs().last() {
            Some(last) if last.key() >= from.as_slice() => what.after(last.key()),
            _ => return Err(connection.complaint("it says that there is more, and not where")),
        };
        if Instant::now() >= deadline {
            let first = what.range().0;
            let prefix = String::from_utf8_lossy(&first);
            return Err(connection.complaint(format!(
                "it has more keys that begin with {prefix:?} than can be read within {bound:?}"
            )));
        }
    }
}

/// How many keys there are in a range.
pub(super) async fn count(connection: &Connection, (from, end): Range) -> Result<Read, Failure> {
    let options = GetOptions::new().with_range(end).with_count_only();
    let answer = get(connection, &from, options).await?;
    Ok(Read {
        revision: connection.revision(answer.header())?,
        count: answer.count(),
    })
}

/// The number of keys in a range, and whether any of them was written after `revision`.
pub(super) async fn changed_after(
    connection: &Connection,
    (from, end): Range,
    revision: i64,
) -> Result<(Read, bool), Failure> {
    let options = GetOptions::new()
        .with_range(end)
        .with_min_mod_revision(revision.saturating_add(1))
        .with_limit(1)
        .with_keys_only();
    let answer = get(connection, &from, options).await?;
    let read = Read {
        revision: connection.revision(answer.header())?,
        count: answer.count(),
    };
    Ok((read, !answer.kvs().is_empty()))
}

async fn get(
    connection: &Connection,
    from: &[u8],
    options: GetOptions,
) -> Result<GetResponse, Failure> {
    let read = connection.read(|client| {
        let kv = client.kv_client();
        let mut kv = kv.max_decoding_message_size(LARGEST_MESSAGE);
        let (from, options) = (from.to_vec(), options.clone());
        async move { kv.get(from, Some(options)).await }
    });
    read.await.map_err(|failure| failure.about(from))
}

/// The range of all keys that begin with `prefix`, which is empty or ends with a `/`. One that ends otherwise is a key itself:
/// the range has it, all that go on after it with a `/`, and some that go on otherwise.
pub(super) fn range(prefix: &str) -> Range {
    if prefix.is_empty() {
        return (vec![0], vec![0]);
    }
    let head = prefix.strip_suffix('/').unwrap_or(prefix);
    (prefix.into(), [head.as_bytes(), &[b'/' + 1]].concat())
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use testkit::etcd::Cluster;

    use super::{BOUND, Duration, PAGE, What, for_each};
    use crate::{
        Address,
        backend::etcd::{keys::Keys, members::Members},
        dialect::Dialects,
    };

    #[tokio::test]
    async fn services_are_found_beside_what_is_none_and_a_reading_has_a_bound() {
        let cluster = Cluster::start_one().await.expect("an etcd");
        let endpoint = Address::new(&cluster.endpoints()[0]).expect("an address");
        let members = Members::new(vec![endpoint]);
        let connection = members.connection().await.expect("a connection");
        let others = (0..2 * PAGE).flat_map(|n| [format!("/registry/{n}"), format!("m/_own/{n}")]);
        let services = [".first/1", "m/1", "m/n/1", "m/z", "z/1"].map(String::from);
        let puts = others.chain(services).map(|key| {
            let mut client = connection.client.clone();
            async move { client.put(key, "a value", None).await }
        });
        assert!(join_all(puts).await.iter().all(Result::is_ok));
        let keys = Keys::new(None, Dialects::default());
        let root = &keys.roots()[0];
        let (mut services, mut handed) = (Vec::new(), 0);
        let read = for_each(&connection, What::ServiceKeys(root), BOUND, |kv| {
            services.extend(root.services_of(kv.key()).map(|name| name.to_string()));
            assert!(kv.value().is_empty(), "the keys alone are read");
            handed += 1;
        });
        read.await.expect("it is read");
        assert_eq!(services, [".first", "m", "m/n", "m", "z"]);
        assert!(handed < 3 * PAGE, "{handed} keys");

        let all = for_each(&connection, What::Prefix("m/"), Duration::ZERO, |_| ());
        let refused = all.await.expect_err("there is a second page").to_string();
        assert!(refused.contains("\"m/\""), "{refused}");
    }
}
