//! W3C's Trace Context as it stands in headers (`traceparent`, `tracestate`), levels 1 and 2.

use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// `version "-" trace-id "-" parent-id "-" flags`, as all of version 00 are.
const LENGTH: usize = 2 + 1 + 32 + 1 + 16 + 1 + 2;
/// In bytes; as much state as W3C asks everybody to pass on.
const LONGEST_STATE: usize = 512;

/// What the headers say that a call belongs to; an invalid context where they say nothing that can be read.
pub fn read(headers: &HeaderMap) -> SpanContext {
    let parent = headers
        .get(TRACEPARENT)
        .and_then(|value| parse(value.as_bytes()));
    let Some((trace, span, flags)) = parent else {
        return SpanContext::NONE;
    };
    SpanContext::new(trace, span, flags, true, state(headers))
}

/// Tells in the headers that a call belongs to `context`, in the place of what they said before.
pub fn write(context: &SpanContext, headers: &mut HeaderMap) {
    headers.insert(TRACEPARENT, parent(context));
    if *context.trace_state() == TraceState::NONE {
        return;
    }
    let state = HeaderValue::try_from(context.trace_state().header());
    if let Ok(mut state) = state {
        state.set_sensitive(true);
        headers.insert(TRACESTATE, state);
    }
}

/// Takes what the headers say away.
pub(crate) fn take(headers: &mut HeaderMap) -> SpanContext {
    let context = read(headers);
    headers.remove(TRACEPARENT);
    headers.remove(TRACESTATE);
    context
}

fn parse(text: &[u8]) -> Option<(TraceId, SpanId, TraceFlags)> {
    let (known, more) = text.split_at_checked(LENGTH)?;
    let [version] = hex(&known[..2])?;
    let goes_on = match version {
        0 => more.is_empty(),
        // Level 1, "Versioning of traceparent": what a later version adds comes after a dash.
        1..0xff => more.first().is_none_or(|byte| *byte == b'-'),
        0xff => false,
    };
    let dashed = [2, 35, 52].iter().all(|dash| known[*dash] == b'-');
    let trace = TraceId::from_bytes(hex(&known[3..35])?);
    let span = SpanId::from_bytes(hex(&known[36..52])?);
    let [flags] = hex(&known[53..])?;
    let is_valid = trace != TraceId::INVALID && span != SpanId::INVALID;
    (goes_on && dashed && is_valid).then(|| (trace, span, TraceFlags::new(flags)))
}

/// Lower case only, as W3C has it.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// What vendors have added, of one header or several; nothing where it cannot be read.
fn state(headers: &HeaderMap) -> TraceState {
    let mut lines = headers.get_all(TRACESTATE).iter();
    let Some(first) = lines.next() else {
        return TraceState::NONE;
    };
    let mut text = first.as_bytes().to_vec();
    for line in lines {
        text.push(b',');
        text.extend(line.as_bytes());
    }
    if text.len() > LONGEST_STATE {
        return TraceState::NONE;
    }
    let text = String::from_utf8(text).unwrap_or_default();
    TraceState::from_str(&text).unwrap_or_default()
}

fn parent(context: &SpanContext) -> HeaderValue {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&context.trace_id().to_bytes());
    bytes[16..24].copy_from_slice(&context.span_id().to_bytes());
    bytes[24] = context.trace_flags().to_u8();
    let digits = digits(&bytes);
    let digits = digits.as_flattened();
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    text[3..35].copy_from_slice(&digits[..32]);
    text[36..52].copy_from_slice(&digits[32..48]);
    text[53..].copy_from_slice(&digits[48..50]);
    let mut value = HeaderValue::from_bytes(&text).expect("hexadecimal digits and dashes");
    // Each call has another: HPACK is not to drop for it what all calls have in common.
    value.set_sensitive(true);
    value
}

