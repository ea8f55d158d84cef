use std::collections::BTreeSet;

use serde_json::{Value, json};
use tidings_protocol::Encoding;

use super::world::{PASSWORD, Request, World, client_id};
use crate::gateway::routes;

#[tokio::test]
async fn accounts_from_sign_up_to_logout() {
    let world = World::new().await;
    let body = json!({ "username": "ada", "password": PASSWORD, "device_name": "laptop" });
    let signed_up = world
        .http(Request::new("POST", "/v1/accounts").json(&body))
        .await;
    assert_eq!(signed_up.status, 201, "{signed_up:?}");
    let token = signed_up.json()["token"].as_str().unwrap().to_owned();
    let taken = world
        .http(Request::new("POST", "/v1/accounts").json(&body))
        .await;
    assert_eq!(
        (taken.status, taken.problem().as_str()),
        (409, "username_taken")
    );

    let bearer = format!("Bearer {token}");
    let ask = |method: &'static str, path: &'static str| {
        Request::new(method, path).header("authorization", &bearer)
    };
    let body = json!({ "display_name": "Ada L." });
    let changed = world.http(ask("PATCH", "/v1/me").json(&body)).await;
    assert_eq!(changed.json()["profile"]["display_name"], "Ada L.");
    let devices = world.http(ask("GET", "/v1/devices")).await.json();
    assert_eq!(devices["devices"][0]["name"], "laptop");
    let body = json!({ "old_password": "wrong one", "new_password": "another horse" });
    let refused = world.http(ask("POST", "/v1/me/password").json(&body)).await;
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (401, "wrong_credentials")
    );

    assert_eq!(world.http(ask("POST", "/v1/logout")).await.status, 204);
    let after = world.http(ask("GET", "/v1/me")).await;
    assert_eq!(
        (after.status, after.problem().as_str()),
        (401, "unauthorized")
    );
    assert!(after.header("www-authenticate").is_some());
}

