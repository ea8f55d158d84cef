//! Messages come back as they were; what an earlier or a later version says is read as far as it is known.

use super::*;

fn beat() -> Beat {
    Beat {
        node: [3; 16],
        at: Time(4),
        rules: 1,
        address: "https://one.example".to_owned(),
        region: "north".to_owned(),
        sessions: 5,
        sessions_max: 6,
        takes_conversations: true,
        takes_clients: false,
        connected: Summary {
            count: 7,
            sum: u64::MAX,
        },
        online: Summary { count: 6, sum: 5 },
        version: "0.1.0".to_owned(),
    }
}

#[test]
fn messages_come_back_as_they_were() {
    let user = UserId([1; 16]);
    let conversation = ConversationId([2; 16]);
    let messages = [
        Message::Beat(beat()),
        Message::Moved {
            node: [3; 16],
            came: vec![user],
            went: vec![],
        },
        Message::Ask {
            node: [3; 16],
            list: List::Connected,
        },
        Message::Users {
            node: [3; 16],
            list: List::Online,
            is_first: true,
            users: vec![user, UserId([9; 16])],
        },
        Message::Look { conversation },
        Message::Marks(MarksNews {
            conversation,
            generation: Generation([8; 16]),
            user,
            delivered: 1,
            shown: 2,
            read: Some(MarkValue {
                seq: 3,
                ordinal: 4,
                own: 5,
                at: Time(6),
            }),
            at: Time(7),
        }),
        Message::Typing {
            conversation,
            user,
            on: true,
        },
        Message::Online {
            node: [3; 16],
            user,
            on: false,
            last_seen: Time(9),
        },
        Message::Notice,
        Message::Private {
            user,
            key: "mute".to_owned(),
            except: DeviceId([7; 16]),
        },
        Message::Forward(Forward {
            from: [3; 16],
            request: 1,
            sends: vec![(user, DeviceId([7; 16]), vec![1, 2])],
            traces: vec![(0, Context::new([5; 16], [6; 8]))],
        }),
        Message::Entries {
            conversation,
            generation: Generation([8; 16]),
            entries: vec![],
            traces: vec![(9, Context::new([5; 16], [6; 8]))],
        },
        Message::Entries {
            conversation,
            generation: Generation([8; 16]),
            entries: vec![],
            traces: vec![],
        },
        Message::Answers {
            request: 1,
            answers: vec![3],
        },
    ];
    for message in messages {
        assert_eq!(Message::decode(&message.encode()), Ok(Some(message)));
    }
    assert_eq!(Message::decode(&[1, 200]), Ok(None), "of a later version");
    let beat = Message::Beat(Beat {
        version: String::new(),
        ..beat()
    });
    let mut older = beat.encode();
    assert_eq!(older.pop(), Some(0), "the version's length");
    assert_eq!(Message::decode(&older), Ok(Some(beat)), "of an earlier one");
    assert!(Message::decode(&[1, 1, 2]).is_err());
    assert!(Message::decode(&[]).is_err());
}
