//! A server that is cut off from the others and from the store, but not from its users.
//!
//! The cut is a firewall's, so the test runs in a network of its own (`unshare --net`) and needs root for it.

use std::process::Command;
use std::time::{Duration, Instant};

use tidings_core::id::direct_id;
use tidings_testing::cluster::{Cluster, Ground};
use tidings_testing::wire::Way;
use tidings_testing::wire::check::all_level;
use tidings_testing::wire::memory::Place;

/// The user as whom the server runs that is cut off: nobody else does.
const USER: u32 = 64_123;
/// How long it is cut off.
const LASTS: Duration = Duration::from_secs(8);

#[test]
fn a_server_cut_off_from_the_others_loses_nothing() {
    let can = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let is_root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|id| id.stdout == b"0\n");
    let may = Command::new("unshare").args(["--net", "true"]).status();
    let may = may.is_ok_and(|status| status.success());
    if !(is_root && may && can("iptables") && can("ip")) {
        println!("note: not shown here: it needs root, unshare, ip and iptables");
        return;
    }
    let inner = Command::new("unshare")
        .args([
            "--net",
            "--",
            "sh",
            "-c",
            "ip link set lo up && exec \"$0\" \"$@\"",
        ])
        .arg(std::env::current_exe().unwrap())
        .args([
            "cut::within_a_network_of_its_own",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .status();
    assert!(inner.unwrap().success());
}

/// Drops what the server says to Cassandra and NATS, or lets it through again.
fn cut(on: bool, ports: &[u16]) {
    for port in ports {
        let done = Command::new("iptables")
            .args([
                if on { "-A" } else { "-D" },
                "OUTPUT",
                "-m",
                "owner",
                "--uid-owner",
            ])
            .args([
                &USER.to_string(),
                "-p",
                "tcp",
                "--dport",
                &port.to_string(),
                "-j",
                "DROP",
            ])
            .status();
        assert!(done.unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by a_server_cut_off_from_the_others_loses_nothing"]
async fn within_a_network_of_its_own() {
    let ground = tokio::task::spawn_blocking(Ground::shared).await.unwrap();
    let mut cluster = Cluster::start("within_a_network_of_its_own", 3, &ground, &[]).await;
    cluster.worlds[0].server.stop().await;
    cluster.worlds[0].server.run_as(USER);
    cluster.worlds[0].server.start_again().await;
    let ada = cluster.at(0).person("ada", Way::Cbor).await;
    let ben = cluster.at(1).person("ben", Way::Cbor).await;
    let cyd = cluster.at(2).person("cyd", Way::Json).await;
    let (with_ben, others) = (direct_id(ada.user, ben.user), direct_id(ben.user, cyd.user));
    ada.sent(ada.say(Place::To(ben.user), "before")).await;
    ben.sent(ben.say(Place::To(cyd.user), "before")).await;
    ben.hears(with_ben, "before").await;

    let url = cluster.nats.as_ref().unwrap().urls().remove(0);
    let nats: u16 = url.rsplit(':').next().unwrap().parse().unwrap();
    cut(true, &[9042, nats]);
    let began = Instant::now();
    // Her server still answers her, and takes nothing that it cannot keep.
    let held = ada.say(Place::In(with_ben), "into the void");
    let mut worst = Duration::ZERO;
    let mut number = 0;
    while began.elapsed() < LASTS {
        let asked = Instant::now();
        ben.sent(ben.say(Place::In(others), &format!("meanwhile {number}")))
            .await;
        worst = worst.max(asked.elapsed());
        let seq = ben
            .sent(ben.say(Place::In(with_ben), &format!("for ada {number}")))
            .await;
        assert!(seq > 0);
        number += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(number > 3, "the others go on: {number}");
    assert!(worst < Duration::from_secs(10), "{worst:?}");
    assert!(
        !ada.memory().settled.contains_key(&held),
        "nothing is acknowledged that is not kept"
    );
    println!("cut off for {LASTS:?}: {number} rounds between the others, {worst:?} the longest");

    cut(false, &[9042, nats]);
    let healed = Instant::now();
    ada.sent(held).await;
    println!(
        "and {:?} after it was healed its user's message was acknowledged",
        healed.elapsed()
    );
    ada.hears(with_ben, &format!("for ada {}", number - 1))
        .await;
    all_level(cluster.at(0).port(), &[&ada, &ben, &cyd]).await;
    let said = ada.memory().said(with_ben);
    assert_eq!(
        said.iter().filter(|text| *text == "into the void").count(),
        1,
        "{said:?}"
    );
    assert_eq!(said, ben.memory().said(with_ben));
}
