//! A page is right by itself.

use tidings_protocol::send::EditAction;
use tidings_protocol::sync::{HistoryPage, HistoryRequest};
use tidings_protocol::{ClientFrame, ServerFrame};
use tidings_testing::wire::device::content;
use tidings_testing::wire::memory::Place;
use tidings_testing::wire::{Connection, Way};
use tidings_testing::world::{World, delete, group, named, react};

pub(crate) async fn page_around_an_old_message_that_was_altered(way: Way) {
    let world = World::start("page_around_an_old_message_that_was_altered").await;
    let ada = world.person("ada", way).await;
    let ben = world.person("ben", way).await;
    let talk = group(&ada, &[ben.user], named("two")).await;
    let mut seqs = Vec::new();
    for number in 0..20 {
        seqs.push(
            ada.sent(ada.say(Place::In(talk), &format!("{number}")))
                .await,
        );
    }
    let (edited, deleted, reacted) = (seqs[5], seqs[6], seqs[7]);
    for number in 0..200 {
        ada.say(Place::In(talk), &format!("later {number}"));
    }
    for text in ["wrong", "right"] {
        let edit = EditAction {
            target: edited,
            content: content(text),
        };
        let edit = tidings_protocol::send::Action::Edit(edit);
        ada.sent(ada.send(Place::In(talk), edit)).await;
    }
    ada.sent(ada.send(Place::In(talk), delete(deleted))).await;
    ben.hears(talk, "later 199").await;
    ada.sent(ada.send(Place::In(talk), react(reacted, "👍")))
        .await;
    ben.sent(ben.send(Place::In(talk), react(reacted, "👍")))
        .await;

    let mut connection = world.connect(way, &ben.token).await;
    for (around, before, after) in [
        (Some(edited), None, None),
        (None, Some(reacted + 2), None),
        (None, None, Some(edited - 2)),
    ] {
        let page = page(&mut connection, talk, (around, before, after)).await;
        let seqs: Vec<u64> = page.entries.iter().map(|entry| entry.seq).collect();
        assert!(seqs.is_sorted(), "{seqs:?}");
        assert!(page.from <= edited && reacted <= page.to, "{seqs:?}");
        let of = |target: u64| page.alterations.iter().find(|one| one.target == target);
        let edit = of(edited).unwrap().edit.as_ref().unwrap();
        assert_eq!(edit.content.as_ref().unwrap().text, "right");
        assert!(of(deleted).unwrap().deleted.is_some());
        let gone = page
            .entries
            .iter()
            .find(|entry| entry.seq == deleted)
            .unwrap();
        assert_eq!(gone.content, None, "its body is gone");
        let sums = &of(reacted).unwrap().reactions;
        assert_eq!(
            (sums[0].emoji.as_str(), sums[0].count, sums[0].mine),
            ("👍", 2, true)
        );
        assert_eq!(
            page.alterations.len(),
            3,
            "and nothing else: {:?}",
            page.alterations
        );
    }
}

async fn page(
    connection: &mut Connection,
    conversation: tidings_core::ConversationId,
    (around, before, after): (Option<u64>, Option<u64>, Option<u64>),
) -> HistoryPage {
    let request = HistoryRequest {
        id: 0,
        conversation,
        after,
        before,
        around,
        limit: Some(8),
        generation: None,
        hash: None,
    };
    match connection.ask(ClientFrame::History(request)).await.unwrap() {
        ServerFrame::History(page) => page,
        other => panic!("{other:?}"),
    }
}
