//! A conversation with a naive account of it beside.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tidings_core::conversation::{
    Action, Command, ConversationKind, Decision, Earlier, Facts, Limits, Member, MemberMap, Named,
    Reject, Role, SPANS_MAX, Search, State, Target, apply, decide, search_for_earlier,
};
use tidings_core::entry::{Body, Entry, Kind};
use tidings_core::log::{Generation, Seq};
use tidings_core::mark::{MarkValue, unread};
use tidings_core::{ClientId, Time, UserId};

use crate::commands::{Bits, next_command};
use crate::expect;

/// So many people; fewer fit into the group.
pub(crate) const USERS: u64 = 7;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct World {
    pub(crate) limits: Limits,
    pub(crate) state: State,
    pub(crate) members: MemberMap,
    pub(crate) log: Vec<Entry>,
    pub(crate) now: Time,
    /// What was accepted, to be tried again.
    pub(crate) accepted: Vec<Command>,
    /// Envelopes up to here are forgotten.
    pub(crate) forgotten: Seq,
    pub(crate) next_client_id: u64,
    // The naive account.
    pub(crate) notes: Vec<Note>,
    pub(crate) people: BTreeMap<UserId, Person>,
    by_client_id: HashMap<(UserId, ClientId), Seq>,
}

/// What became of an entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Note {
    pub(crate) edits: usize,
    pub(crate) erased: bool,
    pub(crate) reactions: BTreeSet<(UserId, String)>,
}

/// What a person was and saw.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Person {
    pub(crate) role: Role,
    pub(crate) inside: bool,
    /// The first and last entry seen in each stay.
    pub(crate) stays: Vec<(Seq, Seq)>,
    pub(crate) joined: Seq,
    /// A read mark that the person set at some time.
    pub(crate) read: MarkValue,
}

pub(crate) fn user(number: u64) -> UserId {
    UserId([number as u8 + 1; 16])
}

impl World {
    pub(crate) fn new(generation: u8) -> World {
        World {
            limits: Limits {
                text_chars_max: 20,
                opaque_bytes_max: 30,
                attachments_max: 1,
                mentions_max: 2,
                group_members_max: 5,
                name_chars_max: 4,
                description_chars_max: 6,
                reference_bytes_max: 8,
                emoji_bytes_max: 4,
                reactions_per_member_max: 2,
                edits_max: 3,
            },
            state: State::empty(Generation([generation; 16])),
            members: MemberMap::new(),
            log: Vec::new(),
            now: Time(1_000),
            accepted: Vec::new(),
            forgotten: 0,
            next_client_id: 0,
            notes: Vec::new(),
            people: BTreeMap::new(),
            by_client_id: HashMap::new(),
        }
    }

    /// Lives through the numbers. A conversation that everybody has left makes room for a new one.
    pub(crate) fn run(steps: &[u64]) -> World {
        World::run_and_tell(steps, |_| ())
    }

    /// The same, and tells each answer.
    pub(crate) fn run_and_tell(
        steps: &[u64],
        mut tell: impl FnMut(&Result<Decision, Reject>),
    ) -> World {
        let mut world = World::new(1);
        for (index, &step) in steps.iter().enumerate() {
            let mut bits = Bits(step);
            let over = bits.take(16) == 0
                && world.state.seq > 0
                && world.people.values().all(|person| !person.inside);
            if over || (index % 1_024 == 1_023) {
                world = World::new(world.state.generation.0[0].wrapping_add(1));
            }
            // Clocks jump, back as well.
            world.now = Time((world.now.0 + bits.take(64) * 10).saturating_sub(300));
            tell(&world.step(&mut bits));
            if index % 8 == 0 {
                world.check_person(user(bits.take(USERS)), &mut bits);
            }
        }
        world
    }

    fn step(&mut self, bits: &mut Bits) -> Result<Decision, Reject> {
        let (command, facts) = next_command(self, bits);
        if self.state.seq % 97 == 96 && bits.take(4) == 0 {
            self.forgotten = self.state.seq - 90;
        }
        self.obey(command, facts)
    }

    /// Decides a command, applies what comes of it, and checks all that is known of either.
    pub(crate) fn obey(&mut self, command: Command, facts: Facts) -> Result<Decision, Reject> {
        let answer = self.decide(&command, &facts);
        match &answer {
            Ok(Decision::Append(entry)) => {
                expect::accepted(self, &command, &facts, entry);
                self.take(entry);
                self.accepted.push(command);
                expect::state(self);
            }
            Ok(Decision::Already { seq, at }) => {
                assert_eq!(self.earlier_entry(&command), Some(*seq), "{command:?}");
                assert_eq!(self.log[*seq as usize - 1].envelope.at, *at);
            }
            Err(reject) => expect::refused(self, &command, &facts, reject),
        }
        answer
    }

