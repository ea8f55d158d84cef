//! What an entry changes. Pure and total: every node and every client that applies the same entries
//! comes to the same state.

use std::fmt;

use super::recent::Recent;
use super::state::{Member, MemberMap, Role, SPANS_MAX, Span, State};
use crate::entry::{Body, Entry, Kind, RULES};
use crate::id::UserId;
use crate::log::Seq;
use crate::mark::MarkValue;

/// Why an entry could not be applied. The state is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// It is not the next one.
    OutOfOrder {
        /// The seq that would have been next.
        expected: Seq,
        /// The entry's.
        found: Seq,
    },
    /// It needs rules that this program does not know.
    UpdateNeeded {
        /// The version it needs.
        rules: u8,
    },
    /// Its body is gone, and without it the change cannot be told.
    BodyMissing {
        /// The entry.
        seq: Seq,
    },
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApplyError::OutOfOrder { expected, found } => {
                write!(f, "entry {found} where {expected} is next")
            }
            ApplyError::UpdateNeeded { rules } => {
                write!(f, "the entry needs version {rules} of the rules")
            }
            ApplyError::BodyMissing { seq } => {
                write!(f, "the body of entry {seq} is needed and gone")
            }
        }
    }
}

impl std::error::Error for ApplyError {}

/// Applies the next entry.
///
/// `members` must hold those that the entry names as far as they were ever in (its author, and the
/// subjects in its body); who is new is put in.
///
/// # Errors
/// When the entry is not the next one or cannot be understood; nothing has changed then.
pub fn apply(state: &mut State, members: &mut MemberMap, entry: &Entry) -> Result<(), ApplyError> {
    let envelope = &entry.envelope;
    if envelope.seq != state.seq + 1 {
        return Err(ApplyError::OutOfOrder {
            expected: state.seq + 1,
            found: envelope.seq,
        });
    }
    if envelope.rules > RULES {
        return Err(ApplyError::UpdateNeeded {
            rules: envelope.rules,
        });
    }
    let needs_body = envelope.kind.changes_members() && envelope.kind != Kind::Leave
        || envelope.kind == Kind::Settings;
    if needs_body && entry.body == Body::Erased {
        return Err(ApplyError::BodyMissing { seq: envelope.seq });
    }
    apply_body(state, members, entry);
    state.rules = state.rules.max(envelope.rules);
    state.seq = envelope.seq;
    state.at = envelope.at;
    state.ordinal = envelope.ordinal;
    if envelope.kind.changes_members() {
        state.membership_seq = envelope.seq;
    }
    if envelope.counts
        && let Some(author) = members.get_mut(&envelope.author)
    {
        author.own += 1;
    }
    remember(state, entry);
    Ok(())
}

fn apply_body(state: &mut State, members: &mut MemberMap, entry: &Entry) {
    let envelope = &entry.envelope;
    match &entry.body {
        Body::Create {
            kind,
            members: first,
            settings,
        } => {
            state.kind = *kind;
            state.settings = settings.clone();
            for &(user, role) in first {
                enter(
                    state,
                    members,
                    user,
                    role,
                    envelope.seq,
                    envelope.seq,
                    entry,
                );
            }
        }
        Body::Join { users, from } => {
            for &user in users {
                enter(
                    state,
                    members,
                    user,
                    Role::Member,
                    envelope.seq,
                    *from,
                    entry,
                );
            }
        }
        Body::Remove { user } => exit(state, members, *user, envelope.seq),
        Body::Role { user, role } => set_role(state, members, *user, *role),
        Body::Settings(change) => change.apply_to(&mut state.settings),
        _ => {}
    }
    // These two need no body, so they hold even when it was erased.
    match envelope.kind {
        Kind::Leave => exit(state, members, envelope.author, envelope.seq),
        Kind::Commit => state.epoch += 1,
        _ => {}
    }
}

fn enter(
    state: &mut State,
    members: &mut MemberMap,
    user: UserId,
    role: Role,
    joined: Seq,
    from: Seq,
    entry: &Entry,
) {
    let member = members.entry(user).or_insert_with(|| Member {
        role,
        spans: Vec::new(),
        own: 0,
        joined: MarkValue::default(),
    });
    if member.is_in() {
        return;
    }
    member.role = role;
    member.spans.push(Span {
        joined,
        from,
        left: None,
    });
    if member.spans.len() > SPANS_MAX {
        member.spans.remove(0);
    }
    member.joined = MarkValue {
        seq: joined,
        ordinal: state.ordinal,
        own: member.own,
        at: entry.envelope.at,
    };
    state.member_count += 1;
    state.owner_count += u32::from(role == Role::Owner);
}

fn exit(state: &mut State, members: &mut MemberMap, user: UserId, seq: Seq) {
    // On a client the members may not all be known; the counts are then the server's to say.
    let Some(member) = members.get_mut(&user) else {
        return;
    };
    let Some(span) = member.spans.last_mut().filter(|span| span.left.is_none()) else {
        return;
    };
    span.left = Some(seq);
    state.member_count = state.member_count.saturating_sub(1);
    state.owner_count = state
        .owner_count
        .saturating_sub(u32::from(member.role == Role::Owner));
}

fn set_role(state: &mut State, members: &mut MemberMap, user: UserId, role: Role) {
    let Some(member) = members.get_mut(&user).filter(|member| member.is_in()) else {
        return;
    };
    state.owner_count = state
        .owner_count
        .saturating_sub(u32::from(member.role == Role::Owner));
    state.owner_count += u32::from(role == Role::Owner);
    member.role = role;
}

fn remember(state: &mut State, entry: &Entry) {
    let envelope = &entry.envelope;
    let forgotten = state.recent.push(Recent {
        author: envelope.author,
        client_id: envelope.client_id,
        seq: envelope.seq,
        at: envelope.at,
    });
    if let Some(forgotten) = forgotten {
        state.recent_above = forgotten.seq;
    }
}
