//! The sections: each setting once, with its meaning and its default.

use serde::{Deserialize, Serialize};
use tidings_core::conversation::Limits;
use tidings_protocol::entry::Retention;

use super::{FieldFacts, Section};
use crate::session::QueueLimits;

/// A hundred years: what is meant as `never` fits, and no sum overflows.
const DAYS_MAX: u64 = 36_500;
const DAY_S: u64 = 24 * 60 * 60;
const DAY_MS: u64 = DAY_S * 1_000;
const HOUR_MS: u64 = 60 * 60 * 1_000;
const MIB: u64 = 1_048_576;
/// Things that are kept in memory.
const KEPT_MAX: u64 = 100_000_000;

/// A section: meaning, name, type, for numbers the least and the most that make sense, default.
macro_rules! section {
    ($(#[doc = $about:literal])+ $section:ident {
        $($(#[doc = $doc:literal])+ $field:ident: $type:ty $([$range:expr])? = $default:expr,)*
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $section {
            $($(#[doc = $doc])+ pub $field: $type,)*
        }

        impl Default for $section {
            fn default() -> Self {
                $section { $($field: $default,)* }
            }
        }

        impl Section for $section {
            const DOC: &'static [&'static str] = &[$($about),+];
            const FIELDS: &'static [FieldFacts] = &[$(FieldFacts {
                name: stringify!($field),
                doc: &[$($doc),+],
                range: section!(@range $($range)?),
            }),*];
        }
    };
    (@range) => { None };
    (@range $range:expr) => { Some($range) };
}

section! {
    /// Where the server listens and keeps its data.
    ServerSettings {
        /// Address and port for clients. Only this machine by default: put a TLS proxy in front before
        /// you listen to the world.
        listen: String = "127.0.0.1:8080".to_owned(),
        /// Address and port for metrics and health. Empty: none.
        metrics_listen: String = "127.0.0.1:9464".to_owned(),
        /// The data directory.
        data: String = "data".to_owned(),
        /// The address under which clients reach the server (`https://chat.example.org`): told at login,
        /// and the origin from which cookies are taken. Empty: that of the request.
        public_url: String = String::new(),
        /// How many proxies in front of the server each add the address they were asked from to
        /// `X-Forwarded-For`. 0: none, the header is ignored.
        proxies_in_front: usize [0..=16] = 0,
        /// How long shutting down may take, in milliseconds.
        drain_ms_max: u64 [0..=HOUR_MS] = 10_000,
    }
}

section! {
    /// What the server logs (never the content of messages).
    LogSettings {
        /// `human` or `json`.
        format: LogFormat = LogFormat::Human,
        /// Which events: a level, or levels by module (`info,tidings_server=debug`).
        filter: String = "info,fjall=warn,lsm_tree=warn,scylla=error,async_nats=warn".to_owned(),
    }
}

section! {
    /// Traces of single messages, told to a collector of OpenTelemetry.
    TelemetrySettings {
        /// Where the collector takes OTLP over HTTP (`http://127.0.0.1:4318`). Empty: nothing is traced.
        otlp_url: String = String::new(),
        /// The share of messages that is traced without being asked for, from 0 to 1. A client asks for one by
        /// the header `traceparent` when it sends over HTTP.
        sample_ratio: f64 = 0.0,
    }
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// A line for people.
    Human,
    /// A JSON object a line.
    Json,
}

section! {
    /// The store: in the data directory (`embedded`), or a cluster's (`cassandra`, which several servers share).
    StoreSettings {
        /// `embedded` or `cassandra`. What follows is of the embedded one.
        kind: StoreKind = StoreKind::Embedded,
        /// Memory for what was read from the disk, in bytes.
        cache_bytes: u64 [MIB..=1_048_576 * MIB] = 64 * 1024 * 1024,
        /// Within this time after an erasure or a trim the bytes are gone from every file, in seconds.
        erase_within_s: u64 [1..=365 * DAY_S] = 3_600,
        /// How long envelopes and client ids are kept after their bodies went, in days.
        keep_envelopes_days: u64 [1..=DAYS_MAX] = 30,
        /// A file of bodies that has grown to this takes no more, in bytes.
        body_file_bytes_max: u64 [MIB..=65_536 * MIB] = 256 * 1024 * 1024,
        /// Requests that share one commit.
        commit_requests_max: usize [1..=65_536] = 1_024,
        /// Requests that wait for a commit.
        queue_requests_max: usize [1..=1_000_000] = 4_096,
        /// Watermarks reach the disk at most this long after they were raised, in milliseconds.
        late_within_ms: u64 [1..=10_000] = 100,
        /// Threads for reads that may wait for the disk.
        read_threads: usize [1..=256] = 4,
    }
}

/// Where everything is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// In the data directory.
    Embedded,
    /// In Apache Cassandra or ScyllaDB.
    Cassandra,
}

