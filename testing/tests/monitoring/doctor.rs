//! `tidings doctor` on a server that runs, and on what is wrong with one.

use serde_json::Value;
use tidings_testing::server::Server;
use tidings_testing::world::World;

/// The worst verdict of a check.
fn verdict<'a>(found: &'a Value, check: &str) -> &'a str {
    let findings = found["findings"].as_array().unwrap().iter();
    let verdicts = findings
        .filter(|finding| finding["check"] == check)
        .map(|finding| finding["verdict"].as_str().unwrap());
    let order = ["ok", "warning", "fault"];
    verdicts
        .max_by_key(|verdict| order.iter().position(|of| of == verdict))
        .unwrap_or("not looked at")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_server_is_looked_at_without_its_lock() {
    let mut world = World::start("a_running_server_is_looked_at_without_its_lock").await;
    let url = format!("\"http://127.0.0.1:{}\"", world.port());
    world.server.stop().await;
    world
        .server
        .configure(&[("server.public_url", url.as_str())]);
    world.server.start_again().await;
    let ada = world.sign_up("ada").await;
    let (code, found) = world.server.doctor(&["--token", &ada.token]).await;
    for check in [
        "settings",
        "data",
        "rights",
        "readers",
        "server",
        "version",
        "public",
        "websocket",
        "streams",
    ] {
        assert_eq!(verdict(&found, check), "ok", "{check}: {found:#}");
    }
    // The settings for tests slow down nobody, and the doctor says so.
    assert_eq!(verdict(&found, "guessing"), "warning", "{found:#}");
    assert_eq!(code, if found["verdict"] == "fault" { 2 } else { 1 });
}

#[tokio::test]
async fn a_setting_that_does_not_exist_ends_with_2() {
    let server = Server::prepare(&[("server.lissten", "\"127.0.0.1:1\"")]);
    let (code, found) = server.doctor(&[]).await;
    assert_eq!(
        (code, verdict(&found, "settings")),
        (2, "fault"),
        "{found:#}"
    );
}

#[tokio::test]
async fn a_newer_data_directory_and_a_public_address_where_nobody_is_end_with_2() {
    let server = Server::prepare(&[("server.public_url", "\"http://127.0.0.1:1\"")]);
    std::fs::create_dir(server.data()).unwrap();
    std::fs::write(server.data().join("FORMAT"), "tidings-embedded 99\n").unwrap();
    let (code, found) = server.doctor(&[]).await;
    assert_eq!(code, 2);
    assert_eq!(verdict(&found, "data"), "fault", "{found:#}");
    assert_eq!(verdict(&found, "public"), "fault", "{found:#}");
    assert_eq!(verdict(&found, "server"), "warning", "none runs: {found:#}");
}

/// It has the data directory open, and answers nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_a_fault() {
    let server = Server::start().await;
    server.freeze();
    // On a busy machine it may take a moment until every thread stands still.
    let (mut code, mut found) = server.doctor(&[]).await;
    if verdict(&found, "server") != "fault" {
        println!("at first: {found:#}");
        (code, found) = server.doctor(&[]).await;
    }
    server.thaw();
    assert_eq!((code, verdict(&found, "server")), (2, "fault"), "{found:#}");
}
