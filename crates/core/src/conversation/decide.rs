//! May this command become the next entry?
//!
//! In: the state, the command, what it names, facts from outside, the bounds and the time. Out: the
//! entry to append, or the earlier try that succeeded already, or a refusal. Next: the store
//! appends the entry at the head that the state is of, then [`super::apply`].

use super::command::{Action, Command, Earlier, Facts, Named, Reject, Search, Target};
use super::state::{
    ConversationKind, Encryption, Limits, Member, Policy, Retention, Role, Settings,
    SettingsChange, State,
};
use crate::entry::{Body, Content, Entry, Envelope, Kind, Opaque, RULES, TextContent};
use crate::id::UserId;
use crate::log::{SEQ_MAX, Seq};
use crate::time::Time;

/// Disappearing messages vanish after a second at the earliest …
const VANISH_MILLIS_MIN: u64 = 1_000;
/// … and after a year at the latest.
const VANISH_MILLIS_MAX: u64 = 366 * crate::time::DAY_MILLIS;

/// The answer to a command that was not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every decision is an entry, and is taken apart at once"
)]
pub enum Decision {
    /// This is to be the next entry.
    Append(Entry),
    /// An earlier try became this entry: the answer is the same as then.
    Already {
        /// The entry.
        seq: Seq,
        /// Its time.
        at: Time,
    },
}

/// Where an earlier try of the command has to be looked for before [`decide`] may be asked.
#[must_use]
pub fn search_for_earlier(state: &State, command: &Command) -> Search {
    if state
        .find_recent(command.author, command.client_id)
        .is_some()
    {
        return Search::NotNeeded;
    }
    search_beyond(state, command)
}

/// Where to look for what the state does not remember.
fn search_beyond(state: &State, command: &Command) -> Search {
    match command.after {
        Some(after) if after.generation != state.generation || after.seq > state.seq => {
            Search::Impossible
        }
        Some(after) if after.seq < state.recent_above => Search::Above(after.seq),
        None if state.recent_above > 0 => Search::Newest,
        _ => Search::NotNeeded,
    }
}

/// Decides a command against the state.
///
/// `named.earlier` is the result of the search that [`search_for_earlier`] asks for; an earlier try
/// is answered before any other rule is looked at (rule 3 of the design).
///
/// # Errors
/// A [`Reject`] says which rule forbids it; nothing has changed.
pub fn decide(
    state: &State,
    command: &Command,
    named: &Named<'_>,
    facts: &Facts,
    limits: &Limits,
    now: Time,
) -> Result<Decision, Reject> {
    if let Some(earlier) = earlier_try(state, command, named.earlier)? {
        return Ok(earlier);
    }
    if state.rules > RULES {
        return Err(Reject::UpdateNeeded);
    }
    if facts.suspended {
        return Err(Reject::Suspended);
    }
    let verdict = match &command.action {
        Action::Create {
            kind,
            users,
            settings,
        } => decide_create(state, command, *kind, users, settings, facts, limits)?,
        Action::Join { link } => decide_join(state, command, link, named, limits)?,
        action => {
            let member = author_in(state, command, named)?;
            if command.if_epoch.is_some_and(|epoch| epoch != state.epoch) {
                return Err(Reject::EpochMoved { epoch: state.epoch });
            }
            decide_member_action(
                &Asked {
                    state,
                    command,
                    named,
                    facts,
                    limits,
                    member,
                },
                action,
            )?
        }
    };
    Ok(Decision::Append(entry_of(state, command, verdict, now)))
}

/// What the rules make of an action; the rest of the envelope follows from the state.
struct Verdict {
    kind: Kind,
    body: Body,
    target: Option<Seq>,
    counts: bool,
    /// The body vanishes this long after the entry's time, or at a given time.
    expires: Expires,
}

enum Expires {
    Never,
    After(u64),
    At(Time),
}

impl Verdict {
    fn plain(kind: Kind, body: Body) -> Verdict {
        Verdict {
            kind,
            body,
            target: None,
            counts: false,
            expires: Expires::Never,
        }
    }
}

/// Everything that the rules for a member's action may look at.
struct Asked<'a> {
    state: &'a State,
    command: &'a Command,
    named: &'a Named<'a>,
    facts: &'a Facts,
    limits: &'a Limits,
    member: &'a Member,
}

