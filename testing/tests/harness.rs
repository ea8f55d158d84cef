//! The servers of others which tests start: they come up, fall, and come back.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tidings_testing::cassandra::{Cassandra, answers_cql};
use tidings_testing::nats::Nats;

/// A bare NATS client.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(url: &str) -> Client {
        let stream = TcpStream::connect(url.trim_start_matches("nats://")).unwrap();
        let timeout = Some(Duration::from_millis(200));
        stream.set_read_timeout(timeout).unwrap();
        let mut client = Client(BufReader::new(stream));
        client.say("CONNECT {\"verbose\":false}");
        client.say("PING");
        assert!(client.hears("PONG"));
        client
    }

    fn say(&mut self, line: &str) {
        write!(self.0.get_mut(), "{line}\r\n").unwrap();
    }

    /// Whether a line that begins like this comes before the server falls silent.
    fn hears(&mut self, start: &str) -> bool {
        let lines = self.0.by_ref().lines();
        lines
            .map_while(Result::ok)
            .any(|line| line.starts_with(start))
    }
}

/// Says something at one server until it is heard at another: interest travels between them in its own time.
fn check_route(from: &str, to: &str) {
    let mut publisher = Client::connect(from);
    let mut subscriber = Client::connect(to);
    subscriber.say("SUB greetings 1");
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        publisher.say("PUB greetings 5\r\nhello");
        if subscriber.hears("MSG greetings 1 5") {
            return;
        }
    }
    panic!("what {from} is told never comes to {to}");
}

#[test]
fn nats_servers_pass_messages_on_and_come_back() {
    let mut nats = Nats::start(3);
    let urls = nats.urls();
    check_route(&urls[0], &urls[1]);
    check_route(&urls[1], &urls[2]);
    nats.kill(1);
    check_route(&urls[2], &urls[0]);
    nats.restart(1);
    check_route(&urls[1], &urls[0]);
    check_route(&urls[2], &urls[1]);
}

/// Two tests share the node, whichever starts it: it outlives both threads.
#[test]
fn cassandra_answers() {
    for point in Cassandra::shared().contact_points() {
        assert!(answers_cql(&point).unwrap(), "{point}");
    }
}

#[test]
fn cassandra_answers_another_test() {
    cassandra_answers();
}

#[test]
#[ignore = "takes most of a minute: for whoever changes the harness"]
fn cassandra_has_three_nodes_and_they_come_back() {
    let said = |what: &str, began: Instant| println!("{what}: {:.1?}", began.elapsed());
    let began = Instant::now();
    let mut cassandra = Cassandra::start(3);
    said("three nodes", began);
    let normal = |cassandra: &Cassandra| {
        let status = cassandra.nodetool(0, &["status"]);
        status
            .lines()
            .filter(|line| line.starts_with("UN "))
            .count()
    };
    assert_eq!(normal(&cassandra), 3);

    let points = cassandra.contact_points();
    cassandra.kill(1);
    assert!(answers_cql(&points[1]).is_err());
    assert!(answers_cql(&points[0]).unwrap());
    let began = Instant::now();
    cassandra.restart(1);
    said("a killed node again", began);

    cassandra.freeze(2);
    assert!(answers_cql(&points[2]).is_err());
    cassandra.thaw(2);
    assert!(answers_cql(&points[2]).unwrap());

    let began = Instant::now();
    cassandra.stop(0);
    said("a stop in good order", began);
    // With another one away it does not wait for that.
    cassandra.kill(1);
    let began = Instant::now();
    cassandra.restart(0);
    said("a stopped node again, with one away", began);
    cassandra.restart(1);
    assert_eq!(normal(&cassandra), 3);
}
