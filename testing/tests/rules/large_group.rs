//! A group of a thousand.

use tidings_core::UserId;
use tidings_protocol::mark::Receipts;
use tidings_protocol::presence::Watch;
use tidings_protocol::sync::MembersPage;
use tidings_protocol::{ClientFrame, Code, ServerFrame};
use tidings_testing::wire::Way;
use tidings_testing::wire::memory::Place;
use tidings_testing::world::{World, group, invite, named};

const MEMBERS: usize = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn group_of_a_thousand() {
    let world = World::start("group_of_a_thousand").await;
    let ada = world.person("ada", Way::Json).await;
    let mut logins = Vec::new();
    for number in 0..MEMBERS {
        logins.push(world.sign_up(&format!("member-{number}")).await);
    }
    let users: Vec<UserId> = logins.iter().map(|login| login.user).collect();
    let talk = group(&ada, &users[..MEMBERS - 1], named("all of us")).await;
    let one_more = ada.send(Place::In(talk), invite(&users[MEMBERS - 1..]));
    assert_eq!(ada.refused(one_more).await, Code::TooMuch);

    let mut online = Vec::new();
    for (number, login) in logins.iter().take(9).enumerate() {
        let device = world.device(
            &format!("member-{number}"),
            Way::ALL[number % Way::ALL.len()],
            login,
        );
        online.push(device);
    }
    let mut last = 0;
    for number in 0..20 {
        last = ada
            .sent(ada.say(Place::In(talk), &format!("{number}")))
            .await;
    }
    for device in &online {
        device.hears(talk, "19").await;
        device.read(talk, last);
        device.level().await;
        assert_eq!(device.memory().said(talk).len(), 20);
    }

    let (mut found, mut after) = (0, String::new());
    let mut http = world.http(&logins[500].token);
    loop {
        let path = format!("/v1/conversations/{talk}/members?limit=150{after}");
        let page: MembersPage = http.get(&path).await.unwrap();
        found += page.members.len();
        if !page.more {
            break;
        }
        after = format!("&after={}", page.members.last().unwrap().user);
    }
    assert_eq!(found, MEMBERS);
    // The list per member is read on request.
    let path = format!("/v1/conversations/{talk}/entries/{last}/receipts");
    let receipts: Receipts = world.http(&ada.token).get(&path).await.unwrap();
    assert_eq!(receipts.recipients.len(), MEMBERS - 1);
    let shown = receipts.recipients.iter().filter(|one| one.shown);
    assert_eq!(shown.count(), online.len());
    // Who looks at it is told the sum.
    let mut connection = world.connect(Way::Json, &ada.token).await;
    let watch = Watch {
        id: None,
        users: Vec::new(),
        conversation: Some(talk),
    };
    connection.ask(ClientFrame::Watch(watch)).await.unwrap();
    let ticks = connection
        .event(|frame| match frame {
            ServerFrame::Ticks(ticks) => Some(*ticks),
            _ => None,
        })
        .await
        .unwrap();
    assert_eq!(
        (ticks.delivered, ticks.shown),
        (0, 0),
        "many have never been here"
    );
    // One who comes late finds everything.
    let late = world.device("late", Way::Cbor, &logins[700]);
    late.hears(talk, "19").await;
    late.level().await;
    assert_eq!(late.memory().said(talk).len(), 20);
    assert_eq!(late.memory().log(talk).unread(late.user), 20);
}
