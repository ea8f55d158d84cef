//! Everything at once: people come and go, messages are edited and deleted, lines are cut, the server is
//! killed. At rest every device has what the server serves.

use std::time::{Duration, Instant};

use tidings_core::{ConversationId, UserId};
use tidings_protocol::Code;
use tidings_protocol::entry::{Role, Settings, SettingsChange};
use tidings_protocol::send::{Action, EditAction, RoleAction};
use tidings_testing::chance::{Chance, rounds};
use tidings_testing::proxy::{Faults, Proxy};
use tidings_testing::wire::Way;
use tidings_testing::wire::check::all_level;
use tidings_testing::wire::device::{Device, content, message};
use tidings_testing::wire::memory::{Memory, Place, Settled};
use tidings_testing::world::{
    World, configure, delete, group, invite, leave, named, react, remove, until_delivered,
};

const PEOPLE: u64 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos() {
    // Now and then everything is quickly erased and trimmed, too.
    let settings = [("store.erase_within_s", "2")];
    let mut world = World::start_with("chaos", &settings).await;
    let proxy = Proxy::start(world.port()).await;
    let mut chance = Chance::new(world.seed);
    let mut devices = Vec::new();
    for person in 0..PEOPLE {
        let name = format!("person-{person}");
        let login = world.sign_up(&name).await;
        let way = Way::ALL[(person % 3) as usize];
        devices.push(Device::start(
            &name,
            way,
            proxy.port,
            &login,
            chance.number(),
        ));
        if person < 2 {
            let login = world.log_in(&name).await;
            let name = format!("{name}'s second");
            devices.push(Device::start(
                &name,
                Way::Cbor,
                proxy.port,
                &login,
                chance.number(),
            ));
        }
    }
    let devices: Vec<&Device> = devices.iter().collect();
    let mut users: Vec<UserId> = devices.iter().map(|device| device.user).collect();
    users.dedup();
    let some: Vec<UserId> = users[1..4].to_vec();
    let shared = Settings {
        share_history: true,
        ..named("shared")
    };
    let mut talks = Vec::new();
    for settings in [named("plain"), shared, until_delivered()] {
        talks.push(group(devices[0], &some, settings).await);
    }

    proxy.misbehave(Some(Faults {
        seed: world.seed,
        lasts_ms_max: 1_500,
    }));
    for _ in 0..rounds(6) {
        let until = Instant::now() + Duration::from_millis(chance.between(200, 1_500));
        while Instant::now() < until {
            let device = devices[chance.below(devices.len() as u64) as usize];
            let talk = talks[chance.below(3) as usize];
            if device.memory().outbox.len() < 40 {
                act(device, talk, &users, &mut chance);
            }
            tokio::time::sleep(Duration::from_millis(chance.below(4))).await;
        }
        world.server.kill();
        world.server.verify().await;
        world.server.start_again().await;
    }
    proxy.misbehave(None);
    proxy.cut();
    all_level(world.port(), &devices).await;
    for device in &devices {
        check_refusals(&device.memory());
    }
    world.server.stop().await;
    world.server.verify().await;
    world.server.start_again().await;
    all_level(world.port(), &devices).await;
}

fn act(device: &Device, talk: ConversationId, users: &[UserId], chance: &mut Chance) {
    let other = users[chance.below(users.len() as u64) as usize];
    let number = chance.below(1_000);
    let (target, head) = {
        let memory = device.memory();
        let log = memory.log(talk);
        let seqs: Vec<u64> = log.entries.keys().copied().collect();
        (
            seqs.get(chance.below(seqs.len() as u64) as usize).copied(),
            log.level,
        )
    };
    let target = target.unwrap_or(1);
    let action = match chance.below(100) {
        0..55 => message(&format!("{} {number}", device.name)),
        55..63 => react(target, &format!("{}", number % 3)),
        63..69 => Action::Edit(EditAction {
            target,
            content: content(&format!("edited {number}")),
        }),
        69..75 => delete(target),
        75..83 => {
            device.read(talk, head);
            return;
        }
        83..86 => leave(),
        86..93 => invite(&[other]),
        93..95 => remove(other),
        95..98 => Action::SetRole(RoleAction {
            user: other,
            role: [Role::Member, Role::Admin, Role::Owner][(number % 3) as usize],
        }),
        _ => configure(SettingsChange {
            name: Some(format!("name {number}")),
            share_history: Some(chance.percent(50)),
            ..SettingsChange::default()
        }),
    };
    device.send(Place::In(talk), action);
}

/// Much is refused, but nothing for a reason that is the server's fault.
fn check_refusals(memory: &Memory) {
    let answers = memory.settled.values().filter_map(|settled| match settled {
        Settled::Refused(problem) => Some(problem),
        Settled::Sent { .. } => None,
    });
    for problem in answers.chain(&memory.problems) {
        let ours = [
            Code::Internal,
            Code::MalformedFrame,
            Code::Unsettled,
            Code::AboveHead,
            Code::Exists,
        ];
        assert!(!ours.contains(&problem.code), "{problem:?}");
    }
}
