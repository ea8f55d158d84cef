//! What the client says, as of its last change: all that a screen is made from.

use std::collections::BTreeMap;

use tidings_client::{
    Client, ConversationDetails, ConversationView, Item, ItemBody, PresenceView, Recipient, Status,
    TimelineView,
};
use tidings_core::{ConversationId, UserId};
use tidings_protocol::presence::Profile;

use crate::plain;

/// How much of a name is shown, in columns.
const NAME_WIDTH: usize = 32;

#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) me: UserId,
    pub(crate) username: String,
    pub(crate) server: String,
    pub(crate) status: Status,
    pub(crate) why_offline: Option<String>,
    pub(crate) outbox_len: usize,
    pub(crate) conversations: Vec<ConversationView>,
    pub(crate) current: Option<Current>,
    pub(crate) profiles: BTreeMap<UserId, Profile>,
}

/// The conversation on the screen.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    pub(crate) conversation: ConversationId,
    /// Where messages go: a direct conversation may not have begun yet.
    pub(crate) to: Recipient,
    pub(crate) details: Option<ConversationDetails>,
    pub(crate) timeline: TimelineView,
    /// Of the other of a direct conversation.
    pub(crate) presence: Option<PresenceView>,
}

impl Model {
    pub(crate) fn new(me: UserId, username: String, server: String) -> Model {
        Model {
            me,
            username,
            server,
            status: Status::Offline,
            why_offline: None,
            outbox_len: 0,
            conversations: Vec::new(),
            current: None,
            profiles: BTreeMap::new(),
        }
    }

    /// Takes over what the client says now.
    pub(crate) fn refresh(&mut self, client: &Client) {
        self.status = client.status();
        self.outbox_len = client.outbox_len();
        self.conversations = client.conversations().to_vec();
        if let Some(current) = &mut self.current {
            current.details = client.conversation(current.conversation);
            if current.details.is_some() {
                current.to = Recipient::Conversation(current.conversation);
            }
            current.timeline = client
                .timeline(current.conversation)
                .cloned()
                .unwrap_or_default();
            current.presence = current.other().and_then(|other| client.presence(other));
        }
        for user in self.users() {
            if let Some(profile) = client.profile(user) {
                self.profiles.insert(user, profile.clone());
            }
        }
    }

    /// Somebody's name as it is shown.
    pub(crate) fn name(&self, user: UserId) -> String {
        if user == self.me {
            return "You".to_owned();
        }
        match self.profiles.get(&user) {
            Some(profile) if !profile.display_name.is_empty() => {
                plain::name(&profile.display_name, NAME_WIDTH)
            }
            Some(profile) => plain::name(&profile.username, NAME_WIDTH),
            None => "somebody".to_owned(),
        }
    }

    /// Those whose names are on the screen.
    fn users(&self) -> Vec<UserId> {
        let mut users = vec![self.me];
        for view in &self.conversations {
            users.extend(view.other);
            users.extend(&view.typing);
            users.extend(view.last.as_ref().map(|last| last.author));
        }
        if let Some(current) = &self.current {
            users.extend(current.other());
            users.extend(
                current
                    .details
                    .iter()
                    .flat_map(|details| details.members.iter().map(|member| member.user)),
            );
            current
                .timeline
                .items
                .iter()
                .for_each(|item| add_users(item, &mut users));
        }
        users.sort_unstable();
        users.dedup();
        users
    }
}

fn add_users(item: &Item, users: &mut Vec<UserId>) {
    users.push(item.author);
    users.extend(
        item.reply
            .iter()
            .filter_map(|reply| Some(reply.preview.as_ref()?.author)),
    );
    match &item.body {
        ItemBody::Joined(Some(join)) => users.extend(&join.users),
        ItemBody::Removed(user) | ItemBody::RoleChanged(user, _) => users.extend(user),
        ItemBody::Created(Some(create)) => {
            users.extend(create.members.iter().map(|member| member.user))
        }
        _ => {}
    }
}

impl Current {
    pub(crate) fn new(conversation: ConversationId, to: Recipient) -> Current {
        Current {
            conversation,
            to,
            details: None,
            timeline: TimelineView::default(),
            presence: None,
        }
    }

    /// The other of a direct conversation.
    pub(crate) fn other(&self) -> Option<UserId> {
        match (&self.details, self.to) {
            (Some(details), _) => details.view.other,
            (None, Recipient::User(user)) => Some(user),
            (None, Recipient::Conversation(_)) => None,
        }
    }
}
