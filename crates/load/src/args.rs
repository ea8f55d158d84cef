//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use tidings_protocol::Encoding;

use crate::Error;

/// Plays many clients at once against a Tidings server and says how it did.
#[derive(Clone, Debug, Parser)]
#[command(name = "tidings-load", version, about)]
pub struct Args {
    /// What every scenario takes.
    #[command(flatten)]
    pub common: Common,
    /// What to play.
    #[command(subcommand)]
    pub command: Command,
}

/// What every scenario takes.
#[derive(Clone, Debug, ClapArgs)]
pub struct Common {
    /// A running server; or several of one cluster, separated by commas: sessions go to them in turn, so that the two
    /// of a pair are at different ones.
    #[arg(long, global = true, default_value = "http://127.0.0.1:8080", value_delimiter = ',', value_parser = parse_server)]
    pub server: Vec<SocketAddr>,
    /// The processes of those servers, separated by commas: their CPU time and memory are then reported too.
    #[arg(long, global = true, value_name = "PID", value_delimiter = ',')]
    pub server_pid: Vec<u32>,
    /// Start this `tidings` for the run, on free ports, with an empty data directory and wide limits.
    #[arg(long, global = true, value_name = "PROGRAM")]
    pub spawn: Option<PathBuf>,
    /// Where the started server keeps its data (a new directory in there, removed afterwards).
    #[arg(long, global = true, value_name = "DIRECTORY")]
    pub data_in: Option<PathBuf>,
    /// A setting of the started server, as `section.name=value`; repeatable.
    #[arg(long = "set", global = true, value_name = "SETTING", value_parser = parse_setting)]
    pub settings: Vec<(String, String)>,
    /// How frames are written.
    #[arg(long, global = true, value_enum, default_value = "short")]
    pub encoding: EncodingArg,
    /// Offer compression (`permessage-deflate`), and read messages that come compressed.
    #[arg(long, global = true)]
    pub compress: bool,
    /// Threads of the generator.
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// Connections that are opened at the same time.
    #[arg(long, global = true, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub opening_at_once: u32,
    /// Print one JSON object instead of a table.
    #[arg(long, global = true)]
    pub json: bool,
}

impl Common {
    /// Checks what belongs together. (Clap looks at what stands before and after the scenario apart.)
    ///
    /// # Errors
    /// Says what does not fit.
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |what: &str| Err(Error::Arguments(what.to_owned()));
        match &self.spawn {
            Some(_) if !self.server_pid.is_empty() => {
                refuse("--server-pid is for a server that runs already, --spawn starts one")
            }
            None if !self.settings.is_empty() => {
                refuse("--set is for a server that --spawn starts")
            }
            None if self.data_in.is_some() => {
                refuse("--data-in is for a server that --spawn starts")
            }
            _ => Ok(()),
        }
    }
}

/// How frames are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EncodingArg {
    /// Text.
    Json,
    /// Binary.
    Cbor,
    /// Binary, with short forms.
    Short,
}

impl From<EncodingArg> for Encoding {
    fn from(encoding: EncodingArg) -> Encoding {
        match encoding {
            EncodingArg::Json => Encoding::Json,
            EncodingArg::Cbor | EncodingArg::Short => Encoding::Cbor,
        }
    }
}

/// What to play.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Pairs of people who write to each other, with all ticks.
    Chat(ChatArgs),
    /// Sessions that do nothing but their heartbeat.
    Idle(IdleArgs),
    /// A group in which some write and all receive.
    Fanout(FanoutArgs),
    /// Devices that all come back at once to messages that wait for them.
    Offline(OfflineArgs),
}