fn earlier_try(
    state: &State,
    command: &Command,
    earlier: Earlier,
) -> Result<Option<Decision>, Reject> {
    if let Some(recent) = state.find_recent(command.author, command.client_id) {
        return Ok(Some(Decision::Already {
            seq: recent.seq,
            at: recent.at,
        }));
    }
    match earlier {
        Earlier::Found { seq, at } => Ok(Some(Decision::Already { seq, at })),
        Earlier::Absent => Ok(None),
        Earlier::Incomplete => Err(Reject::Unsettled),
        Earlier::NotSearched => match search_beyond(state, command) {
            Search::NotNeeded => Ok(None),
            Search::Above(_) | Search::Newest | Search::Impossible => Err(Reject::Unsettled),
        },
    }
}

fn author_in<'a>(
    state: &State,
    command: &Command,
    named: &Named<'a>,
) -> Result<&'a Member, Reject> {
    if state.seq == 0 {
        return Err(Reject::NotFound);
    }
    named
        .members
        .get(&command.author)
        .filter(|member| member.is_in())
        .ok_or(Reject::NotFound)
}

fn entry_of(state: &State, command: &Command, verdict: Verdict, now: Time) -> Entry {
    let at = now.max(state.at);
    Entry {
        envelope: Envelope {
            seq: state.seq + 1,
            kind: verdict.kind,
            rules: RULES,
            author: command.author,
            device: command.device,
            at,
            client_id: command.client_id,
            target: verdict.target,
            lane: 0,
            expires: match verdict.expires {
                Expires::Never => None,
                Expires::After(millis) => Some(at.plus_millis(millis)),
                Expires::At(time) => Some(time),
            },
            epoch: state.epoch,
            counts: verdict.counts,
            ordinal: state.ordinal + u64::from(verdict.counts),
        },
        body: verdict.body,
    }
}

fn decide_create(
    state: &State,
    command: &Command,
    kind: ConversationKind,
    users: &[UserId],
    settings: &Settings,
    facts: &Facts,
    limits: &Limits,
) -> Result<Verdict, Reject> {
    if state.seq > 0 {
        return Err(Reject::Exists);
    }
    if facts.blocked {
        return Err(Reject::Blocked);
    }
    check_distinct(users, command.author)?;
    check_settings(settings, limits)?;
    if kind == ConversationKind::Direct && !suits_direct(settings) {
        return Err(Reject::NotInThisKind);
    }
    let (own_role, bound) = match kind {
        ConversationKind::Direct if users.len() != 1 => {
            return Err(Reject::Invalid("a direct conversation has one other user"));
        }
        ConversationKind::Direct => (Role::Member, 2),
        ConversationKind::Group => (Role::Owner, limits.group_members_max),
    };
    check_bound(
        "group_members_max",
        users.len() as u64 + 1,
        u64::from(bound),
    )?;
    let members = std::iter::once((command.author, own_role))
        .chain(users.iter().map(|&user| (user, Role::Member)))
        .collect();
    Ok(Verdict::plain(
        Kind::Create,
        Body::Create {
            kind,
            members,
            settings: settings.clone(),
        },
    ))
}

fn decide_join(
    state: &State,
    command: &Command,
    link: &[u8; 16],
    named: &Named<'_>,
    limits: &Limits,
) -> Result<Verdict, Reject> {
    // No difference between a conversation that is not there and a link that is wrong. Nobody comes
    // into a group that everybody left: it would have no owner.
    if state.seq == 0
        || state.member_count == 0
        || state.kind != ConversationKind::Group
        || state.settings.invite_link.as_ref() != Some(link)
    {
        return Err(Reject::LinkInvalid);
    }
    if named
        .members
        .get(&command.author)
        .is_some_and(Member::is_in)
    {
        return Err(Reject::NoChange);
    }
    check_bound(
        "group_members_max",
        u64::from(state.member_count) + 1,
        u64::from(limits.group_members_max),
    )?;
    Ok(join_of(state, vec![command.author]))
}

fn join_of(state: &State, users: Vec<UserId>) -> Verdict {
    let from = if state.settings.share_history {
        1
    } else {
        state.seq + 1
    };
    Verdict::plain(Kind::Join, Body::Join { users, from })
}

fn decide_member_action(asked: &Asked<'_>, action: &Action) -> Result<Verdict, Reject> {
    match action {
        Action::Message {
            content,
            reply_to,
            silent,
        } => decide_message(asked, content, *reply_to, *silent),
        Action::Edit { target, content } => decide_edit(asked, *target, content),
        Action::Delete { target } => decide_delete(asked, *target),
        Action::React { target, emoji, on } => decide_reaction(asked, *target, emoji, *on),
        Action::Invite { users } => decide_invite(asked, users),
        Action::Leave => decide_leave(asked),
        Action::Remove { user } => decide_remove(asked, *user),
        Action::SetRole { user, role } => decide_role(asked, *user, *role),
        Action::Configure(change) => decide_configure(asked, change),
        Action::Commit(opaque) => decide_commit(asked, opaque),
        Action::Create { .. } | Action::Join { .. } => Err(Reject::NotInThisKind),
    }
}

