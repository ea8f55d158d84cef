//! Tokens, cookies, passwords, blocks.

use serde_json::{Value, json};
use tidings_core::id::direct_id;
use tidings_protocol::Code;
use tidings_protocol::account::{LoggedIn, Me};
use tidings_testing::http::Http;
use tidings_testing::wire::Way;
use tidings_testing::wire::memory::Place;
use tidings_testing::wire::{Connection, Lost};
use tidings_testing::world::{PASSWORD, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_and_cookies() {
    let world = World::start("tokens_and_cookies").await;
    let ada = world.sign_up("ada").await;
    let mut http = Http::new(world.port());
    let body = json!({"username": "ada", "password": PASSWORD, "cookie": true}).to_string();
    let host = format!("http://127.0.0.1:{}", world.port());
    let mut log_in = async |origin: &str| {
        http.try_request("POST", "/v1/login", &[("origin", origin)], body.as_bytes())
            .await
            .unwrap()
    };
    assert_eq!(log_in("http://evil.example").await.status, 403);
    let response = log_in(&host).await;
    let logged_in: LoggedIn = response.json().unwrap();
    assert_eq!(logged_in.token, None, "out of reach of scripts");
    let cookie = response.header("set-cookie").unwrap().to_owned();
    for attribute in ["HttpOnly", "SameSite="] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    let pair = cookie.split(';').next().unwrap().to_owned();
    let mut with = async |method: &str, path: &str, origin: &str| {
        let headers = [("cookie", pair.as_str()), ("origin", origin)];
        http.try_request(method, path, &headers, b"{}")
            .await
            .unwrap()
            .status
    };
    assert_eq!(with("GET", "/v1/me", &host).await, 200);
    assert_eq!(with("PATCH", "/v1/me", &host).await, 200);
    assert_eq!(with("PATCH", "/v1/me", "http://evil.example").await, 403);
    assert_eq!(with("POST", "/v1/logout", &host).await, 204);
    assert_eq!(with("GET", "/v1/me", &host).await, 401);

    // A token is nobody's but its own device's, and is stored hashed.
    let me: Me = world.http(&ada.token).get("/v1/me").await.unwrap();
    assert_eq!(me.profile.user, ada.user);
    for wrong in ["", "nonsense", &ada.token[..ada.token.len() - 1]] {
        let refused: Result<Me, _> = world.http(wrong).get("/v1/me").await;
        assert_eq!(refused.unwrap_err().code, Code::Unauthorized);
        for way in Way::ALL {
            match Connection::open_plain(way, world.port(), wrong).await {
                Err(Lost::Refused(problem)) => assert_eq!(problem.code, Code::Unauthorized),
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(world.server.files_with(&ada.token).is_empty());
    assert!(world.server.files_with(PASSWORD).is_empty());
    assert!(!world.server.log().contains(&ada.token));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords() {
    let world = World::start("passwords").await;
    let ada = world.sign_up("ada").await;
    let other = world.log_in("ada").await;
    let mut http = Http::new(world.port());
    let mut log_in = async |username: &str, password: &str| {
        let body = json!({"username": username, "password": password});
        let answer: Result<Value, _> = http.json("POST", "/v1/login", &body).await;
        answer.map(|_| ()).map_err(|problem| problem.code)
    };
    // Nothing tells whether the account exists.
    assert_eq!(
        log_in("ada", "wrong password").await,
        Err(Code::WrongCredentials)
    );
    assert_eq!(
        log_in("nobody", "wrong password").await,
        Err(Code::WrongCredentials)
    );
    assert_eq!(log_in("ADA", PASSWORD).await, Ok(()), "in any case");
    let mut http_ada = world.http(&ada.token);
    let change = json!({"old_password": "no", "new_password": "another password"});
    let refused = http_ada.done("POST", "/v1/me/password", &change).await;
    assert_eq!(refused.unwrap_err().code, Code::WrongCredentials);
    let change = json!({"old_password": PASSWORD, "new_password": "another password"});
    let mut connection = world.connect(Way::Json, &other.token).await;
    http_ada
        .done("POST", "/v1/me/password", &change)
        .await
        .unwrap();
    assert_eq!(
        connection.ended().await,
        Lost::Bye(Code::Revoked),
        "the others are logged out"
    );
    assert_eq!(log_in("ada", PASSWORD).await, Err(Code::WrongCredentials));
    assert_eq!(log_in("ada", "another password").await, Ok(()));
    let body = json!({"username": "Ada", "password": PASSWORD});
    let taken: Result<Value, _> = Http::new(world.port())
        .json("POST", "/v1/accounts", &body)
        .await;
    assert_eq!(taken.unwrap_err().code, Code::UsernameTaken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks() {
    let world = World::start("blocks").await;
    let ada = world.person("ada", Way::Json).await;
    let ben = world.person("ben", Way::Json).await;
    let talk = direct_id(ada.user, ben.user);
    ada.say(Place::To(ben.user), "hello");
    ben.hears(talk, "hello").await;
    let path = format!("/v1/blocks/{}", ada.user);
    let mut http = world.http(&ben.token);
    http.done("PUT", &path, &json!({})).await.unwrap();
    assert_eq!(
        ada.refused(ada.say(Place::To(ben.user), "hello?")).await,
        Code::Blocked
    );
    assert_eq!(
        ben.refused(ben.say(Place::In(talk), "no")).await,
        Code::Blocked
    );
    http.done("DELETE", &path, &json!({})).await.unwrap();
    ada.say(Place::To(ben.user), "sorry");
    ben.hears(talk, "sorry").await;
    assert_eq!(ben.memory().said(talk), ["hello", "sorry"]);
}
