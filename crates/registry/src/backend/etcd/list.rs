//! Reading many keys: in pages, all at the revision of the first.

use etcd_client::{GetOptions, KeyValue};

use super::members::{Connection, Failure};

/// How many keys one request reads: an answer has to fit into a message, and a member answers others in between.
const PAGE: i64 = 1_000;
/// Values are at most 1.5 MiB each; those of instances are a few hundred bytes.
const LARGEST_MESSAGE: usize = 64 * 1024 * 1024;

/// At which revision something was read, and how much there was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    pub(super) revision: i64,
    pub(super) count: i64,
}

/// Hands every key that begins with `prefix` to `each`, as of one revision: that of a linearizable read.
pub(super) async fn each_with_prefix(
    connection: &Connection,
    prefix: &str,
    keys_only: bool,
    mut each: impl FnMut(&KeyValue),
) -> Result<Read, Failure> {
    let (mut from, end) = range(prefix);
    let mut client = connection
        .client
        .kv_client()
        .max_decoding_message_size(LARGEST_MESSAGE);
    let mut read = None;
    let mut page = PAGE;
    loop {
        let mut options = GetOptions::new().with_range(end.clone()).with_limit(page);
        if keys_only {
            options = options.with_keys_only();
        }
        if let Some(Read { revision, .. }) = read {
            options = options.with_revision(revision);
        }
        let answer = match connection
            .ask(client.get(from.clone(), Some(options)))
            .await
        {
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
        match answer.kvs().last() {
            Some(last) if answer.more() => from = [last.key(), &[0]].concat(),
            _ => return Ok(read),
        }
    }
}

/// The number of keys that begin with `prefix`, and whether any of them was written after `revision`.
pub(super) async fn changed_after(
    connection: &Connection,
    prefix: &str,
    revision: i64,
) -> Result<(Read, bool), Failure> {
    let (from, end) = range(prefix);
    let options = GetOptions::new()
        .with_range(end)
        .with_min_mod_revision(revision + 1)
        .with_limit(1)
        .with_keys_only();
    let mut client = connection.client.clone();
    let answer = connection.ask(client.get(from, Some(options))).await?;
    let read = Read {
        revision: connection.revision(answer.header())?,
        count: answer.count(),
    };
    Ok((read, !answer.kvs().is_empty()))
}

/// The range of all keys that begin with `prefix`; every prefix but the empty one ends with a `/`.
pub(super) fn range(prefix: &str) -> (Vec<u8>, Vec<u8>) {
    match prefix.as_bytes().split_last() {
        None => (vec![0], vec![0]),
        Some((last, head)) => (prefix.into(), [head, &[last + 1]].concat()),
    }
}