fn decide_message(
    asked: &Asked<'_>,
    content: &Content,
    reply_to: Option<Seq>,
    silent: bool,
) -> Result<Verdict, Reject> {
    check_may_post(asked)?;
    check_content(asked, content)?;
    if silent && !matches!(content, Content::Opaque(_)) {
        return Err(Reject::Invalid("only opaque content can be silent"));
    }
    if let Some(seq) = reply_to {
        // A reply may refer to a deleted message: the reference stays, there is just nothing to show.
        if seq > asked.state.seq || !asked.member.may_see(seq) {
            return Err(Reject::TargetNotFound);
        }
        if asked
            .named
            .target
            .as_ref()
            .is_some_and(|target| target.kind != Kind::Message)
        {
            return Err(Reject::TargetNotMessage);
        }
    }
    Ok(Verdict {
        kind: Kind::Message,
        body: Body::Message(content.clone()),
        target: reply_to,
        counts: !silent,
        expires: asked
            .state
            .settings
            .vanish_after
            .map_or(Expires::Never, Expires::After),
    })
}

fn decide_edit(asked: &Asked<'_>, seq: Seq, content: &Content) -> Result<Verdict, Reject> {
    check_may_post(asked)?;
    let target = target_message(asked, seq)?;
    if target.author != asked.command.author {
        return Err(Reject::NotAllowed);
    }
    check_content(asked, content)?;
    check_bound(
        "edits_max",
        target.edits as u64 + 1,
        asked.limits.edits_max as u64,
    )?;
    Ok(Verdict {
        kind: Kind::Edit,
        body: Body::Edit(content.clone()),
        target: Some(seq),
        counts: false,
        // An edit vanishes with its message, not later.
        expires: target.expires.map_or(Expires::Never, Expires::At),
    })
}

fn decide_delete(asked: &Asked<'_>, seq: Seq) -> Result<Verdict, Reject> {
    let target = target_message(asked, seq)?;
    let moderates = asked.state.kind == ConversationKind::Group && asked.member.role >= Role::Admin;
    if target.author != asked.command.author && !moderates {
        return Err(Reject::NotAllowed);
    }
    Ok(Verdict {
        target: Some(seq),
        ..Verdict::plain(Kind::Delete, Body::Delete)
    })
}

fn decide_reaction(asked: &Asked<'_>, seq: Seq, emoji: &str, on: bool) -> Result<Verdict, Reject> {
    if asked.facts.blocked {
        return Err(Reject::Blocked);
    }
    let target = target_message(asked, seq)?;
    if asked.state.settings.encryption == Encryption::Mls {
        return Err(Reject::MustBeEncrypted);
    }
    if emoji.trim().is_empty() || emoji.chars().any(char::is_control) {
        return Err(Reject::Invalid("emoji"));
    }
    check_bound(
        "emoji_bytes_max",
        emoji.len() as u64,
        asked.limits.emoji_bytes_max as u64,
    )?;
    let stands = target.reactions.iter().any(|other| other == emoji);
    if stands == on {
        return Err(Reject::NoChange);
    }
    if on {
        let max = asked.limits.reactions_per_member_max as u64;
        check_bound(
            "reactions_per_member_max",
            target.reactions.len() as u64 + 1,
            max,
        )?;
    }
    Ok(Verdict {
        target: Some(seq),
        ..Verdict::plain(
            Kind::Reaction,
            Body::Reaction {
                emoji: emoji.to_owned(),
                on,
            },
        )
    })
}

fn decide_invite(asked: &Asked<'_>, users: &[UserId]) -> Result<Verdict, Reject> {
    check_group(asked)?;
    check_policy(asked.state.settings.invite, asked.member)?;
    if users.is_empty() {
        return Err(Reject::Invalid("users"));
    }
    check_distinct(users, asked.command.author)?;
    if users
        .iter()
        .any(|user| asked.named.members.get(user).is_some_and(Member::is_in))
    {
        return Err(Reject::NoChange);
    }
    let count = u64::from(asked.state.member_count) + users.len() as u64;
    check_bound(
        "group_members_max",
        count,
        u64::from(asked.limits.group_members_max),
    )?;
    Ok(join_of(asked.state, users.to_vec()))
}