    fn decide(&self, command: &Command, facts: &Facts) -> Result<Decision, Reject> {
        let named = Named {
            members: &self.members,
            target: self.target(command),
            earlier: self.search(command),
        };
        let answer = decide(&self.state, command, &named, facts, &self.limits, self.now);
        // Nobody but those that the command names has a say.
        let alone = self.named_members(command);
        let named = Named {
            members: &alone,
            ..named
        };
        let again = decide(&self.state, command, &named, facts, &self.limits, self.now);
        assert_eq!(answer, again, "{command:?}");
        answer
    }

    /// The entry that the command became before, forgotten or not.
    pub(crate) fn earlier_entry(&self, command: &Command) -> Option<Seq> {
        self.by_client_id
            .get(&(command.author, command.client_id))
            .copied()
    }

    pub(crate) fn has_used(&self, author: UserId, client_id: ClientId) -> bool {
        self.by_client_id.contains_key(&(author, client_id))
    }

    /// What a driver would find by looking through the envelopes that are kept.
    fn search(&self, command: &Command) -> Earlier {
        let above = match search_for_earlier(&self.state, command) {
            Search::NotNeeded | Search::Impossible => return Earlier::NotSearched,
            Search::Above(seq) => seq,
            Search::Newest => 0,
        };
        match self.earlier_entry(command) {
            Some(seq) if seq > above.max(self.forgotten) => Earlier::Found {
                seq,
                at: self.log[seq as usize - 1].envelope.at,
            },
            _ if above < self.forgotten => Earlier::Incomplete,
            _ => Earlier::Absent,
        }
    }

    fn named_members(&self, command: &Command) -> MemberMap {
        let mut names = vec![command.author];
        match &command.action {
            Action::Invite { users } | Action::Create { users, .. } => names.extend(users),
            Action::Remove { user } | Action::SetRole { user, .. } => names.push(*user),
            _ => {}
        }
        let known = |user| Some((user, self.members.get(&user)?.clone()));
        names.into_iter().filter_map(known).collect()
    }

    fn target(&self, command: &Command) -> Option<Target> {
        let seq = target_of(&command.action)?;
        let entry = self
            .log
            .get(usize::try_from(seq.checked_sub(1)?).unwrap())?;
        let note = &self.notes[seq as usize - 1];
        let own = note
            .reactions
            .iter()
            .filter(|(user, _)| *user == command.author);
        Some(Target {
            kind: entry.envelope.kind,
            author: entry.envelope.author,
            expires: entry.envelope.expires,
            erased: note.erased || self.has_vanished(entry),
            edits: note.edits,
            reactions: own.map(|(_, emoji)| emoji.clone()).collect(),
        })
    }

    pub(crate) fn has_vanished(&self, entry: &Entry) -> bool {
        entry
            .envelope
            .expires
            .is_some_and(|expires| expires <= self.now)
    }

    /// Applies an entry to the state and to the naive account.
    fn take(&mut self, entry: &Entry) {
        let mut few = self.named_in(entry);
        let mut alike = self.state.clone();
        apply(&mut alike, &mut few, entry).unwrap();
        apply(&mut self.state, &mut self.members, entry).unwrap();
        assert_eq!(
            self.state, alike,
            "only those whom the entry names are needed"
        );
        for (user, member) in &few {
            assert_eq!(self.members.get(user), Some(member));
        }
        self.log.push(entry.clone());
        self.notes.push(Note::default());
        let envelope = &entry.envelope;
        self.by_client_id
            .insert((envelope.author, envelope.client_id), envelope.seq);
        self.note(entry);
        for person in self.people.values_mut().filter(|person| person.inside) {
            person.stays.last_mut().unwrap().1 = envelope.seq;
        }
        self.move_people(entry);
    }

    /// The members that `apply` needs: the author and those in the body.
    fn named_in(&self, entry: &Entry) -> MemberMap {
        let mut names = vec![entry.envelope.author];
        match &entry.body {
            Body::Join { users, .. } => names.extend(users),
            Body::Remove { user } | Body::Role { user, .. } => names.push(*user),
            _ => {}
        }
        let known = |user| Some((user, self.members.get(&user)?.clone()));
        names.into_iter().filter_map(known).collect()
    }

    fn note(&mut self, entry: &Entry) {
        let Some(target) = entry
            .envelope
            .target
            .filter(|_| entry.envelope.alters_target())
        else {
            return;
        };
        let note = &mut self.notes[target as usize - 1];
        match &entry.body {
            Body::Edit(_) => note.edits += 1,
            Body::Delete => note.erased = true,
            Body::Reaction { emoji, on } => {
                let reaction = (entry.envelope.author, emoji.clone());
                if *on {
                    assert!(note.reactions.insert(reaction));
                } else {
                    assert!(note.reactions.remove(&reaction));
                }
            }
            body => panic!("{body:?} alters nothing"),
        }
    }

