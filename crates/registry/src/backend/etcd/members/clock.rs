//! How far a member's clock is from ours, by what it says at its page.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{
    Request, Version,
    header::{DATE, HOST},
};
use hyper::client::conn::http1;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{REQUEST, dial::Dial, tls::Tls};
use crate::{Address, one_line};

/// How far the member's clock is at least from ours, or why that cannot be told; it answers within the bounds of a request.
///
/// The date of its version's page (RFC 9110, section 6.6.1), which everybody may read. etcd's gRPC has none where there is no TLS.
pub(super) async fn apart(member: &Address, tls: Option<&Arc<Tls>>) -> Result<Duration, String> {
    let told = timeout(REQUEST, ask(member, tls)).await;
    told.unwrap_or_else(|_| Err(format!("it has not told the time in {REQUEST:?}")))
}

async fn ask(member: &Address, tls: Option<&Arc<Tls>>) -> Result<Duration, String> {
    let socket = Dial::new(member, tls, Version::HTTP_11).connect().await;
    let socket = socket.map_err(|error| one_line(&error))?;
    let connected = http1::handshake(socket).await;
    let (mut sender, connection) = connected.map_err(|error| one_line(&error))?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = Request::get("/version")
        .header(HOST, member.as_str())
        .body(String::new())
        .map_err(|error| one_line(&error))?;
    let before = SystemTime::now();
    let answer = sender.send_request(request).await;
    let after = SystemTime::now();
    let answer = answer.map_err(|error| one_line(&error))?;
    let date = answer
        .headers()
        .get(DATE)
        .ok_or("its answer has no date")?
        .to_str()
        .map_err(|error| one_line(&error))?;
    let theirs = httpdate::parse_http_date(date).map_err(|error| one_line(&error))?;
    Ok(distance(theirs, before, after))
}

/// By how much a time in whole seconds is before or after ours, which has gone on while it was asked for.
fn distance(theirs: SystemTime, before: SystemTime, after: SystemTime) -> Duration {
    let behind = before.duration_since(theirs + Duration::from_secs(1));
    behind
        .or_else(|_| theirs.duration_since(after))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_whole_seconds_is_any_of_the_second_that_it_names() {
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let asked = (at(10_900), at(11_200));
        for (theirs, apart) in [
            (10_000, 0),
            (11_000, 0),
            (9_000, 900),
            (12_000, 800),
            (7_000, 2_900),
            (3_611_000, 3_599_800),
        ] {
            let distance = distance(at(theirs), asked.0, asked.1);
            assert_eq!(distance, Duration::from_millis(apart), "{theirs}");
        }
    }
}
