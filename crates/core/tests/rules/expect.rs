//! What must be true of an accepted command, of a refused one, and of the state in between.

use std::collections::BTreeSet;
use std::fmt;

use tidings_core::UserId;
use tidings_core::conversation::{
    Action, Command, ConversationKind, Encryption, Facts, Policy, RECENT_MAX, Reject, Role, Search,
    search_for_earlier,
};
use tidings_core::entry::{Body, Content, Entry, Kind};
use tidings_core::log::Seq;

use crate::valid::{
    describes, suits_direct, suits_direct_change, valid_content, valid_opaque, valid_settings,
};
use crate::world::{World, is_message, target_of};

/// A command and what came of it, for those who have to look into it.
struct Why<'a>(&'a Command, &'a dyn fmt::Debug);

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} became {:?}", self.0, self.1)
    }
}

/// The entry may be the next one.
pub(crate) fn accepted(world: &World, command: &Command, facts: &Facts, entry: &Entry) {
    let why = Why(command, entry);
    assert_eq!(world.earlier_entry(command), None, "never twice: {why}");
    let envelope = &entry.envelope;
    assert_eq!(envelope.seq, world.state.seq + 1, "{why}");
    assert_eq!(envelope.at, world.now.max(world.state.at), "{why}");
    assert_eq!(
        envelope.ordinal,
        world.state.ordinal + u64::from(envelope.counts),
        "{why}"
    );
    assert_eq!(envelope.epoch, world.state.epoch, "{why}");
    let who = (command.author, command.device, command.client_id);
    assert_eq!(
        (envelope.author, envelope.device, envelope.client_id),
        who,
        "{why}"
    );
    assert_eq!(envelope.target, target_of(&command.action), "{why}");
    assert!(!facts.suspended, "{why}");
    match command.action {
        Action::Create { .. } => assert_eq!(world.state.seq, 0, "{why}"),
        Action::Join { .. } => assert_eq!(world.role(command.author), None, "{why}"),
        _ => {
            assert!(
                world.role(command.author).is_some(),
                "only who is in: {why}"
            );
            assert!(
                command
                    .if_epoch
                    .is_none_or(|epoch| epoch == world.state.epoch),
                "{why}"
            );
        }
    }
    if let Some(refusal) = forbidden(world, command, facts) {
        panic!("it should have been refused, {refusal}: {why}");
    }
    body(world, command, entry);
}

/// The body and what goes with it say what was wished.
fn body(world: &World, command: &Command, entry: &Entry) {
    let envelope = &entry.envelope;
    let mut counts = false;
    let mut expires = None;
    let (kind, expected) = match &command.action {
        Action::Create {
            kind,
            users,
            settings,
        } => {
            let own = if *kind == ConversationKind::Group {
                Role::Owner
            } else {
                Role::Member
            };
            let others = users.iter().map(|user| (*user, Role::Member));
            let members = std::iter::once((command.author, own))
                .chain(others)
                .collect();
            (
                Kind::Create,
                Body::Create {
                    kind: *kind,
                    members,
                    settings: settings.clone(),
                },
            )
        }
        Action::Message {
            content, silent, ..
        } => {
            counts = !silent;
            expires = world
                .state
                .settings
                .vanish_after
                .map(|millis| envelope.at.plus_millis(millis));
            (Kind::Message, Body::Message(content.clone()))
        }
        Action::Edit { target, content } => {
            expires = world.log[*target as usize - 1].envelope.expires;
            (Kind::Edit, Body::Edit(content.clone()))
        }
        Action::Delete { .. } => (Kind::Delete, Body::Delete),
        Action::React { emoji, on, .. } => (
            Kind::Reaction,
            Body::Reaction {
                emoji: emoji.clone(),
                on: *on,
            },
        ),
        Action::Invite { users } => (
            Kind::Join,
            Body::Join {
                users: users.clone(),
                from: from(world),
            },
        ),
        Action::Join { .. } => (
            Kind::Join,
            Body::Join {
                users: vec![command.author],
                from: from(world),
            },
        ),
        Action::Leave => (Kind::Leave, Body::Leave),
        Action::Remove { user } => (Kind::Remove, Body::Remove { user: *user }),
        Action::SetRole { user, role } => (
            Kind::Role,
            Body::Role {
                user: *user,
                role: *role,
            },
        ),
        Action::Configure(change) => (Kind::Settings, Body::Settings(change.clone())),
        Action::Commit(opaque) => (Kind::Commit, Body::Commit(opaque.clone())),
    };
    assert_eq!((envelope.kind, &entry.body), (kind, &expected));
    assert_eq!(
        (envelope.counts, envelope.expires),
        (counts, expires),
        "{entry:?}"
    );
}

