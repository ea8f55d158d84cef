use std::collections::VecDeque;

use bytes::Bytes;
use tidings_protocol::ServerFrame;
use tidings_protocol::account::ProfileChange;
use tidings_protocol::session::{Private, PrivateItem, PrivateRequest, PutPrivate};

use super::*;
use crate::session::Drained;

#[tokio::test]
async fn a_profile_changes_where_it_is_told_to() {
    let world = World::new();
    let ada = world.sign_up("ada").await.unwrap();
    let change = ProfileChange {
        display_name: Some("Ada Lovelace".to_owned()),
        ..ProfileChange::default()
    };
    let before = world.users.me(caller(&ada)).await.unwrap();
    let me = world
        .users
        .change_profile(caller(&ada), change)
        .await
        .unwrap();
    assert_eq!(me.profile.display_name, "Ada Lovelace");
    assert_eq!(me.privacy, before.privacy);
    assert_eq!(world.users.me(caller(&ada)).await, Ok(me));
    let long = ProfileChange {
        avatar: Some("x".repeat(2_000)),
        ..ProfileChange::default()
    };
    assert_eq!(
        refused(world.users.change_profile(caller(&ada), long).await),
        Code::TooMuch
    );
}

#[tokio::test]
async fn blocks_are_facts() {
    let world = World::new();
    let ada = world.sign_up("ada").await.unwrap();
    let [bob, eve, sam] = ["bob", "eve", "sam"];
    let bob = world.sign_up(bob).await.unwrap();
    let eve = world.sign_up(eve).await.unwrap();
    let sam = world.sign_up(sam).await.unwrap();
    let (me, other) = (ada.profile.user, bob.profile.user);
    let blocked = async |one, other| world.users.facts(one, Some(other)).await.unwrap().blocked;
    assert!(!blocked(me, other).await);
    world.users.block(caller(&ada), other).await.unwrap();
    world.users.block(caller(&ada), other).await.unwrap();
    assert!(blocked(me, other).await);
    assert!(blocked(other, me).await);
    assert!(!blocked(me, eve.profile.user).await);
    assert!(!world.users.facts(me, None).await.unwrap().blocked);
    assert_eq!(
        world.users.blocks(caller(&ada)).await.unwrap().users,
        [other]
    );
    assert_eq!(world.users.blocks(caller(&bob)).await.unwrap().users, []);

    world
        .users
        .block(caller(&ada), eve.profile.user)
        .await
        .unwrap();
    let problem = world
        .users
        .block(caller(&ada), sam.profile.user)
        .await
        .unwrap_err();
    assert_eq!(problem, Problem::too_much("blocks_per_user_max", 2));
    assert_eq!(
        refused(world.users.block(caller(&ada), me).await),
        Code::Invalid
    );
    let nobody = UserId([9; 16]);
    assert_eq!(
        refused(world.users.block(caller(&ada), nobody).await),
        Code::NotFound
    );
    assert_eq!(world.users.all_exist(&[me, other]).await, Ok(true));
    assert_eq!(world.users.all_exist(&[me, nobody]).await, Ok(false));

    world.users.unblock(caller(&ada), other).await.unwrap();
    world.users.unblock(caller(&ada), other).await.unwrap();
    assert!(!blocked(me, other).await);
}

fn put(key: &str, value: Option<&str>) -> PutPrivate {
    PutPrivate {
        id: 1,
        key: key.to_owned(),
        value: value.map(str::to_owned),
    }
}

#[tokio::test]
async fn the_last_value_counts_and_other_devices_are_told() {
    let world = World::new();
    let first = world.sign_up("ada").await.unwrap();
    let second = world.log_in("ada", "correct horse").await.unwrap();
    let sessions = [world.open(caller(&first)), world.open(caller(&second))];
    for value in [Some("one"), Some("two"), None, Some("three")] {
        world
            .users
            .put_private(caller(&first), put("draft", value))
            .await
            .unwrap();
    }
    let request = PrivateRequest { id: 5, after: None };
    let map = world.users.private(caller(&second), request).await.unwrap();
    assert_eq!(map.id, Some(5));
    let item = |value: Option<&str>| PrivateItem {
        key: "draft".to_owned(),
        value: value.map(str::to_owned),
    };
    assert_eq!(map.items, [item(Some("three"))]);

    let told = |session: &Session| {
        let mut frames: VecDeque<Bytes> = VecDeque::new();
        while session.drain(&mut frames, usize::MAX) == Drained::Frames {}
        let private = |frame: &Bytes| match serde_json::from_slice(frame).unwrap() {
            ServerFrame::Private(Private {
                id: None, items, ..
            }) => items,
            other => panic!("{other:?}"),
        };
        frames.iter().flat_map(private).collect::<Vec<_>>()
    };
    assert_eq!(told(&sessions[0]), []);
    assert_eq!(
        told(&sessions[1]),
        [Some("one"), Some("two"), None, Some("three")].map(item)
    );
}

#[tokio::test]
async fn the_private_map_is_bounded_and_comes_in_pages() {
    let world = World::new();
    let ada = caller(&world.sign_up("ada").await.unwrap());
    let users = &world.users;
    let fifty = "x".repeat(50);
    for key in ["b", "a", "c"] {
        users
            .put_private(ada, put(key, Some(&fifty)))
            .await
            .unwrap();
    }
    users
        .put_private(ada, put("a", Some(&fifty)))
        .await
        .unwrap();
    let full = users
        .put_private(ada, put("d", Some("x")))
        .await
        .unwrap_err();
    assert_eq!(full, Problem::too_much("private_keys_max", 3));
    users.put_private(ada, put("nothing", None)).await.unwrap();
    users.put_private(ada, put("b", None)).await.unwrap();
    users
        .put_private(ada, put("d", Some(&fifty)))
        .await
        .unwrap();

    let page = async |after: Option<&str>| {
        let after = after.map(str::to_owned);
        let page = users
            .private(ada, PrivateRequest { id: 1, after })
            .await
            .unwrap();
        let keys: Vec<String> = page.items.into_iter().map(|item| item.key).collect();
        (keys.join(" "), page.more)
    };
    assert_eq!(page(None).await, ("a".to_owned(), true));
    assert_eq!(page(Some("a")).await, ("c".to_owned(), true));
    assert_eq!(page(Some("c")).await, ("d".to_owned(), false));
    assert_eq!(page(Some("d")).await, (String::new(), false));

    let long = put("a", Some(&"x".repeat(101)));
    assert_eq!(refused(users.put_private(ada, long).await), Code::TooMuch);
    let long = put(&"k".repeat(257), Some("x"));
    assert_eq!(refused(users.put_private(ada, long).await), Code::TooMuch);
    assert_eq!(
        refused(users.put_private(ada, put("", None)).await),
        Code::Invalid
    );

    let restarted = world.restart(quick());
    let full = restarted.users.put_private(ada, put("e", Some("x"))).await;
    assert_eq!(refused(full), Code::TooMuch, "counted anew");
}
