//! Write and read diffusion of heads.
//!
//! A store that keeps a member's inbox in one place wants each head written there (write diffusion): up
//! to so many members (`write_heads_members_max`) every append raises a head mark for each. Above that it
//! would cost too much: the inbox reads the log's own head (read diffusion). Each member's row says which
//! holds, by a mark that counts the switches: even, the head in the row is the log's; odd, read the log.
//! Upwards all rows are switched first, then heads stop; downwards (at half the limit) heads come first.

use std::collections::BTreeSet;

use tidings_core::UserId;
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_protocol::Problem;
use tidings_store::Durability;

use super::drive::Decided;
use super::loaded::Loaded;
use super::{Chat, Conversation, problem_of_store};

/// The lane of the mark that counts switches; the head itself is in lane 0.
const SWITCHES_LANE: u32 = 1;

/// How a conversation's heads are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Diffusion {
    /// How often it was switched: odd means that the rows say "read the log".
    switches: u64,
    /// Whether any row has a head.
    heads_written: bool,
}

/// What an append of this conversation does about heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Heads go with the append.
    Write,
    /// Heads go with the append, and once it is durable the rows are switched back to them.
    WriteThenSwitch,
    /// First the rows are switched to "read the log".
    SwitchThenNone,
    /// No heads.
    None,
}

impl Diffusion {
    /// Takes what a stored mark says.
    pub(super) fn note(&mut self, mark: &Mark) {
        match mark.lane {
            0 => self.heads_written = true,
            SWITCHES_LANE => self.switches = self.switches.max(mark.value.seq),
            _ => {}
        }
    }

    /// Other servers may write heads at any time: as if they were written.
    pub(super) fn others_may_write(&mut self) {
        self.heads_written = true;
    }

    /// Whether heads are in the rows.
    pub(super) fn writes(self, members: u32, limit: u32) -> bool {
        self.plan(members, limit) == Plan::Write
    }

    fn plan(self, members: u32, limit: u32) -> Plan {
        let reads_log = self.switches % 2 == 1;
        match (reads_log, members <= limit) {
            (false, true) => Plan::Write,
            (false, false) if self.heads_written => Plan::SwitchThenNone,
            (true, _) if members <= limit / 2 => Plan::WriteThenSwitch,
            _ => Plan::None,
        }
    }
}

/// The head in a member's row, if the row says that it holds. `marks` are those of one log.
pub(super) fn head_in_row(marks: &[Mark]) -> Option<MarkValue> {
    let of_lane = |lane| {
        marks
            .iter()
            .find(|mark| mark.kind == MarkKind::Head && mark.lane == lane)
    };
    let reads_log = of_lane(SWITCHES_LANE).is_some_and(|mark| mark.value.seq % 2 == 1);
    of_lane(0).filter(|_| !reads_log).map(|mark| mark.value)
}

impl Chat {
    /// Before an append: if it leaves too many members for writing heads, every row is told so first.
    pub(super) async fn before_append(
        &self,
        conversation: &Conversation,
        decided: &Decided,
    ) -> Result<(), Problem> {
        self.learn_diffusion(conversation).await?;
        let Some(switch) = conversation.try_loaded().and_then(|loaded| {
            let plan = self.plan(&loaded, decided);
            (plan == Plan::SwitchThenNone).then(|| switch_marks(conversation, &loaded, decided))
        }) else {
            return Ok(());
        };
        self.store
            .raise_marks(switch, Durability::Now)
            .await
            .map_err(problem_of_store)?;
        if let Some(mut loaded) = conversation.try_loaded() {
            loaded.diffusion.switches += 1;
        }
        Ok(())
    }