fn from(world: &World) -> Seq {
    if world.state.settings.share_history {
        1
    } else {
        world.state.seq + 1
    }
}

/// Why the rules do not allow this action, told in another way than `decide` does.
fn forbidden(world: &World, command: &Command, facts: &Facts) -> Option<&'static str> {
    let settings = &world.state.settings;
    let role = world.role(command.author).unwrap_or(Role::Member);
    let is_admin = role != Role::Member;
    let may = |policy: Policy| policy == Policy::Members || is_admin;
    let group = !world.is_direct();
    let say = |wrong: bool, why: &'static str| wrong.then_some(why);
    match &command.action {
        Action::Create {
            kind,
            users,
            settings,
        } => {
            let names: BTreeSet<&UserId> = users.iter().chain([&command.author]).collect();
            let bound = if *kind == ConversationKind::Group {
                world.limits.group_members_max
            } else {
                2
            };
            let direct = *kind == ConversationKind::Direct;
            say(facts.blocked, "blocked")
                .or(say(names.len() != users.len() + 1, "named twice"))
                .or(say(names.len() > bound as usize, "too many"))
                .or(say(direct && users.len() != 1, "not a pair"))
                .or(say(direct && !suits_direct(settings), "a pair's settings"))
                .or(say(!valid_settings(settings, &world.limits), "settings"))
        }
        Action::Join { link } => say(settings.invite_link != Some(*link), "another link")
            .or(say(!group, "a pair"))
            .or(say(world.state.member_count == 0, "deserted"))
            .or(say(
                world.state.member_count >= world.limits.group_members_max,
                "too many",
            )),
        Action::Message {
            content,
            reply_to,
            silent,
        } => say(facts.blocked, "blocked")
            .or(say(!may(settings.post), "may not post"))
            .or(say(!valid_content(world, content), "content"))
            .or(say(
                *silent && matches!(content, Content::Text(_)),
                "silent text",
            ))
            .or(reply_to.and_then(|seq| not_a_visible_message(world, command.author, seq))),
        Action::Edit { target, content } => say(facts.blocked, "blocked")
            .or(say(!may(settings.post), "may not post"))
            .or(say(!valid_content(world, content), "content"))
            .or(not_a_standing_message(world, command.author, *target))
            .or_else(|| say(author_of(world, *target) != command.author, "another's"))
            .or_else(|| say(edits_of(world, *target) >= world.limits.edits_max, "edits")),
        Action::Delete { target } => not_a_standing_message(world, command.author, *target)
            .or_else(|| {
                say(
                    author_of(world, *target) != command.author && !(group && is_admin),
                    "another's",
                )
            }),
        Action::React { target, emoji, on } => say(facts.blocked, "blocked")
            .or(say(settings.encryption == Encryption::Mls, "in the clear"))
            .or(say(
                emoji.trim().is_empty() || emoji.len() > world.limits.emoji_bytes_max,
                "emoji",
            ))
            .or(not_a_standing_message(world, command.author, *target))
            .or_else(|| {
                let own = own_reactions(world, command.author, *target);
                say(own.contains(&emoji.as_str()) == *on, "so already").or(say(
                    *on && own.len() >= world.limits.reactions_per_member_max,
                    "too many",
                ))
            }),
        Action::Invite { users } => {
            let names: BTreeSet<&UserId> = users.iter().chain([&command.author]).collect();
            let count = world.state.member_count as usize + users.len();
            say(!group, "a pair")
                .or(say(!may(settings.invite), "may not invite"))
                .or(say(
                    users.is_empty() || names.len() != users.len() + 1,
                    "named twice",
                ))
                .or(say(
                    users.iter().any(|user| world.role(*user).is_some()),
                    "in already",
                ))
                .or(say(
                    count > world.limits.group_members_max as usize,
                    "too many",
                ))
        }
        Action::Leave => {
            say(!group, "a pair").or(say(last_owner(world, role) && !alone(world), "last owner"))
        }
        Action::Remove { user } => match world.role(*user) {
            None => Some("not in"),
            Some(other) => say(!group || *user == command.author, "oneself, or a pair")
                .or(say(!is_admin || rank(other) >= rank(role), "too high")),
        },
        Action::SetRole { user, role: new } => match world.role(*user) {
            None => Some("not in"),
            Some(old) => say(!group, "a pair")
                .or(say(old == *new, "so already"))
                .or(say(
                    !may_set_role(role, old, *new, *user == command.author),
                    "may not",
                ))
                .or(say(last_owner(world, old), "last owner")),
        },
        Action::Configure(change) => {
            let mut after = settings.clone();
            change.apply_to(&mut after);
            say(!group && !suits_direct_change(change), "a pair")
                .or(say(
                    group && describes(change) && !may(settings.describe),
                    "may not describe",
                ))
                .or(say(
                    group && !describes(change) && !is_admin,
                    "may not configure",
                ))
                .or(say(after == *settings, "so already"))
                .or(say(!valid_settings(&after, &world.limits), "settings"))
        }
        Action::Commit(opaque) => say(settings.encryption != Encryption::Mls, "in the clear")
            .or(say(command.if_epoch.is_none(), "no epoch"))
            .or(say(!valid_opaque(opaque, &world.limits), "content")),
    }
}