/// `chat`.
#[derive(Clone, Debug, ClapArgs)]
pub struct ChatArgs {
    /// Pairs; each has two connections and, with one partner each, one direct conversation.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub pairs: u32,
    /// Instead of pairs: connections, two to a pair.
    #[arg(long, conflicts_with = "pairs", value_parser = clap::value_parser!(u32).range(2..))]
    pub connections: Option<u32>,
    /// Others that each connection writes to in turn, each in a conversation of its own; the number of pairs must be a
    /// multiple of it.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub partners: u32,
    /// How long to measure, in seconds.
    #[arg(long, default_value_t = 10.0, value_parser = parse_positive)]
    pub seconds: f64,
    /// How long to play before measuring, in seconds.
    #[arg(long, default_value_t = 2.0, value_parser = parse_not_negative)]
    pub warm_up_seconds: f64,
    /// When the next message is sent.
    #[arg(long, value_enum, default_value = "closed")]
    pub mode: Mode,
    /// Messages per second of all connections together (mode `open`).
    #[arg(long, default_value_t = 1_000.0, value_parser = parse_positive)]
    pub rate: f64,
    /// Messages that one connection may have under way (mode `closed`).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub pipeline: u32,
    /// What ends a message's way (mode `closed`).
    #[arg(long, value_enum, default_value = "sent")]
    pub until: Until,
    /// Which marks the recipients raise.
    #[arg(long, value_enum, default_value = "read")]
    pub acknowledge: Acknowledge,
    /// Size of a message's text in bytes.
    #[arg(long, default_value_t = 100, value_parser = parse_text_bytes)]
    pub text_bytes: usize,
}

impl ChatArgs {
    /// How many connections there are.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        let pairs = self
            .connections
            .map_or(self.pairs, |connections| connections / 2);
        2 * pairs as usize
    }

    /// How many groups of connections there are that have all their partners in their own.
    ///
    /// # Errors
    /// When the connections cannot be parted so.
    pub fn circle_count(&self) -> Result<usize, Error> {
        let (pairs, partners) = (self.connection_count() / 2, self.partners as usize);
        if !pairs.is_multiple_of(partners) {
            return Err(Error::Arguments(format!(
                "with {partners} partners each, the number of pairs is a multiple of {partners}, not {pairs}"
            )));
        }
        Ok(pairs / partners)
    }
}

/// When the next message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// When an earlier one has come to its end.
    Closed,
    /// At its appointed time, whatever became of the earlier ones; latencies count from that time.
    Open,
}

/// What ends a message's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Until {
    /// One tick: it is durable.
    Sent,
    /// Two ticks: the recipient has it.
    Delivered,
    /// Blue ticks: the recipient has read it.
    Read,
}

/// Which marks the recipients raise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Acknowledge {
    /// None.
    Nothing,
    /// Delivered.
    Delivered,
    /// Delivered and read, in one notice.
    Read,
}

/// `idle`.
#[derive(Clone, Debug, ClapArgs)]
pub struct IdleArgs {
    /// Sessions, each of a user of its own.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub sessions: u32,
    /// How long to watch them, in seconds.
    #[arg(long, default_value_t = 30.0, value_parser = parse_positive)]
    pub seconds: f64,
    /// The time between heartbeats to wish for, in milliseconds; the server decides.
    #[arg(long)]
    pub heartbeat_ms: Option<u64>,
}

/// `fanout`.
#[derive(Clone, Debug, ClapArgs)]
pub struct FanoutArgs {
    /// Members of the group, all online.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(2..))]
    pub members: u32,
    /// How many of them write.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub senders: u32,
    /// How long to measure, in seconds.
    #[arg(long, default_value_t = 10.0, value_parser = parse_positive)]
    pub seconds: f64,
    /// How long to play before measuring, in seconds.
    #[arg(long, default_value_t = 2.0, value_parser = parse_not_negative)]
    pub warm_up_seconds: f64,
    /// Messages that one sender may have under way.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub pipeline: u32,
    /// Members raise their marks this long after a message, for all that came meanwhile, in milliseconds.
    #[arg(long, default_value_t = 500)]
    pub acknowledge_after_ms: u64,
    /// Which marks the members raise.
    #[arg(long, value_enum, default_value = "read")]
    pub acknowledge: Acknowledge,
    /// Size of a message's text in bytes.
    #[arg(long, default_value_t = 100, value_parser = parse_text_bytes)]
    pub text_bytes: usize,
}

/// `offline`.
#[derive(Clone, Debug, ClapArgs)]
pub struct OfflineArgs {
    /// Devices that come back, each of a user of its own.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub devices: u32,
    /// Messages that wait for each.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub waiting: u32,
    /// Users who wrote them; each device has its messages from one of them.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub senders: u32,
    /// Messages to ask for at once; the server's own bound if absent.
    #[arg(long)]
    pub page: Option<u32>,
    /// Size of a message's text in bytes.
    #[arg(long, default_value_t = 100, value_parser = parse_text_bytes)]
    pub text_bytes: usize,
}