fn decide_leave(asked: &Asked<'_>) -> Result<Verdict, Reject> {
    check_group(asked)?;
    check_owner_remains(asked, asked.member, None)?;
    Ok(Verdict::plain(Kind::Leave, Body::Leave))
}

fn decide_remove(asked: &Asked<'_>, user: UserId) -> Result<Verdict, Reject> {
    check_group(asked)?;
    if user == asked.command.author {
        return Err(Reject::Invalid("to go oneself is to leave"));
    }
    let subject = subject_in(asked, user)?;
    if asked.member.role < Role::Admin || asked.member.role <= subject.role {
        return Err(Reject::NotAllowed);
    }
    Ok(Verdict::plain(Kind::Remove, Body::Remove { user }))
}

fn decide_role(asked: &Asked<'_>, user: UserId, role: Role) -> Result<Verdict, Reject> {
    check_group(asked)?;
    let subject = subject_in(asked, user)?;
    let own = asked.member.role;
    // Owners give and take every role; admins make members admins, and may step down themselves.
    let allowed = match own {
        Role::Owner => true,
        Role::Admin => {
            role <= Role::Admin && (subject.role < Role::Admin || user == asked.command.author)
        }
        Role::Member => false,
    };
    if !allowed {
        return Err(Reject::NotAllowed);
    }
    if subject.role == role {
        return Err(Reject::NoChange);
    }
    check_owner_remains(asked, subject, Some(role))?;
    Ok(Verdict::plain(Kind::Role, Body::Role { user, role }))
}

fn decide_configure(asked: &Asked<'_>, change: &SettingsChange) -> Result<Verdict, Reject> {
    let vanishing = SettingsChange {
        vanish_after: change.vanish_after,
        ..SettingsChange::default()
    };
    match asked.state.kind {
        // Either of two people may make their messages vanish; a direct conversation has no other settings.
        ConversationKind::Direct if *change == vanishing => {}
        ConversationKind::Direct => return Err(Reject::NotInThisKind),
        ConversationKind::Group if change.only_describes() => {
            check_policy(asked.state.settings.describe, asked.member)?;
        }
        ConversationKind::Group => check_policy(Policy::Admins, asked.member)?,
    }
    let mut settings = asked.state.settings.clone();
    change.apply_to(&mut settings);
    if settings == asked.state.settings {
        return Err(Reject::NoChange);
    }
    check_settings(&settings, asked.limits)?;
    Ok(Verdict::plain(
        Kind::Settings,
        Body::Settings(change.clone()),
    ))
}

fn decide_commit(asked: &Asked<'_>, opaque: &Opaque) -> Result<Verdict, Reject> {
    if asked.state.settings.encryption != Encryption::Mls {
        return Err(Reject::NotInThisKind);
    }
    if asked.command.if_epoch.is_none() {
        return Err(Reject::Invalid("a commit names its epoch"));
    }
    check_opaque(opaque, asked.limits)?;
    Ok(Verdict::plain(Kind::Commit, Body::Commit(opaque.clone())))
}

fn target_message<'a>(asked: &'a Asked<'_>, seq: Seq) -> Result<&'a Target, Reject> {
    let target = asked.named.target.as_ref().ok_or(Reject::TargetNotFound)?;
    if !asked.member.may_see(seq) {
        return Err(Reject::TargetNotFound);
    }
    if target.kind != Kind::Message {
        return Err(Reject::TargetNotMessage);
    }
    if target.erased {
        return Err(Reject::TargetErased);
    }
    Ok(target)
}

fn subject_in<'a>(asked: &Asked<'a>, user: UserId) -> Result<&'a Member, Reject> {
    asked
        .named
        .members
        .get(&user)
        .filter(|member| member.is_in())
        .ok_or(Reject::NoSuchMember)
}

fn check_may_post(asked: &Asked<'_>) -> Result<(), Reject> {
    if asked.facts.blocked {
        return Err(Reject::Blocked);
    }
    check_policy(asked.state.settings.post, asked.member)
}

fn check_group(asked: &Asked<'_>) -> Result<(), Reject> {
    if asked.state.kind == ConversationKind::Group {
        Ok(())
    } else {
        Err(Reject::NotInThisKind)
    }
}

fn check_policy(policy: Policy, member: &Member) -> Result<(), Reject> {
    if policy.allows(member.role) {
        Ok(())
    } else {
        Err(Reject::NotAllowed)
    }
}

