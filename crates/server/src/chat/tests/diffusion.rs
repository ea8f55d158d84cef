//! Heads by write and by read diffusion: the same inbox either way.

use tidings_core::log::LogId;
use tidings_core::mark::MarkKind;
use tidings_protocol::entry::Settings;
use tidings_store::Store;

use super::world::Where::In;
use super::world::{Device, World};
use crate::chat::diffusion::head_in_row;
use crate::config::ChatSettings;

fn writing(limit: u32) -> World {
    World::with(ChatSettings {
        write_heads_members_max: limit,
        ..ChatSettings::default()
    })
}

async fn row(world: &World, device: &Device, group: tidings_core::ConversationId) -> Option<u64> {
    let marks = world
        .store
        .memberships(device.caller.user, None, 100)
        .await
        .unwrap();
    let marks: Vec<_> = marks
        .into_iter()
        .filter(|mark| mark.log == LogId::conversation(group))
        .collect();
    head_in_row(&marks).map(|head| head.seq)
}

#[tokio::test]
async fn inboxes_are_the_same_with_and_without_written_heads() {
    let mut seen = Vec::new();
    for limit in [0, 4, 256] {
        let world = writing(limit);
        let (anna, ben) = (world.person("anna").await, world.person("ben").await);
        let mut groups = Vec::new();
        for _ in 0..5 {
            world.advance(1_000);
            groups.push(world.group(&anna, &[&ben], Settings::default()).await);
        }
        for (number, group) in [3, 0, 4, 0].into_iter().enumerate() {
            world.advance(1_000);
            world
                .say(&ben, In(groups[group]), &number.to_string())
                .await;
        }
        let inbox = world.inbox(&anna).await;
        let order: Vec<_> = inbox
            .iter()
            .map(|one| {
                (
                    groups
                        .iter()
                        .position(|group| *group == one.conversation)
                        .unwrap(),
                    one.head,
                    one.unread,
                )
            })
            .collect();
        assert_eq!(row(&world, &anna, groups[0]).await.is_some(), limit > 0);
        seen.push(order);
    }
    assert_eq!(
        seen[0],
        [(0, 3, 2), (4, 2, 1), (3, 2, 1), (2, 1, 0), (1, 1, 0)]
    );
    assert!(seen.iter().all(|order| *order == seen[0]));
}

#[tokio::test]
async fn crossing_the_limit_switches_every_row_and_back() {
    let world = writing(4);
    let anna = world.person("anna").await;
    let mut others = Vec::new();
    for number in 0..4 {
        others.push(world.person(&format!("person{number}")).await);
    }
    let group = world
        .group(
            &anna,
            &others[..3].iter().collect::<Vec<_>>(),
            Settings::default(),
        )
        .await;
    assert_eq!(row(&world, &others[0], group).await, Some(1));

    world.invite(&anna, group, &others[3]).await;
    world.say(&anna, In(group), "five of us").await;
    for device in others.iter().chain([&anna]) {
        assert_eq!(row(&world, device, group).await, None, "read the log");
        assert_eq!(world.inbox(device).await[0].head, 3);
    }
    // Going back happens at half the limit, not at once.
    world.leave(&others[3], group).await;
    assert_eq!(row(&world, &others[0], group).await, None);
    world.leave(&others[2], group).await;
    world.leave(&others[1], group).await;
    assert_eq!(row(&world, &others[0], group).await, Some(6));

    // Who comes back has an old row, which says "read the log" until now; after a restart too.
    let world = world.restarted();
    world.invite(&anna, group, &others[3]).await;
    for device in [&anna, &others[0], &others[3]] {
        assert_eq!(row(&world, device, group).await, Some(7));
    }
    let marks = world
        .store
        .marks(LogId::conversation(group), anna.caller.user.0)
        .await
        .unwrap();
    assert_eq!(
        marks
            .iter()
            .filter(|mark| mark.kind == MarkKind::Head)
            .count(),
        2
    );
}