section! {
    /// Apache Cassandra or ScyllaDB, for `store.kind = "cassandra"`.
    CassandraSettings {
        /// `host:port` of some nodes, with commas between them; the others are learned from these.
        contact_points: String = "127.0.0.1:9042".to_owned(),
        /// The keyspace that holds everything. `tidings migrate` makes it.
        keyspace: String = "tidings".to_owned(),
        /// Who logs in. Empty: nobody, the nodes do not ask.
        user: String = String::new(),
        /// Its password.
        password: String = String::new(),
        /// The data centre whose nodes are asked first. Empty: any.
        data_centre: String = String::new(),
        /// How many copies are kept, when `tidings migrate` makes the keyspace: a number, or one for each data
        /// centre (`north:3,south:3`).
        replication: String = "3".to_owned(),
        /// How long one try of a request may take, in milliseconds.
        request_timeout_ms: u64 [50..=60_000] = 1_000,
        /// For how long a request is tried again, in milliseconds.
        patience_ms: u64 [100..=600_000] = 8_000,
    }
}

section! {
    /// NATS, by which the servers of a cluster tell each other what happens.
    NatsSettings {
        /// Its servers (`nats://host:4222`), with commas between them. Empty: none; then each server looks at the
        /// store all the time, which is slower and costs more.
        urls: String = String::new(),
        /// Who logs in. Empty: nobody.
        user: String = String::new(),
        /// Its password.
        password: String = String::new(),
        /// A token, instead of a user.
        token: String = String::new(),
    }
}

section! {
    /// This server among those that share a store.
    ClusterSettings {
        /// The cluster's name: servers of another name on the same NATS are others.
        name: String = "tidings".to_owned(),
        /// What this server does, with commas between: `gateway` (clients connect to it), `chat` (conversations are
        /// decided at it). One that does not decide hands over what comes to it.
        roles: String = "gateway,chat".to_owned(),
        /// This server's name in logs. It has another id at each start.
        node: String = "tidings".to_owned(),
        /// Where it stands: clients are sent to servers of the region that they log in to first.
        region: String = String::new(),
        /// The address under which clients reach this very server, told at login. Empty: they reach it by
        /// `server.public_url` alone.
        address: String = String::new(),
        /// Sessions that it is made for: its load is measured by it.
        sessions_max: u64 [1..=100_000_000] = 100_000,
        /// Sessions that are handed over in a second when it shuts down, in percent.
        drain_percent_per_s: u64 [1..=100] = 5,
        /// Who takes the sends of a conversation: one server (`one`), or whichever has the sender (`everybody`),
        /// which is as right and slower.
        affinity: Affinity = Affinity::One,
    }
}

impl ClusterSettings {
    /// The roles that there are.
    pub const ROLES: [&'static str; 2] = ["gateway", "chat"];

    /// Whether this server has a role.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.split(',').any(|of| of.trim() == role)
    }
}

/// Who takes the sends of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Affinity {
    /// One server, as long as it lives.
    One,
    /// Every server those that come to it.
    Everybody,
}

