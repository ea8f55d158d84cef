//! What a client must be told at its start, and its bounds.

use tidings_core::{DeviceId, UserId};

/// Who the client is.
#[derive(Clone, Debug)]
pub struct Config {
    /// The user that is logged in.
    pub user: UserId,
    /// This device.
    pub device: DeviceId,
    /// The session token for `hello`; `None` where a cookie carries it.
    pub token: Option<String>,
    /// Name and version of the program, for the list of devices.
    pub client: String,
    /// Where the client's random numbers begin. Must be another one at every start: client ids are made
    /// from it.
    pub seed: u64,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds and times of a client. The defaults suit a phone and a terminal alike.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Sends of one conversation that may wait for their answers at a time.
    pub sends_in_flight_max: usize,
    /// History requests that may wait for their answers at a time, all conversations together.
    pub history_in_flight_max: usize,
    /// Entries asked for in one page of history.
    pub history_page_entries: u32,
    /// Conversations asked for in one page of the inbox.
    pub inbox_page_conversations: u32,
    /// Seqs read from the local store for one page of a timeline.
    pub load_page_entries: u64,
    /// Items that an open timeline keeps; past it the far end is let go and can be loaded again.
    pub timeline_items_max: usize,
    /// Timelines that are kept open; past it the one that was used longest ago is closed.
    pub timelines_max: usize,
    /// Profiles asked for in one request.
    pub profiles_request_max: usize,
    /// Marks are gathered for so long before they are sent …
    pub mark_delay_ms: u64,
    /// … or until so many entries were received.
    pub mark_entries_max: u64,
    /// Marks raised within so many milliseconds are repeated in `hello`.
    pub marks_repeat_ms: u64,
    /// Changes of conversations (not of entries) are gathered for so long before they are stored.
    pub store_delay_ms: u64,
    /// The first wait before a send or a connection is tried again; it doubles with each failure …
    pub retry_first_ms: u64,
    /// … up to this.
    pub retry_max_ms: u64,
    /// A connection on which an answer is missing for so long is given up.
    pub answer_timeout_ms: u64,
    /// Somebody's typing is forgotten after so long without a repetition.
    pub typing_ms: u64,
    /// My own typing is repeated this often.
    pub typing_repeat_ms: u64,
    /// A profile older than this is asked for again when it is needed.
    pub profile_fresh_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            sends_in_flight_max: 16,
            history_in_flight_max: 4,
            history_page_entries: 100,
            inbox_page_conversations: 50,
            load_page_entries: 64,
            timeline_items_max: 1_000,
            timelines_max: 4,
            profiles_request_max: 100,
            mark_delay_ms: 20,
            mark_entries_max: 64,
            marks_repeat_ms: 60_000,
            store_delay_ms: 200,
            retry_first_ms: 500,
            retry_max_ms: 30_000,
            answer_timeout_ms: 30_000,
            typing_ms: 6_000,
            typing_repeat_ms: 3_000,
            profile_fresh_ms: 3_600_000,
        }
    }
}
