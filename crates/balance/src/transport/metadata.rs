//! How large the metadata of a call may be, counted as HTTP/2 does (RFC 9113, section 6.5.2).

use http::{HeaderMap, HeaderName, HeaderValue, Request};

use crate::status::{Code, Status};

/// What each field has beside its name and its value.
const OVERHEAD: usize = 32;
/// `:status` with its three digits.
const STATUS_LINE: usize = ":status".len() + 3 + OVERHEAD;

/// The size of one field, in bytes.
pub(crate) fn field(name: &HeaderName, value: &HeaderValue) -> usize {
    name.as_str().len() + value.len() + OVERHEAD
}

fn fields(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| field(name, value)).sum()
}

/// The size of a request's head, in bytes.
fn request(request: &Request<()>) -> usize {
    let uri = request.uri();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let pseudo = [
        (":method", request.method().as_str()),
        (":scheme", uri.scheme_str().unwrap_or_default()),
        (":authority", uri.authority().map_or("", |a| a.as_str())),
        (":path", path),
    ];
    let pseudo = pseudo.map(|(name, value)| name.len() + value.len() + OVERHEAD);
    pseudo.iter().sum::<usize>() + fields(request.headers())
}

/// Why a server that takes `limit` bytes cannot be sent that request.
pub(super) fn refuse_request(peer: &str, head: &Request<()>, limit: u32) -> Option<Status> {
    let size = request(head);
    is_above(size, limit).then(|| {
        let what = format!("the request's metadata has {size} bytes");
        refusal(peer, &what, limit, "the server")
    })
}

/// Why a channel that takes `limit` bytes refuses a response whose headers have `size` bytes.
pub(super) fn refuse_headers(peer: &str, size: usize, limit: u32) -> Option<Status> {
    let size = STATUS_LINE + size;
    is_above(size, limit).then(|| {
        let what = format!("the response's headers have {size} bytes");
        refusal(peer, &what, limit, "this channel")
    })
}

/// Why a channel that takes `limit` bytes refuses a response with those trailers.
pub(super) fn refuse_trailers(peer: &str, trailers: &HeaderMap, limit: u32) -> Option<Status> {
    // Nearly all have the status and nothing else.
    if trailers.len() <= 1 {
        return None;
    }
    let size = fields(trailers);
    is_above(size, limit).then(|| {
        let what = format!("the response's trailers have {size} bytes");
        refusal(peer, &what, limit, "this channel")
    })
}

fn is_above(size: usize, limit: u32) -> bool {
    u32::try_from(size).map_or(true, |size| size > limit)
}

fn refusal(peer: &str, what: &str, limit: u32, whose: &str) -> Status {
    let message = format!("{peer}: {what}, more than the {limit} that {whose} takes");
    Status::new(Code::ResourceExhausted, message)
}
