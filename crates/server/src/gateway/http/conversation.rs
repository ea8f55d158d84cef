//! Reading conversations, and marks.

use std::sync::Arc;

use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use tidings_core::{ConversationId, UserId};
use tidings_protocol::ClientFrame;
use tidings_protocol::mark::{MarkUpdate, RaiseMarks, ReceiptsRequest};
use tidings_protocol::presence::Typing;
use tidings_protocol::sync::{ConversationRequest, HistoryRequest, InboxRequest, MembersRequest};

use super::ask;
use crate::gateway::App;
use crate::gateway::extract::{Asker, Json, Path, Query};
use crate::gateway::problem::Answer;

/// Which page of my conversations.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub(in crate::gateway) struct InboxQuery {
    /// The `next` of the page before; absent for the first.
    cursor: Option<String>,
    /// At most so many.
    limit: Option<u32>,
}

/// Which page of members.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub(in crate::gateway) struct MembersQuery {
    /// From the first above this user; absent for the beginning.
    after: Option<UserId>,
    /// At most so many.
    limit: Option<u32>,
}

/// Which page of entries: at most one of `after`, `before` and `around`; the newest without any.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub(in crate::gateway) struct EntriesQuery {
    /// Entries above this seq, oldest first.
    after: Option<u64>,
    /// Entries below this seq: the newest of them.
    before: Option<u64>,
    /// Entries on both sides of this seq, itself included.
    around: Option<u64>,
    /// At most so many entries.
    limit: Option<u32>,
}

/// Marks to raise: only ever what this device has safely received, and what its user has been shown.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(in crate::gateway) struct MarksBody {
    /// The marks.
    marks: Vec<MarkUpdate>,
}

pub(in crate::gateway) async fn list(
    State(app): State<Arc<App>>,
    asker: Asker,
    Query(query): Query<InboxQuery>,
) -> Answer {
    let InboxQuery { cursor, limit } = query;
    let request = InboxRequest {
        id: 0,
        cursor,
        limit,
    };
    ask(&app, asker, ClientFrame::Inbox(request)).await
}

pub(in crate::gateway) async fn one(
    State(app): State<Arc<App>>,
    asker: Asker,
    Path(conversation): Path<ConversationId>,
) -> Answer {
    let request = ConversationRequest {
        id: 0,
        conversation,
    };
    ask(&app, asker, ClientFrame::Conversation(request)).await
}

pub(in crate::gateway) async fn members(
    State(app): State<Arc<App>>,
    asker: Asker,
    Path(conversation): Path<ConversationId>,
    Query(query): Query<MembersQuery>,
) -> Answer {
    let request = MembersRequest {
        id: 0,
        conversation,
        after: query.after,
        limit: query.limit,
    };
    ask(&app, asker, ClientFrame::Members(request)).await
}

pub(in crate::gateway) async fn entries(
    State(app): State<Arc<App>>,
    asker: Asker,
    Path(conversation): Path<ConversationId>,
    Query(query): Query<EntriesQuery>,
) -> Answer {
    let none = query.after.or(query.before).or(query.around).is_none();
    let request = HistoryRequest {
        id: 0,
        conversation,
        after: query.after,
        before: if none {
            Some(tidings_core::log::SEQ_MAX)
        } else {
            query.before
        },
        around: query.around,
        limit: query.limit,
        generation: None,
        hash: None,
    };
    ask(&app, asker, ClientFrame::History(request)).await
}

pub(in crate::gateway) async fn receipts(
    State(app): State<Arc<App>>,
    asker: Asker,
    Path((conversation, seq)): Path<(ConversationId, u64)>,
) -> Answer {
    let request = ReceiptsRequest {
        id: 0,
        conversation,
        seq,
    };
    ask(&app, asker, ClientFrame::Receipts(request)).await
}

pub(in crate::gateway) async fn marks(
    State(app): State<Arc<App>>,
    asker: Asker,
    Json(body): Json<MarksBody>,
) -> Answer {
    let request = RaiseMarks {
        id: None,
        marks: body.marks,
    };
    ask(&app, asker, ClientFrame::Mark(request)).await
}

pub(in crate::gateway) async fn typing(
    State(app): State<Arc<App>>,
    asker: Asker,
    Json(typing): Json<Typing>,
) -> Answer {
    ask(&app, asker, ClientFrame::Typing(typing)).await
}