/// The reason given is one.
pub(crate) fn refused(world: &World, command: &Command, facts: &Facts, reject: &Reject) {
    let why = Why(command, reject);
    let is_out = world.role(command.author).is_none();
    if *reject == Reject::Unsettled {
        return unsettled(world, command);
    }
    // Within what can be searched, a retry is never refused, whatever changed since.
    assert!(world.earlier_entry(command).is_none(), "{why}");
    match reject {
        Reject::NotFound => assert!(is_out, "{why}"),
        Reject::Exists => assert!(world.state.seq > 0, "{why}"),
        Reject::Suspended => assert!(facts.suspended, "{why}"),
        Reject::Blocked => assert!(facts.blocked, "{why}"),
        Reject::EpochMoved { epoch } => {
            assert_eq!(*epoch, world.state.epoch, "{why}");
            assert_ne!(command.if_epoch, Some(*epoch), "{why}");
        }
        Reject::LinkInvalid => {
            let Action::Join { link } = command.action else {
                panic!("{why}")
            };
            let stands = world.state.settings.invite_link == Some(link);
            assert!(
                !stands || world.is_direct() || world.state.member_count == 0,
                "{why}"
            );
        }
        Reject::NoChange if matches!(command.action, Action::Join { .. }) => {
            assert!(!is_out, "{why}")
        }
        Reject::UpdateNeeded | Reject::Unsettled => panic!("{why}"),
        _ => {
            let creates = matches!(command.action, Action::Create { .. } | Action::Join { .. });
            assert!(creates || !is_out, "nothing is told to who is out: {why}");
            assert!(
                forbidden(world, command, facts).is_some(),
                "without a reason: {why}"
            );
        }
    }
}