/// Refuses what would leave members behind without an owner.
fn check_owner_remains(
    asked: &Asked<'_>,
    subject: &Member,
    role: Option<Role>,
) -> Result<(), Reject> {
    let gone = role.is_none();
    let is_last = subject.role == Role::Owner && asked.state.owner_count == 1;
    let others = asked.state.member_count > 1 || !gone;
    if is_last && others && role != Some(Role::Owner) {
        Err(Reject::LastOwner)
    } else {
        Ok(())
    }
}

fn check_distinct(users: &[UserId], author: UserId) -> Result<(), Reject> {
    let mut sorted = users.to_vec();
    sorted.push(author);
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Reject::Invalid("a user is named twice, or is the author"));
    }
    Ok(())
}

fn check_content(asked: &Asked<'_>, content: &Content) -> Result<(), Reject> {
    match content {
        Content::Opaque(opaque) => check_opaque(opaque, asked.limits),
        Content::Text(_) if asked.state.settings.encryption == Encryption::Mls => {
            Err(Reject::MustBeEncrypted)
        }
        Content::Text(text) => check_text(text, asked.limits),
    }
}

fn check_text(content: &TextContent, limits: &Limits) -> Result<(), Reject> {
    if content.text.trim().is_empty() && content.attachments.is_empty() {
        return Err(Reject::Invalid("the message says nothing"));
    }
    // Counting characters walks the text; its bytes already say when there cannot be too many.
    if content.text.len() > limits.text_chars_max {
        check_bound(
            "text_chars_max",
            content.text.chars().count() as u64,
            limits.text_chars_max as u64,
        )?;
    }
    check_bound(
        "mentions_max",
        content.mentions.len() as u64,
        limits.mentions_max as u64,
    )?;
    check_bound(
        "attachments_max",
        content.attachments.len() as u64,
        limits.attachments_max as u64,
    )?;
    for attachment in &content.attachments {
        if attachment.reference.is_empty() {
            return Err(Reject::Invalid("an attachment without a reference"));
        }
        // Numbers on the wire fit in 53 bits.
        if attachment.bytes > SEQ_MAX {
            return Err(Reject::Invalid("an attachment of an impossible size"));
        }
        for text in [
            &attachment.reference,
            &attachment.name,
            &attachment.media_type,
        ] {
            check_bound(
                "reference_bytes_max",
                text.len() as u64,
                limits.reference_bytes_max as u64,
            )?;
        }
    }
    Ok(())
}

fn check_opaque(opaque: &Opaque, limits: &Limits) -> Result<(), Reject> {
    if opaque.content_type.is_empty() {
        return Err(Reject::Invalid("content_type"));
    }
    check_bound(
        "reference_bytes_max",
        opaque.content_type.len() as u64,
        limits.reference_bytes_max as u64,
    )?;
    check_bound(
        "opaque_bytes_max",
        opaque.bytes.len() as u64,
        limits.opaque_bytes_max as u64,
    )
}

/// Whether two people may begin with these settings: neither may bind the other by more than how long
/// messages live and who can read them.
fn suits_direct(settings: &Settings) -> bool {
    let Settings {
        retention,
        vanish_after,
        encryption,
        ..
    } = *settings;
    *settings
        == Settings {
            retention,
            vanish_after,
            encryption,
            ..Settings::default()
        }
}

fn check_settings(settings: &Settings, limits: &Limits) -> Result<(), Reject> {
    check_bound(
        "name_chars_max",
        settings.name.chars().count() as u64,
        limits.name_chars_max as u64,
    )?;
    let description = settings.description.chars().count() as u64;
    check_bound(
        "description_chars_max",
        description,
        limits.description_chars_max as u64,
    )?;
    check_bound(
        "reference_bytes_max",
        settings.avatar.len() as u64,
        limits.reference_bytes_max as u64,
    )?;
    if settings.retention == Retention::Days(0) {
        return Err(Reject::Invalid("retention: at least one day"));
    }
    if settings
        .vanish_after
        .is_some_and(|millis| !(VANISH_MILLIS_MIN..=VANISH_MILLIS_MAX).contains(&millis))
    {
        return Err(Reject::Invalid("vanish_after: between a second and a year"));
    }
    Ok(())
}

fn check_bound(limit: &'static str, value: u64, max: u64) -> Result<(), Reject> {
    if value > max {
        Err(Reject::TooMuch { limit, max })
    } else {
        Ok(())
    }
}