section! {
    /// Bounds on what is asked of the server.
    LimitsSettings {
        /// Bytes of one frame or request body.
        frame_bytes_max: usize [1_024..=64 * MIB] = 655_360,
        /// Requests and frames of one user each second, on average (0: no limit) …
        user_requests_per_s: u32 [0..=1_000_000] = 200,
        /// … and how many at once.
        user_requests_burst_max: u32 [1..=10_000_000] = 1_000,
        /// Requests and frames of one address (for IPv6 one /64) each second, on average (0: no limit) …
        address_requests_per_s: u32 [0..=1_000_000] = 5_000,
        /// … and how many at once.
        address_requests_burst_max: u32 [1..=10_000_000] = 20_000,
        /// Users and addresses whose requests are counted one by one; those beyond share one count.
        rates_remembered_max: usize [1..=KEPT_MAX] = 131_072,
        /// Devices of which it is remembered that a send was refused for now.
        refused_devices_max: usize [1..=KEPT_MAX] = 65_536,
        /// Frames that cannot be read in one minute; with one more the connection is closed.
        bad_frames_per_minute_max: u32 [0..=1_000_000] = 30,
        /// Open connections of one address.
        address_connections_max: usize [1..=10_000_000] = 10_000,
        /// Open connections.
        connections_max: usize [1..=10_000_000] = 200_000,
        /// How long a connection may be open without a whole request's head, in milliseconds: at first and between two
        /// requests. WebSockets are none of these.
        request_within_ms: u64 [1..=HOUR_MS] = 75_000,
        /// Sends of one session that wait for their answer.
        sends_outstanding_max: usize [1..=65_536] = 256,
        /// Profiles asked for at once.
        profiles_per_request_max: usize [1..=10_000] = 200,
    }
}

section! {
    /// Live connections.
    SessionsSettings {
        /// How often a client is to send a heartbeat, in milliseconds.
        heartbeat_ms: u64 [1..=DAY_MS] = 30_000,
        /// The shortest interval that a client may wish for, in milliseconds.
        heartbeat_ms_min: u64 [1..=DAY_MS] = 5_000,
        /// The longest interval that a client may wish for, in milliseconds.
        heartbeat_ms_max: u64 [1..=DAY_MS] = 300_000,
        /// How long after the interval a connection without a heartbeat is closed, in milliseconds.
        heartbeat_grace_ms: u64 [0..=DAY_MS] = 15_000,
        /// How long after connecting the first frame may take, in milliseconds.
        hello_within_ms: u64 [1..=HOUR_MS] = 10_000,
        /// Messages to a WebSocket of at least so many bytes (1024, say) are compressed, for clients that offer
        /// `permessage-deflate`. 0: that offer is declined.
        compress_from_bytes: u32 [0..=1_073_741_824] = 0,
        /// Open sessions of one device; one more closes the oldest.
        sessions_per_device_max: usize [1..=1_000] = 4,
        /// Frames that may wait for a slow client.
        queue_frames_max: usize [1..=1_000_000] = 4_096,
        /// Their bytes.
        queue_bytes_max: usize [1_024..=1_024 * MIB] = 4 * 1024 * 1024,
        /// How long a long poll may wait, in seconds.
        poll_wait_s_max: u64 [0..=3_600] = 60,
        /// How long a polling session lives without a poll, in milliseconds.
        poll_idle_ms_max: u64 [1..=DAY_MS] = 60_000,
        /// Bytes of events in the answer to one poll, about.
        poll_answer_bytes_max: usize [1..=64 * MIB] = 1024 * 1024,
        /// How long one stream of server-sent events lasts before the client is made to come again, in seconds.
        stream_s_max: u64 [1..=DAY_S] = 300,
    }
}

