//! People who do anything that people do, by chance.

use tidings_core::{ConversationId, UserId};
use tidings_protocol::Code;
use tidings_protocol::entry::{Role, SettingsChange};
use tidings_protocol::send::{Action, EditAction, RoleAction};

use crate::chance::Chance;
use crate::wire::device::{Device, content, message};
use crate::wire::memory::{Memory, Place, Settled};
use crate::world::{configure, delete, invite, leave, react, remove};

/// Somebody does something in a conversation: says, edits, deletes, reacts, reads, invites, leaves.
pub fn act(device: &Device, talk: ConversationId, users: &[UserId], chance: &mut Chance) {
    let other = users[chance.below(users.len() as u64) as usize];
    let number = chance.below(1_000);
    let (target, head) = {
        let memory = device.memory();
        let log = memory.log(talk);
        let seqs: Vec<u64> = log.entries.keys().copied().collect();
        (
            seqs.get(chance.below(seqs.len() as u64) as usize).copied(),
            log.level,
        )
    };
    let target = target.unwrap_or(1);
    let action = match chance.below(100) {
        0..55 => message(&format!("{} {number}", device.name)),
        55..63 => react(target, &format!("{}", number % 3)),
        63..69 => Action::Edit(EditAction {
            target,
            content: content(&format!("edited {number}")),
        }),
        69..75 => delete(target),
        75..83 => {
            device.read(talk, head);
            return;
        }
        83..86 => leave(),
        86..93 => invite(&[other]),
        93..95 => remove(other),
        95..98 => Action::SetRole(RoleAction {
            user: other,
            role: [Role::Member, Role::Admin, Role::Owner][(number % 3) as usize],
        }),
        _ => configure(SettingsChange {
            name: Some(format!("name {number}")),
            share_history: Some(chance.percent(50)),
            ..SettingsChange::default()
        }),
    };
    device.send(Place::In(talk), action);
}

/// Much is refused, but nothing for a reason that is the server's fault.
pub fn check_refusals(memory: &Memory) {
    let answers = memory.settled.values().filter_map(|settled| match settled {
        Settled::Refused(problem) => Some(problem),
        Settled::Sent { .. } => None,
    });
    for problem in answers.chain(&memory.problems) {
        let ours = [
            Code::Internal,
            Code::MalformedFrame,
            Code::Unsettled,
            Code::AboveHead,
            Code::Exists,
        ];
        assert!(!ours.contains(&problem.code), "{problem:?}");
    }
}