/// The bytes in hexadecimal. All of them at once, one step after the other: that is how processors do the same to many.
fn digits(bytes: &[u8; 32]) -> [[u8; 2]; 32] {
    let digit = |four: u8| four + if four < 10 { b'0' } else { b'a' - 10 };
    let (mut high, mut low) = ([0; 32], [0; 32]);
    for at in 0..32 {
        high[at] = digit(bytes[at] >> 4);
        low[at] = digit(bytes[at] & 0xf);
    }
    let mut pairs = [[0; 2]; 32];
    for at in 0..32 {
        pairs[at] = [high[at], low[at]];
    }
    pairs
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use proptest::prelude::*;

    use super::{
        FromStr, HeaderValue, LONGEST_STATE, SpanContext, SpanId, TRACEPARENT, TRACESTATE,
        TraceFlags, TraceId, TraceState, read, take, write,
    };

    /// W3C's own example.
    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(parent: &str, states: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_str(parent).expect("a value"));
        for state in states {
            headers.append(TRACESTATE, HeaderValue::from_str(state).expect("a value"));
        }
        headers
    }

    #[test]
    fn what_is_read_is_written_the_same() {
        let sent = headers(EXAMPLE, &["rojo=1, congo=2", "x=3"]);
        let context = read(&sent);
        assert!(context.is_remote() && context.is_sampled());
        let mut written = HeaderMap::new();
        write(&context, &mut written);
        assert_eq!(written[TRACEPARENT], EXAMPLE);
        assert_eq!(written[TRACESTATE], "rojo=1,congo=2,x=3");
    }

    #[test]
    fn what_is_no_context_is_none() {
        let upper = EXAMPLE.to_uppercase();
        for parent in [
            "",
            "00",
            &EXAMPLE[..54],
            &format!("{EXAMPLE}-"),
            &format!("{EXAMPLE}0"),
            &EXAMPLE.replacen("00", "ff", 1),
            &EXAMPLE.replace('-', "_"),
            &EXAMPLE.replace('f', "g"),
            &upper,
            &EXAMPLE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &EXAMPLE.replace("00f067aa0ba902b7", &"0".repeat(16)),
        ] {
            assert!(!read(&headers(parent, &["a=1"])).is_valid(), "{parent}");
        }
        assert!(!read(&HeaderMap::new()).is_valid());
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = EXAMPLE.replacen("00", "cc", 1);
        for parent in [later.clone(), format!("{later}-what-is-to-come")] {
            assert!(read(&headers(&parent, &[])).is_sampled(), "{parent}");
        }
        assert!(!read(&headers(&format!("{later}more"), &[])).is_valid());
    }

    #[test]
    fn state_that_is_too_long_or_none_at_all_is_left_out_and_the_parent_stays() {
        let long = format!("a={}", "x".repeat(LONGEST_STATE));
        for state in [long.as_str(), "no state", "\u{e9}=1", ""] {
            let context = read(&headers(EXAMPLE, &[state]));
            assert!(context.is_valid());
            assert_eq!(*context.trace_state(), TraceState::NONE, "{state}");
        }
    }

    #[test]
    fn what_is_taken_is_there_no_more() {
        let mut sent = headers(EXAMPLE, &["a=1"]);
        assert!(take(&mut sent).is_valid());
        assert!(sent.is_empty());
        assert!(!take(&mut sent).is_valid());
    }

    proptest! {
        #[test]
        fn every_context_comes_back(trace in 1..u128::MAX, span in 1..u64::MAX, flags: u8) {
            let state = TraceState::from_str("a=1").expect("a state");
            let context = SpanContext::new(
                TraceId::from(trace), SpanId::from(span), TraceFlags::new(flags), true, state,
            );
            let mut headers = HeaderMap::new();
            write(&context, &mut headers);
            prop_assert_eq!(read(&headers), context);
        }

        #[test]
        fn rubbish_never_panics(parent: Vec<u8>, state: Vec<u8>) {
            let mut headers = HeaderMap::new();
            for (name, bytes) in [(TRACEPARENT, parent), (TRACESTATE, state)] {
                if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                    headers.insert(name, value);
                }
            }
            read(&headers);
        }
    }
}