section! {
    /// Accounts, devices, private maps.
    UsersSettings {
        /// Whether anybody may sign up.
        sign_up_open: bool = true,
        /// Memory of one password hash (Argon2id), in KiB. The defaults are OWASP's.
        password_memory_kib: u32 [8..=4_194_304] = 19_456,
        /// Passes over that memory.
        password_passes: u32 [1..=100] = 2,
        /// Lanes of it.
        password_lanes: u32 [1..=64] = 1,
        /// Password hashes that are computed at the same time.
        password_hashes_at_once_max: usize [1..=1_024] = 2,
        /// Password hashes that wait for their turn; with one more the answer is `busy`.
        password_hashes_waiting_max: usize [0..=1_000_000] = 256,
        /// Unicode scalar values of a password, at least.
        password_chars_min: usize [1..=1_000] = 8,
        /// Bytes of a password, at most.
        password_bytes_max: usize [1..=65_536] = 1_000,
        /// Letters of a username, at least.
        username_chars_min: usize [1..=1_000] = 3,
        /// Letters of a username, at most.
        username_chars_max: usize [1..=1_000] = 32,
        /// Unicode scalar values of a display name or a device's name.
        display_name_chars_max: usize [1..=10_000] = 100,
        /// Bytes of a reference to a picture.
        avatar_bytes_max: usize [0..=65_536] = 1_024,
        /// Devices of one user. A login beyond it takes the place of the device that has been silent the
        /// longest, if that is longer than `device_replace_after_days`; otherwise it is refused.
        devices_per_user_max: usize [1..=1_000] = 32,
        /// After so many days without a connection a device may be replaced, in days.
        device_replace_after_days: u64 [0..=DAYS_MAX] = 30,
        /// How long a browser keeps the session cookie, in days.
        cookie_days: u64 [1..=DAYS_MAX] = 365,
        /// Failed logins in a row for one username before it slows down …
        username_failures_burst_max: u64 [1..=1_000_000] = 10,
        /// … to one in so many milliseconds. 0: no slow-down.
        username_failure_interval_ms: u64 [0..=DAY_MS] = 10_000,
        /// Failed logins in a row from one address (for IPv6 one /64) before it slows down …
        address_failures_burst_max: u64 [1..=1_000_000] = 50,
        /// … to one in so many milliseconds. 0: no slow-down.
        address_failure_interval_ms: u64 [0..=DAY_MS] = 2_000,
        /// New accounts from one address before it slows down …
        address_sign_ups_burst_max: u64 [1..=1_000_000] = 50,
        /// … to one in so many milliseconds. 0: no slow-down.
        address_sign_up_interval_ms: u64 [0..=DAY_MS] = 10_000,
        /// Usernames and addresses whose failures are remembered.
        guesses_remembered_max: usize [1..=KEPT_MAX] = 65_536,
        /// A claim on a username whose account never came to be (a crash between the two) can be taken
        /// over after so many milliseconds.
        username_claim_ms_max: u64 [1..=DAY_MS] = 30_000,
        /// Users whose accounts, devices and blocks are kept in memory.
        users_cached_max: usize [1..=KEPT_MAX] = 100_000,
        /// Session tokens that are kept in memory.
        tokens_cached_max: usize [1..=KEPT_MAX] = 200_000,
        /// Users that one user can block.
        blocks_per_user_max: usize [0..=1_000_000] = 1_000,
        /// Keys of one user's private map.
        private_keys_max: usize [0..=10_000_000] = 10_000,
        /// Bytes of a key of the private map.
        private_key_bytes_max: usize [1..=4_096] = 256,
        /// Bytes of a value of the private map.
        private_value_bytes_max: usize [1..=MIB] = 16_384,
        /// Values in one page of the private map.
        private_page_keys_max: usize [1..=10_000] = 200,
        /// Bytes of keys and values in one page of the private map.
        private_page_bytes_max: usize [1..=64 * MIB] = 262_144,
        /// When somebody was last seen is written this often at most, in seconds. A crash may forget as much.
        last_seen_write_s: u64 [1..=DAY_S] = 300,
        /// Devices whose last-seen time waits to be written.
        last_seen_waiting_max: usize [1..=KEPT_MAX] = 1_000_000,
    }
}

section! {
    /// Online and last seen.
    PresenceSettings {
        /// A user is online until so many milliseconds after the interval of a session's heartbeat passed
        /// without one.
        offline_after_ms: u64 [0..=DAY_MS] = 30_000,
        /// A user whose last connection is lost or closed stays online for so many milliseconds, so that a
        /// short drop does not flicker.
        drop_grace_ms: u64 [0..=DAY_MS] = 10_000,
        /// Users that one session can watch.
        watched_users_max: usize [0..=1_000_000] = 500,
        /// How often it is looked at who went offline, in milliseconds.
        look_ms: u64 [1..=HOUR_MS] = 1_000,
    }
}

