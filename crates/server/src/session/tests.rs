use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::task::Wake;

use super::*;

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Transport {
    session: Session,
    woken: Arc<Woken>,
}

impl Transport {
    fn new() -> Transport {
        let caller = Caller {
            user: UserId([1; 16]),
            device: DeviceId([2; 16]),
        };
        let limits = QueueLimits {
            frames_max: 100,
            bytes_max: 1_000,
        };
        Transport {
            session: Session::new(1, caller, Encoding::Json.into(), limits),
            woken: Arc::default(),
        }
    }

    fn waits(&self) -> bool {
        let waker = Waker::from(self.woken.clone());
        let mut context = Context::from_waker(&waker);
        self.session.poll_wait(&mut context).is_pending()
    }

    fn woken(&self) -> u32 {
        self.woken.0.swap(0, Ordering::Relaxed)
    }

    fn drain(&self, bytes_max: usize) -> (Drained, usize) {
        let mut frames = VecDeque::new();
        (self.session.drain(&mut frames, bytes_max), frames.len())
    }
}

#[test]
fn a_transport_is_woken_for_what_waits_and_not_for_what_it_has_taken() {
    let transport = Transport::new();
    assert!(transport.waits());
    transport.session.push_bytes(Bytes::from_static(b"one"));
    transport.session.push_bytes(Bytes::from_static(b"two"));
    assert_eq!(transport.woken(), 1);
    assert_eq!(transport.drain(100), (Drained::Frames, 2));
    assert!(transport.waits(), "it has taken both");

    for frame in [&b"long"[..], b"longer", b"longest"] {
        transport.session.push_bytes(Bytes::from_static(frame));
    }
    assert_eq!(transport.woken(), 1);
    assert!(!transport.waits());
    assert_eq!(transport.drain(5), (Drained::Frames, 2));
    assert!(!transport.waits(), "something is left");
    assert_eq!(transport.drain(5), (Drained::Frames, 1));
    assert!(transport.waits());
}

#[test]
fn an_end_is_told_after_what_waits() {
    for bytes_max in [100, 1] {
        let transport = Transport::new();
        transport.session.push_bytes(Bytes::from_static(b"one"));
        transport.session.close(Code::Draining);
        assert_eq!(transport.drain(bytes_max), (Drained::Frames, 1));
        assert!(!transport.waits());
        let end = Drained::Closed(Code::Draining);
        assert_eq!(transport.drain(bytes_max), (end, 0));
    }
}

#[test]
fn who_waits_for_an_answer_to_a_send_is_woken_by_it() {
    let transport = Transport::new();
    let session = &transport.session;
    session.send_taken();
    session.send_taken();
    assert!(session.may_take_send(3));
    session.send_settled();
    assert!(transport.waits());
    assert_eq!(transport.woken(), 0, "nobody waited for that");
    session.send_taken();
    assert!(!session.may_take_send(2));
    assert!(transport.waits());
    session.send_settled();
    assert_eq!(transport.woken(), 1);
    assert!(session.may_take_send(2));
    assert!(!transport.waits());
    session.send_settled();
    assert_eq!(transport.woken(), 0);
}