/// A number of seconds that was checked when the arguments were read.
#[must_use]
pub fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

fn parse_server(text: &str) -> Result<SocketAddr, String> {
    use std::net::ToSocketAddrs;

    if text.starts_with("https://") {
        return Err("TLS is not for measuring with: name the server behind the proxy".to_owned());
    }
    let host = text.strip_prefix("http://").unwrap_or(text);
    let host = host.strip_suffix('/').unwrap_or(host);
    let with_port = if host.rsplit(']').next().is_some_and(|end| end.contains(':')) {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    with_port
        .to_socket_addrs()
        .map_err(|error| error.to_string())?
        .next()
        .ok_or_else(|| "this name has no address".to_owned())
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if name.contains('.') => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected section.name=value".to_owned()),
    }
}

fn parse_text_bytes(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|_| "not a whole number".to_owned())?;
    if bytes < crate::letter::HEADER_BYTES {
        return Err(format!(
            "at least {}: a message carries its number and time",
            crate::letter::HEADER_BYTES
        ));
    }
    Ok(bytes)
}

fn parse_positive(text: &str) -> Result<f64, String> {
    parse_not_negative(text).and_then(|number| {
        (number > 0.0)
            .then_some(number)
            .ok_or_else(|| "must be above 0".to_owned())
    })
}

fn parse_not_negative(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    // A day is more than anybody waits, and keeps all arithmetic with times in bounds.
    (0.0..=1e9)
        .contains(&number)
        .then_some(number)
        .ok_or_else(|| "must be between 0 and a thousand million".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        Args::try_parse_from(std::iter::once("tidings-load").chain(line.split_whitespace()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn flags_may_stand_before_and_after_the_scenario() {
        for line in [
            "--json --encoding json chat --pairs 3",
            "chat --pairs 3 --json --encoding json",
        ] {
            let args = parse(line).unwrap();
            assert!(args.common.json);
            assert_eq!(args.common.encoding, EncodingArg::Json);
            let Command::Chat(chat) = args.command else {
                panic!("not a chat");
            };
            assert_eq!(chat.connection_count(), 6);
            assert_eq!(chat.mode, Mode::Closed);
        }
    }

    #[test]
    fn connections_come_in_pairs() {
        let Command::Chat(chat) = parse("chat --connections 1000").unwrap().command else {
            panic!("not a chat");
        };
        assert_eq!(chat.circle_count().unwrap(), 500);
        let circles = |line| match parse(line).unwrap().command {
            Command::Chat(chat) => chat.circle_count().ok(),
            _ => None,
        };
        assert_eq!(circles("chat --connections 1000 --partners 4"), Some(125));
        assert_eq!(circles("chat --connections 1000 --partners 3"), None);
        assert!(parse("chat --partners 0").is_err());
        assert!(parse("chat --connections 10 --pairs 5").is_err());
        assert!(parse("chat --connections 1").is_err());
    }

    #[test]
    fn servers_and_settings_are_read() {
        let args = parse("chat --server http://127.0.0.1:8123/").unwrap();
        assert_eq!(args.common.server[0].port(), 8123);
        assert_eq!(parse_server("127.0.0.1").unwrap().port(), 80);
        assert_eq!(parse_server("http://[::1]:9").unwrap().port(), 9);
        assert!(parse("chat --server https://example.org").is_err());
        let args = parse("--spawn tidings chat --set chat.trim_delay_ms=1").unwrap();
        assert!(args.common.check().is_ok());
        assert_eq!(
            args.common.settings,
            [("chat.trim_delay_ms".to_owned(), "1".to_owned())]
        );
    }

    #[test]
    fn what_belongs_to_a_started_server_needs_one() {
        for line in [
            "chat --set chat.trim_delay_ms=1",
            "--data-in /tmp chat",
            "--spawn tidings chat --server-pid 7",
        ] {
            assert!(parse(line).unwrap().common.check().is_err(), "{line}");
        }
        assert!(parse("chat --server-pid 7").unwrap().common.check().is_ok());
    }

    #[test]
    fn senseless_numbers_are_refused() {
        for line in [
            "chat --seconds 0",
            "chat --seconds -1",
            "chat --seconds nan",
            "chat --rate 0",
            "chat --text-bytes 3",
            "chat --pipeline 0",
            "fanout --members 1",
            "idle --sessions 0",
            "chat --threads 0",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