section! {
    /// Conversations.
    ChatSettings {
        /// Unicode scalar values of a message's text.
        text_chars_max: usize [1..=10_000_000] = Limits::default().text_chars_max,
        /// Bytes of opaque (encrypted) content.
        opaque_bytes_max: usize [0..=64 * MIB] = Limits::default().opaque_bytes_max,
        /// Attachments of one message.
        attachments_max: usize [0..=1_000] = Limits::default().attachments_max,
        /// Mentions in one message.
        mentions_max: usize [0..=10_000] = Limits::default().mentions_max,
        /// Members of a group.
        group_members_max: u32 [1..=100_000] = Limits::default().group_members_max,
        /// Unicode scalar values of a name.
        name_chars_max: usize [1..=10_000] = Limits::default().name_chars_max,
        /// Unicode scalar values of a description.
        description_chars_max: usize [0..=100_000] = Limits::default().description_chars_max,
        /// Bytes of a reference (attachment, avatar), file name or media type.
        reference_bytes_max: usize [1..=65_536] = Limits::default().reference_bytes_max,
        /// Bytes of a reaction's emoji.
        emoji_bytes_max: usize [1..=1_024] = Limits::default().emoji_bytes_max,
        /// Reactions of one member on one message.
        reactions_per_member_max: usize [0..=1_000] = Limits::default().reactions_per_member_max,
        /// Edits of one message.
        edits_max: usize [0..=100_000] = Limits::default().edits_max,
        /// A conversation's state is written after so many entries.
        state_every_entries: u64 [1..=1_000_000] = 256,
        /// A device that was silent for so many days is owed nothing more, in days.
        device_silent_days: u64 [1..=DAYS_MAX] = 30,
        /// Conversations that are kept in memory.
        hot_conversations_max: usize [1..=KEPT_MAX] = 50_000,
        /// Conversations in one page of the inbox.
        inbox_page_max: usize [1..=10_000] = 100,
        /// Entries in one page of history.
        history_page_max: usize [1..=10_000] = 200,
        /// Bytes of one page of history.
        history_page_bytes_max: usize [1..=64 * MIB] = 524_288,
        /// Members in one page.
        members_page_max: usize [1..=10_000] = 200,
        /// Marks in one frame.
        marks_per_frame_max: usize [1..=100_000] = 1_000,
        /// Commands that wait for one conversation.
        queue_commands_max: usize [1..=1_000_000] = 1_024,
        /// Bytes of the commands that wait for one conversation.
        queue_bytes_max: usize [65_536..=1_024 * MIB] = 8 * 1024 * 1024,
        /// Bytes of commands that are decided and committed together, about.
        batch_bytes_max: usize [1..=64 * MIB] = 1024 * 1024,
        /// Commands of one conversation that are decided and committed together.
        batch_commands_max: usize [1..=100_000] = 256,
        /// Marks of members of a group are gathered for so long before they are told, in milliseconds.
        gather_marks_ms: u64 [0..=10_000] = 50,
        /// Up to how many members heads are written to each member's inbox (write diffusion); 0 for none,
        /// where the inbox is read from the logs' own heads.
        write_heads_members_max: u32 [0..=100_000] = 0,
        /// How long direct conversations keep messages: `forever`, `until_delivered`, or `{ days = 30 }`.
        direct_retention: Retention = Retention::Forever,
        /// How long after an acknowledgement trimming is reconsidered, in milliseconds.
        trim_delay_ms: u64 [0..=HOUR_MS] = 500,
        /// How often expired messages are looked for, in milliseconds.
        expiry_every_ms: u64 [1..=HOUR_MS] = 1_000,
        /// How often every conversation with a bounded retention is looked at, in seconds.
        retention_every_s: u64 [1..=30 * DAY_S] = 3_600,
    }
}

impl ChatSettings {
    /// The bounds that the core checks.
    #[must_use]
    pub fn core_limits(&self) -> Limits {
        Limits {
            text_chars_max: self.text_chars_max,
            opaque_bytes_max: self.opaque_bytes_max,
            attachments_max: self.attachments_max,
            mentions_max: self.mentions_max,
            group_members_max: self.group_members_max,
            name_chars_max: self.name_chars_max,
            description_chars_max: self.description_chars_max,
            reference_bytes_max: self.reference_bytes_max,
            emoji_bytes_max: self.emoji_bytes_max,
            reactions_per_member_max: self.reactions_per_member_max,
            edits_max: self.edits_max,
        }
    }
}

impl SessionsSettings {
    /// The bounds of a session's queue.
    #[must_use]
    pub fn queue_limits(&self) -> QueueLimits {
        QueueLimits {
            frames_max: self.queue_frames_max,
            bytes_max: self.queue_bytes_max,
        }
    }
}