    fn move_people(&mut self, entry: &Entry) {
        let seq = entry.envelope.seq;
        match &entry.body {
            Body::Create { members, .. } => {
                for &(user, role) in members {
                    self.enter(user, role, seq, seq);
                }
            }
            Body::Join { users, from } => {
                for &user in users {
                    self.enter(user, Role::Member, seq, *from);
                }
            }
            Body::Leave => self.people.get_mut(&entry.envelope.author).unwrap().inside = false,
            Body::Remove { user } => self.people.get_mut(user).unwrap().inside = false,
            Body::Role { user, role } => self.people.get_mut(user).unwrap().role = *role,
            _ => {}
        }
    }

    fn enter(&mut self, user: UserId, role: Role, seq: Seq, from: Seq) {
        let new = Person {
            role,
            inside: false,
            stays: vec![],
            joined: 0,
            read: MarkValue::default(),
        };
        let person = self.people.entry(user).or_insert(new);
        assert!(!person.inside, "nobody comes in twice");
        person.role = role;
        person.inside = true;
        person.joined = seq;
        person.stays.push((from, seq));
    }

    /// Whether the person may see the entry, by what they lived through.
    pub(crate) fn may_see(&self, user: UserId, seq: Seq) -> bool {
        let Some(person) = self.people.get(&user).filter(|person| person.inside) else {
            return false;
        };
        let remembered = person.stays.iter().rev().take(SPANS_MAX);
        // Who is in sees what is yet to come as well.
        let current = person.stays.last().is_some_and(|stay| stay.0 <= seq);
        current
            || remembered
                .into_iter()
                .any(|&(first, last)| (first..=last).contains(&seq))
    }

    pub(crate) fn role(&self, user: UserId) -> Option<Role> {
        self.people
            .get(&user)
            .filter(|person| person.inside)
            .map(|person| person.role)
    }

    pub(crate) fn owners(&self) -> usize {
        let owns = |person: &&Person| person.inside && person.role == Role::Owner;
        self.people.values().filter(owns).count()
    }

    pub(crate) fn is_direct(&self) -> bool {
        self.state.kind == ConversationKind::Direct
    }

    /// What is derived for one person, against counting through the whole log.
    pub(crate) fn check_person(&mut self, user: UserId, bits: &mut Bits) {
        let seq = bits.take(self.state.seq + 3);
        let member = self.members.get(&user);
        assert_eq!(member.is_some(), self.people.contains_key(&user));
        assert_eq!(
            member.is_some_and(|member| member.may_see(seq)),
            self.may_see(user, seq),
            "{seq}"
        );
        let Some(member) = member.cloned() else {
            return;
        };
        let person = &self.people[&user];
        assert_eq!(member.is_in(), person.inside);
        assert_eq!(
            member.is_recipient(seq),
            person.inside && person.joined <= seq
        );
        let visible = (1..=self.state.seq + 1).find(|&seq| self.may_see(user, seq));
        assert_eq!(member.first_visible(), visible.filter(|_| person.inside));
        self.check_unread(user, &member);
        let place = MarkValue {
            seq,
            ordinal: self.count(|entry| entry.seq() <= seq),
            own: self.count(|entry| entry.seq() <= seq && entry.envelope.author == user),
            at: self.now,
        };
        let person = self.people.get_mut(&user).unwrap();
        if seq <= self.state.seq {
            person.read = person.read.max(place);
        }
        self.check_unread(user, &member);
    }

    fn check_unread(&self, user: UserId, member: &Member) {
        let base = member.joined.max(self.people[&user].read);
        let by_others = |entry: &Entry| entry.seq() > base.seq && entry.envelope.author != user;
        assert_eq!(
            unread(self.state.ordinal, member.own, base),
            self.count(by_others)
        );
        assert_eq!(
            member.own,
            self.count(|entry| entry.envelope.author == user)
        );
    }

    fn count(&self, which: impl Fn(&Entry) -> bool) -> u64 {
        let says =
            |entry: &&Entry| matches!(&entry.body, Body::Message(_)) && entry.envelope.counts;
        self.log
            .iter()
            .filter(says)
            .filter(|entry| which(entry))
            .count() as u64
    }
}

pub(crate) fn target_of(action: &Action) -> Option<Seq> {
    match action {
        Action::Message { reply_to, .. } => *reply_to,
        Action::Edit { target, .. } | Action::Delete { target } | Action::React { target, .. } => {
            Some(*target)
        }
        _ => None,
    }
}

/// Whether the entry is a message.
pub(crate) fn is_message(entry: &Entry) -> bool {
    entry.envelope.kind == Kind::Message
}