/// The search really could not be complete.
fn unsettled(world: &World, command: &Command) {
    let why = format!("{command:?} was unsettled");
    match search_for_earlier(&world.state, command) {
        Search::NotNeeded => panic!("{why}"),
        Search::Impossible => {
            let after = command.after.unwrap();
            assert!(
                after.generation != world.state.generation || after.seq > world.state.seq,
                "{why}"
            );
        }
        Search::Above(seq) => assert!(seq < world.forgotten, "{why}"),
        Search::Newest => assert!(0 < world.forgotten, "{why}"),
    }
    let impossible = search_for_earlier(&world.state, command) == Search::Impossible;
    let out_of_reach = |seq| seq <= world.forgotten;
    assert!(
        impossible || world.earlier_entry(command).is_none_or(out_of_reach),
        "{why}"
    );
}

/// What holds of a state at any time.
pub(crate) fn state(world: &World) {
    let state = &world.state;
    assert_eq!(state.seq, world.log.len() as Seq);
    let last = &world.log[world.log.len() - 1].envelope;
    assert_eq!(
        (state.seq, state.at, state.ordinal),
        (last.seq, last.at, last.ordinal)
    );
    let inside = world.members.values().filter(|member| member.is_in());
    let owners = inside
        .clone()
        .filter(|member| member.role == Role::Owner)
        .count();
    assert_eq!(state.member_count as usize, inside.clone().count());
    assert_eq!(
        state.member_count as usize,
        world.people.values().filter(|person| person.inside).count()
    );
    assert_eq!(state.owner_count as usize, owners);
    assert_eq!(owners, world.owners());
    if world.is_direct() {
        assert_eq!(
            (state.member_count, owners),
            (2, 0),
            "a pair stays one: {last:?}"
        );
    } else {
        assert!(
            owners > 0 || state.member_count == 0,
            "a group without an owner: {last:?}"
        );
        assert!(state.member_count <= world.limits.group_members_max);
    }
    for (user, member) in &world.members {
        assert_eq!(member.role, world.people[user].role);
    }
    assert!(state.recent.len() <= RECENT_MAX);
    assert_eq!(state.recent_above, state.seq - state.recent.len() as Seq);
    let changed = world
        .log
        .iter()
        .rev()
        .find(|entry| entry.envelope.kind.changes_members());
    assert_eq!(Some(state.membership_seq), changed.map(Entry::seq));
}

fn not_a_visible_message(world: &World, author: UserId, seq: Seq) -> Option<&'static str> {
    if seq == 0 || seq > world.state.seq || !world.may_see(author, seq) {
        return Some("not to be seen");
    }
    (!is_message(&world.log[seq as usize - 1])).then_some("not a message")
}

fn not_a_standing_message(world: &World, author: UserId, seq: Seq) -> Option<&'static str> {
    not_a_visible_message(world, author, seq).or_else(|| {
        let index = seq as usize - 1;
        let gone = world.notes[index].erased || world.has_vanished(&world.log[index]);
        gone.then_some("erased")
    })
}

fn author_of(world: &World, seq: Seq) -> UserId {
    world.log[seq as usize - 1].envelope.author
}

fn edits_of(world: &World, seq: Seq) -> usize {
    world.notes[seq as usize - 1].edits
}

fn own_reactions(world: &World, author: UserId, seq: Seq) -> Vec<&str> {
    let all = world.notes[seq as usize - 1].reactions.iter();
    all.filter(|(user, _)| *user == author)
        .map(|(_, emoji)| emoji.as_str())
        .collect()
}

fn last_owner(world: &World, role: Role) -> bool {
    role == Role::Owner && world.owners() == 1
}

fn alone(world: &World) -> bool {
    world.people.values().filter(|person| person.inside).count() == 1
}

fn rank(role: Role) -> u8 {
    match role {
        Role::Member => 0,
        Role::Admin => 1,
        Role::Owner => 2,
    }
}

fn may_set_role(own: Role, old: Role, new: Role, oneself: bool) -> bool {
    match (own, old, new) {
        (Role::Owner, ..) => true,
        (Role::Admin, Role::Member, Role::Admin) => true,
        (Role::Admin, Role::Admin, Role::Member) => oneself,
        _ => false,
    }
}
