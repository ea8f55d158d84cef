//! Groups: roles, invite links, whether newcomers see what was said before.

use tidings_protocol::Code;
use tidings_protocol::entry::{Policy, Role, Settings, SettingsChange};
use tidings_protocol::send::{Action, JoinAction, RoleAction};
use tidings_testing::wire::Way;
use tidings_testing::wire::check::all_level;
use tidings_testing::wire::memory::Place;
use tidings_testing::world::{World, configure, delete, group, invite, leave, named, remove};

fn role(user: tidings_core::UserId, role: Role) -> Action {
    Action::SetRole(RoleAction { user, role })
}

fn rename(name: &str) -> Action {
    configure(SettingsChange {
        name: Some(name.to_owned()),
        ..SettingsChange::default()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles() {
    let world = World::start("roles").await;
    let ada = world.person("ada", Way::Json).await;
    let ben = world.person("ben", Way::Cbor).await;
    let cyd = world.person("cyd", Way::Polling).await;
    let talk = group(&ada, &[ben.user, cyd.user], named("before")).await;
    let there = Place::In(talk);
    let of_ada = ada.sent(ada.say(there, "by the owner")).await;
    cyd.hears(talk, "by the owner").await;
    ben.hears(talk, "by the owner").await;

    // A member may say something, and not much more.
    for wish in [
        rename("mine"),
        remove(cyd.user),
        role(ben.user, Role::Owner),
        delete(of_ada),
        configure(SettingsChange {
            post: Some(Policy::Admins),
            ..SettingsChange::default()
        }),
    ] {
        let what = format!("{wish:?}");
        assert_eq!(
            ben.refused(ben.send(there, wish)).await,
            Code::NotAllowed,
            "{what}"
        );
    }
    // An admin more, but not over owners.
    ada.sent(ada.send(there, role(ben.user, Role::Admin))).await;
    ben.wait("the role", |memory| {
        memory.log(talk).role == Some(Role::Admin)
    })
    .await;
    ben.sent(ben.send(there, rename("after"))).await;
    let of_cyd = cyd.sent(cyd.say(there, "by a member")).await;
    ben.sent(ben.send(there, delete(of_cyd))).await;
    assert_eq!(
        ben.refused(ben.send(there, remove(ada.user))).await,
        Code::NotAllowed
    );
    assert_eq!(
        ben.refused(ben.send(there, role(ben.user, Role::Owner)))
            .await,
        Code::NotAllowed
    );
    // Only admins post from now on.
    let quiet = SettingsChange {
        post: Some(Policy::Admins),
        ..SettingsChange::default()
    };
    ben.sent(ben.send(there, configure(quiet))).await;
    assert_eq!(cyd.refused(cyd.say(there, "psst")).await, Code::NotAllowed);
    ben.sent(ben.say(there, "by an admin")).await;
    // The last owner has to make another one first.
    assert_eq!(ada.refused(ada.send(there, leave())).await, Code::LastOwner);
    ada.sent(ada.send(there, role(cyd.user, Role::Owner))).await;
    ada.sent(ada.send(there, leave())).await;
    cyd.wait("alone in charge", |memory| {
        let log = memory.log(talk);
        log.role == Some(Role::Owner) && log.settings.name == "after" && log.told.len() == 2
    })
    .await;
    all_level(world.port(), &[&ben, &cyd]).await;
    ada.level().await;
    assert!(ada.memory().log(talk).out);
    assert_eq!(
        ben.memory().log(talk).texts(),
        [
            Some("by the owner".to_owned()),
            None,
            Some("by an admin".to_owned())
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invite_link() {
    let world = World::start("invite_link").await;
    let ada = world.person("ada", Way::Cbor).await;
    let ben = world.person("ben", Way::Json).await;
    let cyd = world.person("cyd", Way::Json).await;
    let settings = Settings {
        invite: Policy::Admins,
        ..named("by link")
    };
    let talk = group(&ada, &[cyd.user], settings).await;
    let there = Place::In(talk);
    let link = |on| {
        configure(SettingsChange {
            invite_link: Some(on),
            ..SettingsChange::default()
        })
    };
    let join =
        |link: &tidings_protocol::blob::Blob| Action::Join(JoinAction { link: link.clone() });
    ada.sent(ada.send(there, link(true))).await;
    let secret = world
        .conversation(&ada.token, talk)
        .await
        .settings
        .invite_link
        .unwrap();
    let seen_by_member = world
        .conversation(&cyd.token, talk)
        .await
        .settings
        .invite_link;
    assert_eq!(seen_by_member, None, "told to those who may invite");
    let wrong = tidings_protocol::blob::Blob(vec![7; 16]);
    assert_eq!(
        ben.refused(ben.send(there, join(&wrong))).await,
        Code::LinkInvalid
    );
    ada.sent(ada.say(there, "before ben")).await;
    ben.sent(ben.send(there, join(&secret))).await;
    ada.say(there, "hello ben");
    ben.hears(talk, "hello ben").await;
    assert_eq!(ben.memory().said(talk), ["hello ben"]);
    // A new link ends the old one.
    ben.sent(ben.send(there, leave())).await;
    ada.sent(ada.send(there, link(true))).await;
    let other = world
        .conversation(&ada.token, talk)
        .await
        .settings
        .invite_link
        .unwrap();
    assert_ne!(secret.0, other.0);
    assert_eq!(
        ben.refused(ben.send(there, join(&secret))).await,
        Code::LinkInvalid
    );
    ada.sent(ada.send(there, link(false))).await;
    assert_eq!(
        ben.refused(ben.send(there, join(&other))).await,
        Code::LinkInvalid
    );
    // The secret never travelled in an entry.
    let entries = format!("{:?}", cyd.memory().log(talk).entries);
    assert!(!entries.contains("16 bytes"), "{entries}");
    all_level(world.port(), &[&ada, &cyd]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn share_history_on_and_off() {
    let world = World::start("share_history_on_and_off").await;
    let ada = world.person("ada", Way::Json).await;
    let ben = world.person("ben", Way::Polling).await;
    let cyd = world.person("cyd", Way::Cbor).await;
    let talk = group(&ada, &[], named("history")).await;
    let there = Place::In(talk);
    ada.sent(ada.say(there, "one")).await;
    ada.sent(ada.send(there, invite(&[ben.user]))).await;
    ada.sent(ada.say(there, "two")).await;
    let share = SettingsChange {
        share_history: Some(true),
        ..SettingsChange::default()
    };
    ada.sent(ada.send(there, configure(share))).await;
    ada.sent(ada.send(there, invite(&[cyd.user]))).await;
    ada.sent(ada.say(there, "three")).await;
    ben.hears(talk, "three").await;
    cyd.hears(talk, "three").await;
    all_level(world.port(), &[&ada, &ben, &cyd]).await;
    assert_eq!(
        ben.memory().said(talk),
        ["two", "three"],
        "its joining fixed it"
    );
    assert_eq!(cyd.memory().said(talk), ["one", "two", "three"]);
    assert_eq!(
        cyd.memory().log(talk).unread(cyd.user),
        1,
        "history is not unread"
    );
    assert_eq!(world.conversation(&cyd.token, talk).await.unread, 1);
}
