//! A step of a trace, and its form in OTLP's JSON (opentelemetry-proto 1.x, `trace/v1`).

use serde_json::{Value, json};
use tidings_core::ConversationId;
use tidings_core::log::Seq;

use super::context::{Context, hex};

/// A step that was done.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// `send`, `decide`, `commit`, `tell`, `forward`, `hear`.
    pub name: &'static str,
    /// Its own.
    pub context: Context,
    /// Of what it is a step; nothing if the trace begins with it.
    pub parent: Option<Context>,
    /// Whether somebody from outside asked for it.
    pub is_asked: bool,
    /// When it began, in nanoseconds since 1970 …
    pub from_ns: u64,
    /// … and ended.
    pub to_ns: u64,
    /// The entry that it is about, once there is one.
    pub entry: Option<(ConversationId, Seq)>,
}

/// OTLP's numbers for kinds of spans.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;

impl Span {
    /// The same, about an entry.
    #[must_use]
    pub fn about(self, conversation: ConversationId, seq: Seq) -> Span {
        Span {
            entry: Some((conversation, seq)),
            ..self
        }
    }

    fn json(&self) -> Value {
        let mut attributes = Vec::new();
        if let Some((conversation, seq)) = self.entry {
            attributes.push(text("tidings.conversation", &conversation.to_string()));
            let seq = json!({"intValue": seq.to_string()});
            attributes.push(json!({"key": "tidings.seq", "value": seq}));
        }
        let mut span = json!({
            "traceId": hex(&self.context.trace),
            "spanId": hex(&self.context.span),
            "name": self.name,
            "kind": if self.is_asked { SERVER } else { INTERNAL },
            "startTimeUnixNano": self.from_ns.to_string(),
            "endTimeUnixNano": self.to_ns.to_string(),
            "attributes": attributes,
        });
        if let Some(parent) = self.parent {
            span["parentSpanId"] = hex(&parent.span).into();
        }
        span
    }
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// Spans as an `ExportTraceServiceRequest` of the server called `node`.
pub(super) fn request(node: &str, spans: &[Span]) -> Value {
    let resource = [
        text("service.name", "tidings"),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", node),
    ];
    let spans: Vec<Value> = spans.iter().map(Span::json).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": {"name": "tidings"}, "spans": spans}],
    }]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_written_as_collectors_read_it() {
        let parent = Context::new([0xab; 16], [1; 8]);
        let span = Span {
            name: "commit",
            context: parent.child([2; 8]),
            parent: Some(parent),
            is_asked: false,
            from_ns: 1_800_000_000_000_000_001,
            to_ns: 1_800_000_000_000_000_002,
            entry: None,
        };
        let request = request("north-1", &[span.about(ConversationId([0; 16]), 7)]);
        let resource = &request["resourceSpans"][0];
        assert_eq!(
            resource["resource"]["attributes"][2]["value"]["stringValue"],
            "north-1"
        );
        let span = &resource["scopeSpans"][0]["spans"][0];
        assert_eq!(span["traceId"], "ab".repeat(16));
        assert_eq!(span["spanId"], "02".repeat(8));
        assert_eq!(span["parentSpanId"], "01".repeat(8));
        assert_eq!(span["kind"], 1);
        assert_eq!(
            span["startTimeUnixNano"], "1800000000000000001",
            "as text: it has more than 53 bits"
        );
        assert_eq!(span["attributes"][1]["value"]["intValue"], "7");
    }
}