#[tokio::test]
async fn a_conversation_with_nothing_but_http() {
    let world = World::new().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let body = json!({ "text": "hello", "client_id": client_id(1) });
    let sent = world.http(ada.post("/v1/direct/@BOB/entries", &body)).await;
    assert_eq!(sent.status, 201, "{sent:?}");
    let sent = sent.json();
    let again = world.http(ada.post("/v1/direct/@bob/entries", &body)).await;
    assert_eq!(again.json()["seq"], sent["seq"]);

    let keyed = |key: &str| {
        let body = json!({ "text": "once" });
        let path = "/v1/direct/@bob/entries";
        world.http(ada.post(path, &body).header("idempotency-key", key))
    };
    let (one, two, three) = (
        keyed("\"k 1\"").await,
        keyed("\"k 1\"").await,
        keyed("k2").await,
    );
    assert_eq!(one.json()["seq"], two.json()["seq"]);
    assert_ne!(one.json()["seq"], three.json()["seq"]);

    let conversation = sent["conversation"].as_str().unwrap();
    let path = |rest: &str| format!("/v1/conversations/{conversation}{rest}");
    let page = world.http(bob.get(&path("/entries"))).await.json();
    let seqs: Vec<u64> = page["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["kind"] == "message")
        .map(|entry| entry["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs.len(), 3);
    assert!(seqs.is_sorted());
    let around = path(&format!("/entries?around={}&limit=1", seqs[1]));
    let around = world.http(bob.get(&around)).await.json();
    assert_eq!(around["entries"][0]["seq"], seqs[1]);
    let body = json!({ "marks": [{ "conversation": conversation, "delivered": seqs[2], "read": seqs[2] }] });
    assert_eq!(world.http(bob.post("/v1/marks", &body)).await.status, 204);
    let receipts = path(&format!("/entries/{}/receipts", seqs[2]));
    let receipts = world.http(ada.get(&receipts)).await.json();
    assert_eq!(receipts["recipients"][0]["shown"], true);
    let one = world.http(bob.get(&path(""))).await.json();
    assert_eq!(
        (&one["unread"], &one["kind"]),
        (&json!(0), &json!("direct"))
    );
    let members = world.http(bob.get(&path("/members?limit=1"))).await.json();
    assert_eq!(members["more"], true);
    let typing = json!({ "conversation": conversation, "on": true });
    assert_eq!(
        world.http(bob.post("/v1/typing", &typing)).await.status,
        204
    );

    let eve = world.person("eve").await;
    for rest in ["", "/entries", "/members"] {
        let refused = world.http(eve.get(&path(rest))).await;
        assert_eq!(
            (refused.status, refused.problem().as_str()),
            (404, "not_found")
        );
    }
}

#[tokio::test]
async fn groups_over_http() {
    let world = World::new().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let body = json!({ "settings": { "name": "Tea" }, "client_id": client_id(1) });
    let made = world.http(ada.post("/v1/groups", &body)).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(
        world.http(ada.post("/v1/groups", &body)).await.json(),
        made.json()
    );
    let made = made.json();
    let conversation = made["conversation"].as_str().unwrap();
    let path = |rest: &str| format!("/v1/conversations/{conversation}{rest}");

    let link = json!({ "action": { "configure": { "invite_link": true } } });
    assert_eq!(
        world.http(ada.post(&path("/entries"), &link)).await.status,
        201
    );
    let settings = world.http(ada.get(&path(""))).await.json()["settings"].clone();
    let wrong = json!({ "link": "AAAAAAAAAAAAAAAAAAAAAA" });
    let refused = world.http(bob.post(&path("/join"), &wrong)).await;
    assert_eq!(refused.problem(), "link_invalid");
    let right = json!({ "link": settings["invite_link"] });
    assert_eq!(
        world.http(bob.post(&path("/join"), &right)).await.status,
        201
    );
    let members = world.http(bob.get(&path("/members"))).await.json();
    assert_eq!(members["members"].as_array().unwrap().len(), 2);
    assert_eq!(
        world.http(bob.ask("POST", &path("/leave"))).await.status,
        201
    );
    assert_eq!(world.http(bob.get(&path(""))).await.status, 404);
}

#[tokio::test]
async fn people_blocks_and_the_private_map() {
    let world = World::new().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let users = world
        .http(ada.get("/v1/users?usernames=Bob,nobody"))
        .await
        .json();
    assert_eq!(users["users"][0]["user"], json!(bob.user));
    assert_eq!(users["users"].as_array().unwrap().len(), 1);
    let path = format!("/v1/presence?users={}", bob.user);
    let _connected = world.connect(&bob, Encoding::Json).await;
    let presence = world.http(ada.get(&path)).await.json();
    assert_eq!(presence["presence"][0]["user"], json!(bob.user));

    let block = format!("/v1/blocks/{}", bob.user);
    assert_eq!(world.http(ada.ask("PUT", &block)).await.status, 204);
    let refused = world
        .http(bob.post("/v1/direct/@ada/entries", &json!({ "text": "hi" })))
        .await;
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (403, "blocked")
    );
    let blocks = world.http(ada.get("/v1/blocks")).await.json();
    assert_eq!(blocks["users"], json!([bob.user]));
    assert_eq!(world.http(ada.ask("DELETE", &block)).await.status, 204);

    let draft = "/v1/private/draft%2Fc";
    let put = ada.ask("PUT", draft).json(&json!({ "value": "half a" }));
    assert_eq!(world.http(put).await.status, 204);
    let private = world.http(ada.get("/v1/private")).await.json();
    assert_eq!(
        private["items"][0],
        json!({ "key": "draft/c", "value": "half a" })
    );
    assert_eq!(world.http(ada.ask("DELETE", draft)).await.status, 204);
    let private = world.http(ada.get("/v1/private")).await.json();
    assert_eq!(private["items"], json!([]));
}

#[tokio::test]
async fn everything_that_goes_wrong_is_a_problem_document() {
    let world = World::with(|settings| settings.limits.frame_bytes_max = 2_000).await;
    let ada = world.person("ada").await;
    let deep = format!("{}{}", "[".repeat(900), "]".repeat(900)).into_bytes();
    let cases = [
        (Request::new("GET", "/nowhere"), 404, "not_found"),
        (Request::new("DELETE", "/v1/me"), 405, "method_not_allowed"),
        (Request::new("GET", "/v1/me"), 401, "unauthorized"),
        (ada.get("/v1/conversations/nonsense"), 404, "not_found"),
        (ada.get("/v1/conversations/%ff%fe"), 404, "not_found"),
        (ada.get("/v1/conversations?limit=many"), 422, "invalid"),
        (ada.get("/v1/users?users=nobody"), 422, "invalid"),
        (
            ada.ask("POST", "/v1/marks").json_bytes(b"{".to_vec()),
            400,
            "malformed_frame",
        ),
        (
            ada.ask("POST", "/v1/marks").json_bytes(deep),
            400,
            "malformed_frame",
        ),
        (
            ada.ask("POST", "/v1/marks").json_bytes(vec![0xff; 10]),
            400,
            "malformed_frame",
        ),
        (
            ada.ask("POST", "/v1/marks").json_bytes(vec![b' '; 2_001]),
            413,
            "frame_too_large",
        ),
        (
            ada.ask("POST", "/v1/call").json_bytes(vec![b' '; 2_001]),
            413,
            "frame_too_large",
        ),
        (
            ada.post("/v1/direct/@nobody/entries", &json!({ "text": "x" })),
            404,
            "not_found",
        ),
        (
            ada.post("/v1/direct/@ada/entries", &json!({})),
            422,
            "invalid",
        ),
        (ada.get("/v1/events?session=s_none"), 410, "session_gone"),
    ];
    for (request, status, code) in cases {
        let answer = world.http(request).await;
        assert_eq!((answer.status, answer.problem().as_str()), (status, code));
    }
    let answer = world.http(Request::new("DELETE", "/v1/me")).await;
    assert!(
        answer
            .header("allow")
            .is_some_and(|allow| allow.contains("PATCH")),
        "{answer:?}"
    );
}

#[tokio::test]
async fn too_many_requests_say_when_to_come_again() {
    let world = World::with(|settings| {
        settings.limits.user_requests_per_s = 1;
        settings.limits.user_requests_burst_max = 2;
    })
    .await;
    let ada = world.person("ada").await;
    for _ in 0..2 {
        assert_eq!(world.http(ada.get("/v1/me")).await.status, 200);
    }
    let refused = world.http(ada.get("/v1/me")).await;
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (429, "rate_limited")
    );
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.json()["limit"], "user_requests_per_s");
}

