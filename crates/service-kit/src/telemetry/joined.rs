//! Lines of the log that tell which trace they belong to.

use std::fmt::{self, Write as _};

use opentelemetry::{
    Context,
    trace::{SpanContext, TraceContextExt},
};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// A format, and how a line of it tells of a trace.
pub(super) struct Joined<F> {
    pub(super) format: F,
    pub(super) join: fn(&mut String, &SpanContext),
}

impl<S, N, F> FormatEvent<S, N> for Joined<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut to: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(span) = current() else {
            return self.format.format_event(context, to, event);
        };
        let mut line = String::new();
        let writer = Writer::new(&mut line);
        self.format.format_event(context, writer, event)?;
        (self.join)(&mut line, &span);
        to.write_str(&line)
    }
}

/// What is being done belongs to this; also where it is not sampled, so that the lines of all processes are found by it.
fn current() -> Option<SpanContext> {
    Context::map_current(|now| {
        let span = now.span();
        let context = span.span_context();
        context.is_valid().then(|| context.clone())
    })
}

/// At the end of a line of text, by the names that OpenTelemetry has for it ("Trace Context in non-OTLP Log Formats").
pub(super) fn in_text(line: &mut String, span: &SpanContext) {
    cut(line, "\n");
    let (trace, id, flags) = (span.trace_id(), span.span_id(), span.trace_flags());
    let written = writeln!(
        line,
        " trace_id={trace} span_id={id} trace_flags={flags:02x}"
    );
    written.expect("a String takes all");
}

/// The same as the last keys of an object.
pub(super) fn in_json(line: &mut String, span: &SpanContext) {
    cut(line, "}\n");
    let (trace, id, flags) = (span.trace_id(), span.span_id(), span.trace_flags());
    let written = writeln!(
        line,
        r#","trace_id":"{trace}","span_id":"{id}","trace_flags":"{flags:02x}"}}"#
    );
    written.expect("a String takes all");
}

fn cut(line: &mut String, end: &str) {
    let kept = line.strip_suffix(end).map_or(line.len(), str::len);
    line.truncate(kept);
}

#[cfg(test)]
mod tests {
    use opentelemetry::{
        SpanId, TraceId,
        trace::{SpanContext, TraceFlags, TraceState},
    };

    use super::{in_json, in_text};

    fn span() -> SpanContext {
        let (trace, span) = (TraceId::from(0xa), SpanId::from(0xb));
        SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE)
    }

    #[test]
    fn a_line_stays_one_line_and_an_object_one_object() {
        let mut text = "INFO served {}\n".to_owned();
        in_text(&mut text, &span());
        let ids =
            "trace_id=0000000000000000000000000000000a span_id=000000000000000b trace_flags=01";
        assert_eq!(text, format!("INFO served {{}} {ids}\n"));

        let mut json = "{\"message\":\"served\",\"call\":{\"name\":\"}\"}}\n".to_owned();
        in_json(&mut json, &span());
        let object: serde_json::Value = serde_json::from_str(&json).expect("an object");
        assert_eq!(object["call"]["name"], "}");
        assert_eq!(object["trace_id"], "0000000000000000000000000000000a");
        assert_eq!(object["span_id"], "000000000000000b");
        assert_eq!(object["trace_flags"], "01");
        assert!(json.ends_with("}\n"));
    }
}
