//! Writes or reads one short frame many times over, for a counter of instructions (`valgrind --tool=callgrind`): what a
//! frame costs is the difference of two counts, divided by the difference of the times.
//!
//! `short_frames write:said 2000`; without arguments it says what there is.

use std::error::Error;
use std::hint::black_box;

use tidings_core::ClientId;
use tidings_protocol::Encoding;
use tidings_protocol::short::{
    Handle, Message, Messages, Said, Say, Seen, ShortStep, ShortTime, Steps,
};
use tidings_protocol::{ClientFrame, ServerFrame};

fn requests() -> [(&'static str, ClientFrame); 2] {
    let say = Say {
        id: 41,
        conversation: Handle(0x9c41_77f0),
        client_id: ClientId(0x0198_c5a1_77f0_7c3e_9b1d_2f60_4a8e_d3b7_u128.to_be_bytes()),
        after: 41_206,
        text: "a".repeat(100),
        reply_to: None,
        first: true,
    };
    let seen = Seen {
        id: None,
        conversation: Handle(0x9c41_77f0),
        delivered: Some(41_207),
        read: Some(41_207),
        tell: false,
    };
    [
        ("say", ClientFrame::Say(say)),
        ("seen", ClientFrame::Seen(seen)),
    ]
}

fn events() -> [(&'static str, ServerFrame); 3] {
    let at = ShortTime(0xa1b2_c3d4);
    let said = Said {
        id: 41,
        seq: 41_207,
        at,
        ordinal: Some(41_100),
    };
    let messages = Messages {
        conversation: Handle(0x9c41_77f0),
        from: 41_207,
        ordinal: 41_100,
        messages: vec![Message {
            author: Some(Handle(0x1234_5678)),
            at,
            text: "a".repeat(100),
            reply_to: None,
            user: None,
        }],
    };
    let steps = Steps {
        conversation: Handle(0x9c41_77f0),
        steps: vec![ShortStep {
            user: Handle(0x1234_5678),
            at,
            delivered: Some(41_207),
            shown: Some(41_207),
        }],
    };
    [
        ("said", ServerFrame::Said(said)),
        ("messages", ServerFrame::Messages(messages)),
        ("steps", ServerFrame::Steps(steps)),
    ]
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (what, times) = match arguments.as_slice() {
        [what, times] => (what.as_str(), times.parse()?),
        _ => ("", 0),
    };
    let mut known = Vec::new();
    let mut repeat = |name: String, call: &dyn Fn()| {
        if name == what {
            (0..times).for_each(|_| call());
        }
        known.push(name);
    };
    for (name, frame) in events() {
        let bytes = Encoding::Cbor.encode_event(&frame)?;
        repeat(format!("write:{name}"), &|| {
            drop(black_box(Encoding::Cbor.encode_event(black_box(&frame))));
        });
        repeat(format!("read:{name}"), &|| {
            drop(black_box(Encoding::Cbor.decode_event(black_box(&bytes))));
        });
    }
    for (name, frame) in requests() {
        let bytes = Encoding::Cbor.encode_request(&frame)?;
        repeat(format!("write:{name}"), &|| {
            drop(black_box(Encoding::Cbor.encode_request(black_box(&frame))));
        });
        repeat(format!("read:{name}"), &|| {
            drop(black_box(Encoding::Cbor.decode_request(black_box(&bytes))));
        });
    }
    if !known.iter().any(|name| name == what) {
        println!(
            "short_frames WHAT TIMES, where WHAT is one of {}",
            known.join(", ")
        );
    }
    Ok(())
}