    /// Reads the conversation's own row again after another server changed who is in: it may have switched.
    pub(super) async fn learn_diffusion(&self, conversation: &Conversation) -> Result<(), Problem> {
        let is_known = |loaded: &Loaded| !loaded.diffusion_is_old;
        if conversation
            .try_loaded()
            .is_none_or(|loaded| is_known(&loaded))
        {
            return Ok(());
        }
        let row = self
            .store
            .marks(conversation.log(), conversation.id.0)
            .await;
        let row = row.map_err(problem_of_store)?;
        if let Some(mut loaded) = conversation.try_loaded() {
            for mark in row.iter().filter(|mark| mark.kind == MarkKind::Head) {
                loaded.diffusion.note(mark);
            }
            loaded.diffusion_is_old = false;
        }
        Ok(())
    }

    /// The marks about heads that go with an append.
    pub(super) fn head_marks(
        &self,
        conversation: &Conversation,
        loaded: &Loaded,
        decided: &Decided,
    ) -> Vec<Mark> {
        let state = &decided.state;
        let head = MarkValue {
            seq: state.seq,
            ordinal: state.ordinal,
            own: 0,
            at: state.at,
        };
        let mut marks = Vec::new();
        if matches!(
            self.plan(loaded, decided),
            Plan::Write | Plan::WriteThenSwitch
        ) {
            marks.extend(
                present_after(loaded, decided)
                    .into_iter()
                    .map(|user| head_mark(conversation, user.0, 0, head)),
            );
        }
        // Who comes in may have a row from an earlier time that says something else.
        if loaded.diffusion.switches > 0 {
            let value = MarkValue {
                seq: loaded.diffusion.switches,
                ..MarkValue::default()
            };
            let came = decided.members.iter().filter(|(user, member)| {
                member.is_in()
                    && loaded
                        .members
                        .get(user)
                        .is_none_or(|before| !before.is_in())
            });
            marks.extend(
                came.map(|(user, _)| head_mark(conversation, user.0, SWITCHES_LANE, value)),
            );
        }
        marks
    }

    /// After an append that wrote heads again: from now on the rows hold.
    pub(super) async fn after_append(
        &self,
        conversation: &Conversation,
        decided: &Decided,
    ) -> Result<(), Problem> {
        let Some((plan, switch)) = conversation.try_loaded().map(|mut loaded| {
            let plan = self.plan(&loaded, decided);
            loaded.diffusion.heads_written |= matches!(plan, Plan::Write | Plan::WriteThenSwitch);
            let switch = if plan == Plan::WriteThenSwitch {
                switch_marks(conversation, &loaded, decided)
            } else {
                Vec::new()
            };
            (plan, switch)
        }) else {
            return Ok(());
        };
        if plan == Plan::WriteThenSwitch {
            self.store
                .raise_marks(switch, Durability::Now)
                .await
                .map_err(problem_of_store)?;
            if let Some(mut loaded) = conversation.try_loaded() {
                loaded.diffusion.switches += 1;
            }
        }
        Ok(())
    }

    fn plan(&self, loaded: &Loaded, decided: &Decided) -> Plan {
        loaded.diffusion.plan(
            decided.state.member_count,
            self.settings.write_heads_members_max,
        )
    }
}

fn switch_marks(conversation: &Conversation, loaded: &Loaded, decided: &Decided) -> Vec<Mark> {
    let value = MarkValue {
        seq: loaded.diffusion.switches + 1,
        ..MarkValue::default()
    };
    present_after(loaded, decided)
        .into_iter()
        .map(|user| user.0)
        // The conversation's own row is where the count is found again.
        .chain([conversation.id.0])
        .map(|owner| head_mark(conversation, owner, SWITCHES_LANE, value))
        .collect()
}

/// Who is in before or after the batch.
fn present_after(loaded: &Loaded, decided: &Decided) -> BTreeSet<UserId> {
    let before = loaded.present().map(|(user, _)| user);
    before
        .chain(
            decided
                .members
                .iter()
                .filter(|(_, member)| member.is_in())
                .map(|(user, _)| *user),
        )
        .collect()
}

fn head_mark(conversation: &Conversation, owner: [u8; 16], lane: u32, value: MarkValue) -> Mark {
    Mark {
        log: conversation.log(),
        owner,
        kind: MarkKind::Head,
        lane,
        value,
    }
}