#[tokio::test]
async fn a_browser_gets_a_cookie_and_only_our_pages_use_it() {
    let world = World::new().await;
    world.person("ada").await;
    let body = json!({ "username": "ada", "password": PASSWORD, "cookie": true });
    let log_in = |host: &'static str| {
        let request = Request::new("POST", "/v1/login").header("host", host);
        let request = request.header("sec-fetch-site", "same-origin");
        world.http(request.json(&body))
    };
    let logged_in = log_in("chat.example").await;
    assert_eq!(logged_in.json().get("token"), None);
    let secure = logged_in.header("set-cookie").unwrap().to_owned();
    for part in ["__Host-", "HttpOnly", "SameSite=Strict", "Secure", "Path=/"] {
        assert!(secure.contains(part), "{secure}");
    }
    let logged_in = log_in("localhost:8080").await;
    let cookie = logged_in.header("set-cookie").unwrap();
    assert!(!cookie.contains("Secure"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();

    let post = |headers: &[(&'static str, &str)]| {
        let mut request = Request::new("POST", "/v1/logout").header("host", "localhost:8080");
        request = request.header("cookie", &cookie);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        world.http(request)
    };
    for headers in [
        &[][..],
        &[("origin", "http://evil.example")],
        &[("origin", "null")],
        &[("sec-fetch-site", "same-site")],
    ] {
        let refused = post(headers).await;
        assert_eq!(
            (refused.status, refused.problem().as_str()),
            (403, "origin_refused")
        );
    }
    let own = post(&[("origin", "http://localhost:8080")]).await;
    assert_eq!(own.status, 204);
    assert!(own.header("set-cookie").unwrap().contains("Max-Age=0"));
}

#[tokio::test]
async fn no_other_site_logs_a_browser_in() {
    let world = World::new().await;
    world.person("ada").await;
    let log_in = json!({ "username": "ada", "password": PASSWORD, "cookie": true });
    let sign_up = json!({ "username": "eve", "password": PASSWORD });
    let asks = [("/v1/login", log_in), ("/v1/accounts?cookie=true", sign_up)];
    for (path, body) in &asks {
        let ask = |headers: &[(&'static str, &str)]| {
            let mut request = Request::new("POST", path).header("host", "chat.example");
            for (name, value) in headers {
                request = request.header(name, value);
            }
            world.http(request.json(body))
        };
        for headers in [
            &[][..],
            &[("origin", "https://evil.example")],
            &[("origin", "null")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
        ] {
            let refused = ask(headers).await;
            assert_eq!(
                (refused.status, refused.problem().as_str()),
                (403, "origin_refused"),
                "{path} {headers:?}"
            );
            assert_eq!(refused.header("set-cookie"), None);
        }
        let own = ask(&[("origin", "https://chat.example")]).await;
        assert!(own.header("set-cookie").is_some(), "{own:?}");
    }
    // A token in the answer is out of reach of other sites: programs need say nothing of where they are.
    let body = json!({ "username": "ada", "password": PASSWORD });
    let logged_in = Request::new("POST", "/v1/login").json(&body);
    assert_eq!(world.http(logged_in).await.status, 200);
}

#[tokio::test]
async fn bodies_must_say_that_they_are_json() {
    let world = World::new().await;
    let ada = world.person("ada").await;
    let log_in = json!({ "username": "ada", "password": PASSWORD }).to_string();
    let users = json!({ "users": { "id": 1, "usernames": ["ada"] } }).to_string();
    let ask = |path: &'static str, body: &str, media_type: &str| {
        let mut request = ada.ask("POST", path).bytes(body.as_bytes().to_vec());
        if !media_type.is_empty() {
            request = request.header("content-type", media_type);
        }
        world.http(request)
    };
    for (path, body) in [("/v1/login", &log_in), ("/v1/call", &users)] {
        for other in [
            "",
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=application/json",
            "text/plain; application/json",
        ] {
            let refused = ask(path, body, other).await;
            assert_eq!(
                (refused.status, refused.problem().as_str()),
                (400, "malformed_frame"),
                "{path} {other}"
            );
        }
        for json in ["application/json", "Application/JSON; charset=utf-8"] {
            assert_eq!(ask(path, body, json).await.status, 200, "{path} {json}");
        }
    }
    // Where there is nothing to say, nothing is said of it.
    assert_eq!(ask("/v1/logout", "", "").await.status, 204);
}

#[tokio::test]
async fn the_page_and_the_descriptions_are_served() {
    let world = World::new().await;
    let page = world
        .http(Request::new("GET", "/").header("host", "chat.example"))
        .await;
    let text = String::from_utf8(page.body.clone()).unwrap();
    assert!(text.contains("http://chat.example/v1/accounts"));
    assert!(!text.contains('{') || !text.contains("{origin}"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert!(!text.contains("style=") && !text.contains("<script"));
    let hostile = Request::new("GET", "/").header("host", "x\"><script>");
    let text = String::from_utf8(world.http(hostile).await.body).unwrap();
    assert!(!text.contains("<script"));

    for route in routes::all().iter().filter(|route| !route.signed) {
        if route.method == "GET" && route.path != "/v1/connect" {
            let answer = world.http(Request::new("GET", route.path)).await;
            assert_eq!(answer.status, route.good_status(), "{}", route.path);
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
            let media_type = answer.header("content-type").unwrap();
            assert!(media_type.starts_with(route.media_type), "{media_type}");
        }
    }
    let limits = world.http(Request::new("GET", "/v1/limits")).await.json();
    assert_eq!(limits["limits"]["frame_bytes_max"], 655_360);
    assert_eq!(limits.get("server"), None, "none of a client's business");
    let openapi = world
        .http(Request::new("GET", "/v1/openapi.json"))
        .await
        .json();
    let paths: BTreeSet<&str> = openapi["paths"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        paths,
        routes::all().iter().map(|route| route.path).collect()
    );
    let asyncapi: Value = world
        .http(Request::new("GET", "/v1/asyncapi.json"))
        .await
        .json();
    assert_eq!(asyncapi["asyncapi"], "3.0.0");
}
