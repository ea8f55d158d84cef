//! What may be typed after a slash.

use tidings_core::ConversationId;
use tidings_protocol::entry::Role;

use super::clock::read_span;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    Dm(String),
    Group { name: String, users: Vec<String> },
    Invite(Vec<String>),
    Remove(String),
    Leave,
    Rename(String),
    Describe(String),
    Role(String, Role),
    Reply(String),
    Edit(String),
    Delete,
    React(String),
    Vanish(u64),
    Link(bool),
    Join(ConversationId, [u8; 16]),
    Members,
    Devices,
    Retry,
    Cancel,
    Help,
    Quit,
}

/// Usage and meaning, for the help.
pub(crate) const COMMANDS: [(&str, &str); 21] = [
    ("/dm NAME", "talk with somebody"),
    ("/group NAME @ana @ben", "begin a group"),
    ("/invite @ana @ben", "bring people in"),
    ("/remove @ana", "make somebody go"),
    ("/leave", "leave the group"),
    ("/rename NAME", "give the group another name"),
    ("/describe TEXT", "say what the group is about"),
    (
        "/role @ana owner|admin|member",
        "give somebody another role",
    ),
    ("/members", "who is in it"),
    ("/link, /link off", "make an invite link, withdraw it"),
    ("/join LINK", "come in by an invite link"),
    (
        "/vanish 1h, /vanish off",
        "messages vanish after a time (s, m, h, d, w)",
    ),
    ("/reply TEXT", "answer the chosen message, or the last"),
    ("/edit TEXT", "change the chosen own message, or the last"),
    (
        "/delete",
        "delete the chosen own message, or the last, for everyone",
    ),
    (
        "/react 👍",
        "react to the chosen message, or the last; again takes it back",
    ),
    (
        "/retry, /cancel",
        "send a message that failed once more, give it up",
    ),
    ("/devices", "my devices"),
    ("/help", "this page"),
    ("/quit", "leave; what waits is sent next time"),
    ("//text", "a message that begins with a slash"),
];

/// The command of a line that begins with one slash.
///
/// # Errors
/// What to say to the user.
pub(crate) fn parse(line: &str) -> Result<Command, String> {
    let line = line.trim();
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let usage = |name: &str| {
        let of = |usage: &&(&str, &str)| usage.0.split([' ', ',']).any(|word| word == name);
        match COMMANDS.iter().find(of) {
            Some((usage, _)) => format!("{usage}: so it is used"),
            None => format!("there is no {name}; F1 shows what there is"),
        }
    };
    let wrong = || usage(name);
    let text = || {
        if rest.is_empty() {
            Err(wrong())
        } else {
            Ok(rest.to_owned())
        }
    };
    let one = || user(rest).ok_or_else(wrong);
    Ok(match name {
        "/dm" | "/msg" => Command::Dm(one()?),
        "/group" => {
            let (name, users) = match rest.find('@') {
                Some(at) => rest.split_at(at),
                None => (rest, ""),
            };
            let users = users
                .split_whitespace()
                .map(|name| user(name).ok_or_else(wrong))
                .collect::<Result<_, _>>()?;
            if name.trim().is_empty() {
                return Err(wrong());
            }
            Command::Group {
                name: name.trim().to_owned(),
                users,
            }
        }
        "/invite" | "/add" => {
            let users: Vec<String> = rest
                .split_whitespace()
                .map(|name| user(name).ok_or_else(wrong))
                .collect::<Result<_, _>>()?;
            if users.is_empty() {
                return Err(wrong());
            }
            Command::Invite(users)
        }
        "/remove" | "/kick" => Command::Remove(one()?),
        "/leave" => Command::Leave,
        "/rename" => Command::Rename(text()?),
        "/describe" => Command::Describe(rest.to_owned()),
        "/role" => {
            let (name, role) = rest.split_once(char::is_whitespace).ok_or_else(wrong)?;
            let role = match role.trim() {
                "owner" => Role::Owner,
                "admin" => Role::Admin,
                "member" => Role::Member,
                _ => return Err(wrong()),
            };
            Command::Role(user(name).ok_or_else(wrong)?, role)
        }
        "/reply" => Command::Reply(rest.to_owned()),
        "/edit" => Command::Edit(rest.to_owned()),
        "/delete" => Command::Delete,
        "/react" => Command::React(text()?),
        "/vanish" => Command::Vanish(read_span(rest).ok_or_else(wrong)?),
        "/link" if rest.is_empty() => Command::Link(true),
        "/link" if rest == "off" => Command::Link(false),
        "/join" => read_link(rest)
            .map(|(conversation, link)| Command::Join(conversation, link))
            .ok_or_else(wrong)?,
        "/members" | "/who" => Command::Members,
        "/devices" => Command::Devices,
        "/retry" | "/resend" => Command::Retry,
        "/cancel" => Command::Cancel,
        "/help" => Command::Help,
        "/quit" | "/exit" | "/q" => Command::Quit,
        _ => return Err(wrong()),
    })
}

/// An invite link as it is shown and typed.
pub(crate) fn write_link(conversation: ConversationId, secret: &[u8]) -> String {
    use base64::Engine;
    format!(
        "{conversation}/{}",
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret)
    )
}

fn read_link(text: &str) -> Option<(ConversationId, [u8; 16])> {
    use base64::Engine;
    let (conversation, secret) = text.split_once('/')?;
    let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(secret)
        .ok()?;
    Some((conversation.parse().ok()?, secret.try_into().ok()?))
}

/// A username, with or without "@".
fn user(text: &str) -> Option<String> {
    let name = text.strip_prefix('@').unwrap_or(text);
    let fits = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    fits.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let group = Command::Group {
            name: "Our trip".into(),
            users: vec!["ana".into(), "ben".into()],
        };
        let link = write_link(ConversationId([7; 16]), &[9; 16]);
        for (line, command) in [
            ("/dm ana", Command::Dm("ana".into())),
            ("/dm  @ana ", Command::Dm("ana".into())),
            ("/group Our trip @ana  @ben", group),
            ("/role @ana admin", Command::Role("ana".into(), Role::Admin)),
            ("/vanish 2h", Command::Vanish(7_200_000)),
            ("/vanish off", Command::Vanish(0)),
            (
                &format!("/join {link}"),
                Command::Join(ConversationId([7; 16]), [9; 16]),
            ),
            ("/react 👍", Command::React("👍".into())),
        ] {
            assert_eq!(parse(line), Ok(command), "{line}");
        }
        for line in [
            "/dm",
            "/dm a b",
            "/group",
            "/group @ana",
            "/role ana king",
            "/vanish",
            "/vanish 3x",
            "/join x",
            "/x",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert_eq!(
            parse("/retreat").unwrap_err(),
            "there is no /retreat; F1 shows what there is"
        );
        assert_eq!(
            parse("/vanish soon").unwrap_err(),
            "/vanish 1h, /vanish off: so it is used"
        );
    }
}
