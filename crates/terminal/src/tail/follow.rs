//! Which entries are new: follows conversations by their positions, without I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use tidings_core::ConversationId;
use tidings_protocol::entry::Entry;
use tidings_protocol::mark::{MarkUpdate, RaiseMarks};
use tidings_protocol::send::Position;
use tidings_protocol::sync::{Conversation, ConversationRequest, HistoryRequest, InboxRequest};
use tidings_protocol::{ClientFrame, ServerFrame};

use super::progress::Progress;

pub(super) struct Follower {
    /// Empty: all.
    wanted: BTreeSet<ConversationId>,
    progress: Progress,
    from_start: bool,
    /// What is printed of a conversation's name.
    labels: BTreeMap<ConversationId, Label>,
    /// Pages that are on their way.
    asked: BTreeSet<ConversationId>,
    inbox: Inbox,
    /// After the first inbox a conversation that turns up is new, and all in it is.
    was_level: bool,
    last_id: u64,
}

#[derive(PartialEq)]
enum Inbox {
    Asked,
    Read,
}

/// What to call a conversation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Label {
    pub(super) conversation: ConversationId,
    /// A group's name; empty for a direct conversation.
    pub(super) name: String,
}

/// What a frame leads to.
#[derive(Default)]
pub(super) struct Step {
    pub(super) ask: Vec<ClientFrame>,
    pub(super) print: Vec<(Label, Entry)>,
    /// How far that is, once it is printed.
    pub(super) reached: Vec<(ConversationId, Position)>,
}

impl Follower {
    pub(super) fn new(
        wanted: Vec<ConversationId>,
        progress: Progress,
        from_start: bool,
    ) -> Follower {
        Follower {
            wanted: wanted.into_iter().collect(),
            progress,
            from_start,
            labels: BTreeMap::new(),
            asked: BTreeSet::new(),
            inbox: Inbox::Asked,
            was_level: false,
            last_id: 0,
        }
    }

    /// A connection is there: live entries come from now on, so ask for what came before.
    pub(super) fn begin(&mut self) -> Vec<ClientFrame> {
        self.asked.clear();
        self.inbox = Inbox::Asked;
        vec![self.ask_inbox(None)]
    }

    /// Everything there was has been handed out.
    pub(super) fn is_level(&self) -> bool {
        self.inbox == Inbox::Read && self.asked.is_empty()
    }

    pub(super) fn handle(&mut self, frame: ServerFrame) -> Step {
        let mut step = Step::default();
        match frame {
            ServerFrame::Inbox(page) => {
                for conversation in page.conversations {
                    self.consider(&conversation, &mut step);
                }
                match page.next {
                    Some(cursor) => step.ask.push(self.ask_inbox(Some(cursor))),
                    None => {
                        self.inbox = Inbox::Read;
                        self.was_level = true;
                    }
                }
            }
            ServerFrame::Conversation(frame) => self.consider(&frame.conversation, &mut step),
            ServerFrame::History(page) => {
                let id = page.conversation;
                self.asked.remove(&id);
                let Some(at) = self.progress.get(id) else {
                    return step;
                };
                self.take(id, at, page.to, page.entries, &mut step);
                if page.more || page.to < page.head {
                    let reached = step.reached.last().map_or(at, |(_, position)| *position);
                    // A page that covers nothing will not do so when it is asked for again.
                    if reached.seq > at.seq {
                        self.ask_history(id, reached, &mut step);
                    }
                }
            }
            ServerFrame::Entries(entries) => {
                let id = entries.conversation;
                if !self.is_wanted(id) {
                    return step;
                }
                match self.progress.get(id) {
                    Some(at) if entries.from <= at.seq + 1 => {
                        self.take(id, at, entries.to, entries.entries, &mut step)
                    }
                    Some(at) => self.ask_history(id, at, &mut step),
                    None => {
                        let id = self.next_id(id);
                        step.ask.push(ClientFrame::Conversation(id));
                    }
                }
            }
            _ => {}
        }
        step
    }

    /// What was handed out is printed up to here. Answers the marks to raise.
    pub(super) fn printed(
        &mut self,
        reached: Vec<(ConversationId, Position)>,
    ) -> Result<Option<RaiseMarks>, (PathBuf, io::Error)> {
        if reached.is_empty() {
            return Ok(None);
        }
        for (conversation, position) in &reached {
            self.progress.set(*conversation, *position);
        }
        self.progress
            .write()
            .map_err(|error| (self.progress.path().to_owned(), error))?;
        let marks = reached
            .into_iter()
            .map(|(conversation, position)| MarkUpdate {
                conversation,
                delivered: Some(position.seq),
                read: None,
                generation: Some(position.generation),
            });
        Ok(Some(RaiseMarks {
            id: None,
            marks: marks.collect(),
        }))
    }

    fn consider(&mut self, conversation: &Conversation, step: &mut Step) {
        let id = conversation.conversation;
        if !self.is_wanted(id) {
            return;
        }
        self.labels.insert(
            id,
            Label {
                conversation: id,
                name: conversation.settings.name.clone(),
            },
        );
        let generation = conversation.generation;
        let start = Position {
            generation,
            seq: conversation
                .from
                .saturating_sub(1)
                .max(conversation.trimmed),
        };
        let head = Position {
            generation,
            seq: conversation.head,
        };
        let at = match self.progress.get(id) {
            // A log that was restored: what of it was printed cannot be told. From now on, then.
            Some(at) if at.generation != generation || at.seq > head.seq => head,
            Some(at) => Position {
                generation,
                seq: at.seq.max(start.seq),
            },
            None if self.from_start || self.was_level => start,
            None => head,
        };
        if self.progress.get(id) != Some(at) {
            self.progress.set(id, at);
            step.reached.push((id, at));
        }
        if at.seq < head.seq {
            self.ask_history(id, at, step);
        }
    }

    fn take(
        &self,
        id: ConversationId,
        at: Position,
        to: u64,
        entries: Vec<Entry>,
        step: &mut Step,
    ) {
        if to <= at.seq {
            return;
        }
        let nameless = || Label {
            conversation: id,
            name: String::new(),
        };
        let label = self.labels.get(&id).cloned().unwrap_or_else(nameless);
        let new = entries.into_iter().filter(|entry| entry.seq > at.seq);
        step.print.extend(new.map(|entry| (label.clone(), entry)));
        step.reached.push((id, Position { seq: to, ..at }));
    }

    fn is_wanted(&self, id: ConversationId) -> bool {
        self.wanted.is_empty() || self.wanted.contains(&id)
    }

    fn ask_history(&mut self, conversation: ConversationId, at: Position, step: &mut Step) {
        if !self.asked.insert(conversation) {
            return;
        }
        self.last_id += 1;
        step.ask.push(ClientFrame::History(HistoryRequest {
            id: self.last_id,
            conversation,
            after: Some(at.seq),
            before: None,
            around: None,
            limit: None,
            generation: Some(at.generation),
            hash: None,
        }));
    }

    fn ask_inbox(&mut self, cursor: Option<String>) -> ClientFrame {
        self.last_id += 1;
        ClientFrame::Inbox(InboxRequest {
            id: self.last_id,
            cursor,
            limit: None,
        })
    }

    fn next_id(&mut self, conversation: ConversationId) -> ConversationRequest {
        self.last_id += 1;
        ConversationRequest {
            id: self.last_id,
            conversation,
        }
    }
}
